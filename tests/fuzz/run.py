"""Throws damaged bytes at the protocol core: `make fuzz`, or `python tests/fuzz/run.py --help`.

The invariant: on any bytes the core returns or raises ProtocolError (a look-up of a key may also
raise IdentityUnavailableError), a record that comes out as JSON leads back to its CID, and no
operation of a PLC log can be made up. Everything else is a finding: another exception, a crash
inside one of the codecs, a hang.

Inputs are recorded frames, CARs, commits, records and PLC logs with something damaged. Blocks are
damaged behind the check of their hashes as well, where no CAR can bring them: else hardly any
input would reach the tree. The work is done in a child process that leaves each input in a file
before it tries it, so that a crash or a hang does not take the input with it.

A finding is written to .standpipe/fuzz with the input in hex; the exit code is then 1.
"""

import argparse
import mmap
import random
import re
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import click
import libipld

from pipelines.atproto import atjson, car, cid, commit, frames
from pipelines.atproto.errors import ProtocolError
from pipelines.captures import read_frames
from pipelines.config import state_directory
from pipelines.errors import IdentityUnavailableError
from pipelines.identity.offline import OfflineKeys
from pipelines.verdict import Proven, Refused, judge_frame

_TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(_TESTS))

from fuzz import plc_logs  # noqa: E402 - tests/ is in the path only since the line above
from support.damage import damage  # noqa: E402 - likewise
from support.shared import shared_folder  # noqa: E402 - likewise

_DEFAULT_SECONDS = 60.0
_DEFAULT_SEED = 20260101
# How long the child may take beyond its time before it counts as hanging.
_GRACE_SECONDS = 30.0
_MAX_FINDINGS_COUNT = 10
# Larger frames exist and only make each try slower.
_MAX_INPUT_BYTES = 64 * 1024
_MAX_SEEDS_COUNT = 400
# Number of the target and length of the input, before the input itself.
_CURRENT_HEAD = struct.Struct(">II")
_CURRENT_BYTES = 1024 * 1024

_EXPECTED = (ProtocolError, IdentityUnavailableError)


