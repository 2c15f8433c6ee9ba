"""A captured network: the frames of a relay, the identities behind them, and repositories.

    folder/
      frames.bin           the websocket messages in order (`pipelines.captures`)
      identities.jsonl     one account a line: `did`, `document`, `plc_audit_log` (optional)
      accounts.json        optional: a list of `did`, `dir`, `latestCommit`, `repoStatus`
      accounts/<dir>/repo.car    optional: what getRepo answered

Nothing is verified here; other keys and files are ignored. All frames are held in memory.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.atproto.errors import FrameError
from pipelines.atproto.frames import parse_envelope
from pipelines.captures import CaptureError, read_frames

FRAMES_FILE = "frames.bin"
IDENTITIES_FILE = "identities.jsonl"
ACCOUNTS_FILE = "accounts.json"
ACCOUNTS_FOLDER = "accounts"
CAR_FILE = "repo.car"

_FOLDER_NAME = re.compile(r"[0-9A-Za-z_.-]*[0-9A-Za-z_-]")  # no path, no "..": see `_car`


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One websocket message.

    Attributes:
        seq: its sequence number; None where it has none or none that can be read.
        message: bytes of a binary message, or the text of a text message (which no relay sends;
            tests do).
    """

    seq: int | None
    message: bytes | str


@dataclass(frozen=True, slots=True)
class CapturedIdentity:
    """What the directory knows about a DID.

    Attributes:
        document: the DID document; None for a DID that was given up (a PLC tombstone), of which
            only the log is left.
        audit_log: the PLC audit log, or None (did:web has none).
    """

    document: Mapping[str, Any] | None
    audit_log: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class CapturedAccount:
    """What the host of a repository answers about it.

    Attributes:
        latest_commit: body of getLatestCommit, or of its error (`error`, perhaps `message`).
        repo_status: body of getRepoStatus, or of its error.
        car: the file that getRepo answers with, or None.
    """

    latest_commit: Mapping[str, Any]
    repo_status: Mapping[str, Any]
    car: Path | None = None


@dataclass(frozen=True, slots=True)
class CapturedNetwork:
    """Everything the simulator serves.

    Attributes:
        frames: in the order of the relay's stream.
        identities: by DID.
        accounts: by DID, in the order in which the host lists them.
    """

    frames: tuple[CapturedFrame, ...]
    identities: Mapping[str, CapturedIdentity] = field(default_factory=dict)
    accounts: Mapping[str, CapturedAccount] = field(default_factory=dict)


def captured_frames(messages: Iterable[bytes | str]) -> tuple[CapturedFrame, ...]:
    """Returns messages with their sequence numbers, as far as these can be read."""
    return tuple(CapturedFrame(_seq(message), message) for message in messages)


def load_network(folder: Path) -> CapturedNetwork:
    """Reads a capture folder.

    Args:
        folder: laid out as the module says.

    Raises:
        CaptureError: a file that has to be there is missing, or one cannot be understood.
    """
    if not folder.is_dir():
        raise CaptureError(folder, "there is no such folder")
    missing = [name for name in (FRAMES_FILE, IDENTITIES_FILE) if not (folder / name).is_file()]
    if missing:
        raise CaptureError(folder, f"not a captured network, it lacks {' and '.join(missing)}")
    return CapturedNetwork(
        frames=captured_frames(read_frames(folder / FRAMES_FILE)),
        identities=_load_identities(folder / IDENTITIES_FILE),
        accounts=_load_accounts(folder),
    )


def _seq(message: bytes | str) -> int | None:
    if isinstance(message, str):
        return None
    try:
        return parse_envelope(message).seq
    except FrameError:
        return None


def _load_identities(path: Path) -> dict[str, CapturedIdentity]:
    identities: dict[str, CapturedIdentity] = {}
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        entry = _parse_json(path, line, f"line {number}")
        match entry:
            case {"did": str(did), "document": dict(document)}:
                audit_log = entry.get("plc_audit_log")
            case _:
                raise CaptureError(path, f"line {number} has no `did` with a `document`")
        if audit_log is not None and not isinstance(audit_log, list):
            raise CaptureError(path, f"`plc_audit_log` of line {number} is not a list")
        if did in identities:
            raise CaptureError(path, f"line {number} repeats {did}")
        # Where there was no document, the capture holds what the directory said instead.
        identities[did] = CapturedIdentity(document if "id" in document else None, audit_log)
    return identities


def _load_accounts(folder: Path) -> dict[str, CapturedAccount]:
    path = folder / ACCOUNTS_FILE
    if not path.exists():
        return {}
    entries = _parse_json(path, _read_text(path), "the file")
    if not isinstance(entries, list):
        raise CaptureError(path, "it is not a list of accounts")
    accounts: dict[str, CapturedAccount] = {}
    for number, entry in enumerate(entries):
        match entry:
            case {
                "did": str(did),
                "dir": str(name),
                "latestCommit": dict(latest_commit),
                "repoStatus": dict(repo_status),
            }:
                car = _car(folder, path, name)
            case _:
                raise CaptureError(
                    path, f"account {number} lacks did, dir, latestCommit or repoStatus"
                )
        if did in accounts:
            raise CaptureError(path, f"account {number} repeats {did}")
        accounts[did] = CapturedAccount(latest_commit, repo_status, car)
    return accounts


def _car(folder: Path, path: Path, name: str) -> Path | None:
    # The name comes from a file that may be somebody else's: it must not lead out of the folder.
    if not _FOLDER_NAME.fullmatch(name):
        raise CaptureError(path, f"{name!r} is not the name of a folder")
    car = folder / ACCOUNTS_FOLDER / name / CAR_FILE
    return car if car.is_file() else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CaptureError(path, f"cannot read it: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CaptureError(path, "it is not UTF-8 text") from None


def _parse_json(path: Path, text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CaptureError(path, f"{what} is not JSON: {error}") from None
