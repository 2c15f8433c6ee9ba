"""Signing keys from a file, for verifying a capture without a network.

The file is `identities.jsonl` of a capture: one JSON object a line with `did`, its `document`
and, where there is one, its `plc_audit_log`; other members are ignored.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.atproto.errors import IdentifierError, IdentityError, Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, parse_did
from pipelines.errors import ConfigError
from pipelines.identity.documents import Identity, parse_document
from pipelines.identity.plc import KeyHistory, key_at, verify_audit_log


@dataclass(frozen=True, slots=True)
class _Account:
    """What the file says of one account; an error is raised when it is asked for."""

    identity: Identity | IdentityError
    audit_log: KeyHistory | IdentityError | None


class OfflineKeys:
    """Signing keys by DID, as a file has them."""

    def __init__(self, accounts: Mapping[Did, _Account]) -> None:
        self._accounts = accounts

    @classmethod
    def load(cls, path: Path) -> "OfflineKeys":
        """Reads a file of identities.

        A document or log that is itself bad is no reason to refuse the file: it is what the
        directory served, and makes the account's look-ups fail.

        Args:
            path: the file.

        Raises:
            ConfigError: the file cannot be read, or a line is not of the form described above.
        """
        accounts: dict[Did, _Account] = {}
        try:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if not line.strip():
                        continue
                    did, account = _parse_line(f"{path}, line {number}", line)
                    if did in accounts:
                        raise ConfigError(
                            f"{path}, line {number}: {did} has a line already: remove one"
                        )
                    accounts[did] = account
        except OSError as error:
            raise ConfigError(f"cannot read identities from {path}: {error.strerror}") from None
        return cls(accounts)

    def current_key(self, did: Did) -> VerifyingKey:
        """Returns the key in the DID's document.

        Raises:
            IdentityError: the file lacks the DID (`IDENTITY_NOT_FOUND`), or its document has no
                usable key.
        """
        identity = self._account(did).identity
        if isinstance(identity, IdentityError):
            raise copy.copy(identity)  # raising one error twice would pile up its tracebacks
        return identity.require_key()

    def refreshed_key(
        self,
        did: Did,
        since_us: int | None,  # noqa: ARG002 - a file is of one moment
    ) -> VerifyingKey | None:
        """Returns None: a file does not change."""
        self._account(did)
        return None

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:
        """Returns the key that was current at a time, microseconds since the epoch.

        None if there was none, or if the file has no history for the DID.

        Raises:
            IdentityError: the file lacks the DID (`IDENTITY_NOT_FOUND`), or the log is malformed
                (`IDENTITY_LOG`).
        """
        audit_log = self._account(did).audit_log
        if isinstance(audit_log, IdentityError):
            raise copy.copy(audit_log)
        return None if audit_log is None else key_at(audit_log, time_us)

    def _account(self, did: Did) -> _Account:
        account = self._accounts.get(did)
        if account is None:
            raise IdentityError(
                Reason.IDENTITY_NOT_FOUND, "the file of identities lacks this DID", did=did
            )
        return account


def _parse_line(where: str, line: bytes) -> tuple[Did, _Account]:
    try:
        entry: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: not JSON ({error.msg}): one object a line is needed"
        ) from None
    if not isinstance(entry, dict) or "document" not in entry:
        raise ConfigError(f"{where}: an object with the members did and document is needed")
    try:
        did = parse_did(entry.get("did"))
    except IdentifierError as error:
        raise ConfigError(f"{where}: the member did is {error.detail}") from None
    identity: Identity | IdentityError
    try:
        identity = parse_document(did, entry["document"])
    except IdentityError as error:
        identity = error.with_traceback(None)
    audit_log: KeyHistory | IdentityError | None = None
    if "plc_audit_log" in entry:
        try:
            audit_log = verify_audit_log(did, entry["plc_audit_log"])
        except IdentityError as error:
            audit_log = error.with_traceback(None)
    return did, _Account(identity, audit_log)