class Target(NamedTuple):
    """A part of the core under fire.

    Attributes:
        name: stands in a finding, for `--replay`.
        run: what is tried on the damaged bytes.
        seeds: good inputs.
        damage: how one is damaged.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    damage: Callable[[bytes, random.Random], bytes]


def load_targets(folders: Sequence[Path]) -> list[Target]:
    """Returns every target, with inputs from some captures."""
    text = cid.encode_cid(cid.cid_of(b"")).encode()
    targets = [Target("cid", _cid_and_back, [text], _damage_anywhere)]
    return targets + [target for folder in folders for target in _targets_of(folder)]


def _targets_of(folder: Path) -> list[Target]:
    keys = OfflineKeys.load(folder / "identities.jsonl")
    recorded = [
        frame for frame in read_frames(folder / "frames.bin") if len(frame) <= _MAX_INPUT_BYTES
    ]
    signed, cars, commits, records, texts = [], [], [], [], []
    for frame in recorded:
        verdict = judge_frame(frame, keys, received_us=None)
        if not isinstance(verdict, Proven):
            continue
        verified = verdict.verified
        commits.append(verified.commit.block)
        cars.append(verified.message.blocks)
        if isinstance(verified, commit.VerifiedCommit):
            signed.append(frame)
            records += [op.record for op in verified.ops if op.record is not None]
    for record in records:
        with suppress(ProtocolError):  # odd
            texts.append(atjson.to_json(record))
    judge = partial(judge_frame, keys=keys, received_us=None)
    logs = plc_logs.seeds(folder / "identities.jsonl")
    return [
        Target(f"{name}@{folder.name}", run, _some(seeds), how)
        for name, run, seeds, how in (
            ("frame", judge, recorded, _damage_anywhere),
            ("field", judge, recorded, _damage_field),
            ("tree", _prove_unhashed, signed, _damage_blocks),
            ("car", car.read_car, cars, _damage_anywhere),
            ("commit", commit.parse_commit, commits, _damage_anywhere),
            ("record", _record_to_json_and_back, records, _damage_anywhere),
            ("json", _json_to_record_and_back, texts, _damage_anywhere),
            ("log", plc_logs.Verifier(logs), logs, plc_logs.damage_log),
        )
        if seeds  # not every recording has PLC logs
    ]


def _some(seeds: Sequence[bytes]) -> Sequence[bytes]:
    if len(seeds) <= _MAX_SEEDS_COUNT:
        return seeds
    return random.Random(_DEFAULT_SEED).sample(seeds, _MAX_SEEDS_COUNT)


def _prove_unhashed(raw: bytes) -> object:
    """Proves a commit without hashing its blocks or checking its signature."""
    message = frames.parse_frame(raw)
    assert isinstance(message, frames.CommitMessage)
    _, sections = _split(message.blocks)
    blocks = dict(sections)
    opened = commit.OpenedCommit(
        commit.parse_commit(blocks[message.commit_cid]), message.commit_cid, blocks
    )
    return commit.prove_commit(message, commit.AuthenticCommit(opened))


def _record_to_json_and_back(raw: bytes) -> object:
    json = atjson.to_json(raw)
    assert atjson.from_json(json) == raw
    return json


def _json_to_record_and_back(raw: bytes) -> object:
    record = atjson.from_json(raw)
    assert atjson.from_json(atjson.to_json(record)) == record
    return record


def _cid_and_back(raw: bytes) -> object:
    text = raw.decode("utf-8", "replace")
    assert cid.encode_cid(cid.parse_cid(text)) == text
    return text


def _damage_anywhere(raw: bytes, rng: random.Random) -> bytes:
    return damage(raw, rng, rng.choice((1, 1, 1, 2, 3, 8)))


def _damage_field(frame: bytes, rng: random.Random) -> bytes:
    """Gives a field of the payload, or of an op, another value or name."""
    header, payload = libipld.decode_dag_cbor_multi(frame)
    ops = payload.get("ops")
    fields = rng.choice([payload, *ops]) if ops else payload
    name = rng.choice(sorted(fields))
    match rng.randrange(4):
        case 0:
            del fields[name]
        case 1:
            fields[name] = fields[rng.choice(sorted(fields))]
        case 2 if isinstance(fields[name], bytes):
            fields[name] = _damage_anywhere(fields[name], rng)
        case _:
            fields[name] = rng.choice(
                [None, True, 0, -1, 2**63, 2**64 - 1, "", "a" * 3_000, b"", [], {}, [[]] * 201]
            )
    return libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(payload)


def _damage_blocks(frame: bytes, rng: random.Random) -> bytes:
    """Damages some blocks of a commit but not its own, under the CIDs that they had."""
    header, payload = libipld.decode_dag_cbor_multi(frame)
    car_header, sections = _split(payload["blocks"])
    for _ in range(rng.choice((1, 1, 2))):
        index = rng.randrange(len(sections))
        key, block = sections[index]
        if key != payload["commit"]:
            others = [other for _, other in sections]
            replaced = rng.choice(others) if rng.random() < 0.1 else _damage_anywhere(block, rng)
            sections[index] = key, replaced
    payload["blocks"] = car_header + b"".join(
        _varint(len(key) + len(block)) + key + block for key, block in sections
    )
    return libipld.encode_dag_cbor(header) + libipld.encode_dag_cbor(payload)


def _split(raw: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Returns header and sections of a CAR that is well-formed, whatever its blocks."""
    position = 1 + raw[0]
    header, sections = raw[:position], []
    while position < len(raw):
        length = shift = 0
        while raw[position] >= 0x80:
            length |= (raw[position] & 0x7F) << shift
            position, shift = position + 1, shift + 7
        length |= raw[position] << shift
        body, position = position + 1 + cid.CID_BYTES, position + 1 + length
        sections.append((raw[body - cid.CID_BYTES : body], raw[body:position]))
    return header, sections


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def fuzz(
    targets: Sequence[Target], seconds: float, seed: int, current: Path, findings: Path
) -> int:
    """Tries damaged inputs for some time.

    Args:
        targets: what is tried; each as often as any other.
        seconds: how long.
        seed: the same one gives the same inputs in the same order.
        current: file that always holds the input being tried.
        findings: folder for what is found.

    Returns:
        Number of findings, each different in place and kind.
    """
    rng = random.Random(seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    found: set[str] = set()
    current.write_bytes(bytes(_CURRENT_BYTES))
    deadline_s = time.monotonic() + seconds
    with current.open("r+b") as file, mmap.mmap(file.fileno(), _CURRENT_BYTES) as memory:
        try:
            while time.monotonic() < deadline_s and len(found) < _MAX_FINDINGS_COUNT:
                number = rng.randrange(len(targets))
                target = targets[number]
                raw = target.damage(rng.choice(target.seeds), rng)[: _CURRENT_BYTES // 2]
                head = _CURRENT_HEAD.pack(number, len(raw))
                memory[: len(head) + len(raw)] = head + raw
                outcome, error = _try(target, raw)
                outcomes[target.name, outcome] += 1
                if error is not None and error not in found:
                    found.add(error)
                    _write_finding(findings, target.name, raw, error)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
    for (name, outcome), count in sorted(outcomes.items()):
        click.echo(f"{count:9,}  {name:24} {outcome}")
    click.echo(f"{outcomes.total():9,}  inputs, {len(found)} findings")
    return len(found)


def _try(target: Target, raw: bytes) -> tuple[str, str | None]:
    """Returns the outcome in a word, and where it is a finding its traceback."""
    try:
        result = target.run(raw)
    except _EXPECTED:
        return "refused", None
    except Exception:  # noqa: BLE001 - this is what we are looking for
        return "FOUND", traceback.format_exc()
    return "refused" if isinstance(result, Refused) else "accepted", None


def _write_finding(folder: Path, target_name: str, raw: bytes, error: str) -> None:
    path = folder / f"{target_name}-{sha256(error.encode()).hexdigest()[:12]}.txt"
    path.write_text(f"target: {target_name}\n\n{error}\ninput: {raw.hex()}\n", encoding="utf-8")
    click.echo(f"found: {path}\n{error}", err=True)


def replay(targets: Sequence[Target], finding: Path) -> int:
    """Tries the input of a finding again; returns the number of findings."""
    text = finding.read_text(encoding="utf-8")
    name = re.search(r"^target: (.+)$", text, re.MULTILINE)
    raw = re.search(r"^input: ([0-9a-f]*)$", text, re.MULTILINE)
    target = next((t for t in targets if name is not None and t.name == name[1]), None)
    if raw is None or target is None:
        raise SystemExit(f"{finding} is not a finding of a target that is here")
    outcome, error = _try(target, bytes.fromhex(raw[1]))
    click.echo(f"{target.name}: {outcome}\n{error or ''}")
    return int(error is not None)


def _supervise(arguments: list[str], targets: Sequence[Target], seconds: float, home: Path) -> int:
    """Runs the fuzzing in a child; what kills or stalls the child is a finding as well."""
    command = [sys.executable, __file__, *arguments, "--child"]
    with subprocess.Popen(command) as child:
        try:
            code = child.wait(seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            error = f"hung for {_GRACE_SECONDS:.0f} s\n"
        except KeyboardInterrupt:
            return child.wait(_GRACE_SECONDS)
        else:
            if code in {0, 1}:
                return code
            error = f"the process ended with {code}\n"
    memory = (home / "current").read_bytes()
    number, length = _CURRENT_HEAD.unpack_from(memory)
    raw = memory[_CURRENT_HEAD.size : _CURRENT_HEAD.size + length]
    _write_finding(home, targets[number].name, raw, error)
    return 1


def main() -> int:
    """Reads the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("seconds", nargs="?", type=float, default=_DEFAULT_SECONDS)
    parser.add_argument("--seed", type=int, default=_DEFAULT_SEED)
    parser.add_argument("--replay", type=Path, metavar="FINDING", help="try one finding again")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Our own capture is a selection from the corpus.
    shared = [shared_folder() / name for name in ("network-frames", "pds-corpus")]
    folders = [folder for folder in shared if folder.is_dir()] or [_TESTS / "data" / "capture"]
    home = state_directory() / "fuzz"
    home.mkdir(parents=True, exist_ok=True)
    if not arguments.child and arguments.replay is None:
        names = ", ".join(folder.name for folder in folders)
        click.echo(f"seed {arguments.seed}, {arguments.seconds:g} s, inputs from {names}")
    targets = load_targets(folders)
    if arguments.replay is not None:
        return min(1, replay(targets, arguments.replay))
    if arguments.child:
        found_count = fuzz(targets, arguments.seconds, arguments.seed, home / "current", home)
        return min(1, found_count)
    return _supervise(sys.argv[1:], targets, arguments.seconds, home)


if __name__ == "__main__":
    sys.exit(main())
