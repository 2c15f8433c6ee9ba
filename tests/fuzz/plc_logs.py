"""PLC audit logs for the fuzzer: recorded ones, damage, and what holds for all accepted ones."""

import random
from pathlib import Path
from typing import Any

import orjson
from support.damage import damage
from support.plc import cid_text

from pipelines.atproto.errors import PlcError, Reason
from pipelines.atproto.syntax import Did
from pipelines.identity.plc import verify_audit_log

_ODD_VALUES: tuple[Any, ...] = (None, True, 0, -1, 0.5, "", "a" * 8_000, [], {}, [[]], {"": ""})


def seeds(path: Path) -> list[bytes]:
    """Returns the audit logs in a file of identities, one JSON text each."""
    accounts = map(orjson.loads, path.read_bytes().splitlines())
    return [
        orjson.dumps(account["plc_audit_log"])
        for account in accounts
        if "plc_audit_log" in account
    ]


class Verifier:
    """Verifies logs and tells whether anybody could forge an operation.

    Args:
        genuine: the logs that are known to be good.
    """

    def __init__(self, genuine: list[bytes]) -> None:
        self._operations = {
            orjson.dumps(entry["operation"]) for log in genuine for entry in orjson.loads(log)
        }

    def __call__(self, raw: bytes) -> object:
        try:
            log = orjson.loads(raw)
            did = Did(log[0]["did"])
        except (ValueError, LookupError, TypeError):
            raise PlcError(Reason.PLC_ENTRY, "not JSON, or of nobody") from None
        history = verify_audit_log(did, log)
        assert {orjson.dumps(entry["operation"]) for entry in log} <= self._operations
        return history


def damage_log(raw: bytes, rng: random.Random) -> bytes:
    """Damages the text, or some value inside it; then the hash is made to fit again."""
    if rng.random() < 0.2:
        return damage(raw, rng, 1)
    log = orjson.loads(raw)
    entry = rng.choice(log)
    container: Any = entry
    while True:
        names = list(container) if isinstance(container, dict) else list(range(len(container)))
        name = rng.choice(names)
        if not isinstance(container[name], dict | list) or not container[name]:
            break
        container = container[name]
    match rng.randrange(4):
        case 0:
            del container[name]
        case 1 | 2 if isinstance(container[name], str):
            container[name] = damage(container[name].encode(), rng, 1).decode("utf-8", "replace")
        case 3 if container is not entry:
            container[name] = rng.choice(_ODD_VALUES)
        case _:
            log.insert(rng.randrange(len(log) + 1), rng.choice(log))
    if isinstance(entry.get("operation"), dict):
        entry["cid"] = cid_text(entry["operation"])
    return orjson.dumps(log)
