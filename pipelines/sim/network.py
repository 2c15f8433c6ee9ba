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
from functools import partial
from pathlib import Path
from typing import Any

from yarl import URL

from pipelines.atproto.errors import FrameError, IdentityError
from pipelines.atproto.frames import parse_envelope
from pipelines.atproto.syntax import Did
from pipelines.captures import CaptureError, read_frames
from pipelines.identity.documents import parse_document
from pipelines.sim.emission import CapturedFrame, CapturedHistory
from pipelines.sim.ports import Account, Emission, Identity

FRAMES_FILE = "frames.bin"
IDENTITIES_FILE = "identities.jsonl"
ACCOUNTS_FILE = "accounts.json"
ACCOUNTS_FOLDER = "accounts"
CAR_FILE = "repo.car"

_FOLDER_NAME = re.compile(r"[0-9A-Za-z_.-]*[0-9A-Za-z_-]")  # no path, no "..": see `_car`


@dataclass(frozen=True, slots=True)
class CapturedNetwork:
    """Everything the simulator serves.

    Attributes:
        frames: in the order of the relay's stream.
        identities: by DID.
        accounts: by DID, in the order in which the host lists them.
    """

    frames: tuple[CapturedFrame, ...]
    identities: Mapping[str, Identity] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)

    def find_identity(self, did: str) -> Identity | None:
        """Returns what the directory knew about a DID."""
        return self.identities.get(did)

    def list_logs(self) -> Iterable[Sequence[Any]]:
        """Yields the audit logs."""
        for identity in self.identities.values():
            if identity.audit_log is not None:
                yield identity.audit_log

    def list_hosts(self) -> Sequence[str]:
        """Returns the PDSes that documents name."""
        hosts = (self.host_of(did) for did in self.identities)
        return list(dict.fromkeys(host for host in hosts if host is not None))

    def host_of(self, did: str) -> str | None:
        """Returns the PDS in an account's document."""
        identity = self.identities.get(did)
        if identity is None or identity.document is None:
            return None
        try:
            pds = parse_document(Did(did), identity.document).pds
        except IdentityError:
            return None
        return None if pds is None else URL(pds).authority

    def find_account(
        self, did: str, host: str | None = None, *, is_stale: bool = False
    ) -> Account | None:
        """Returns what the host answered about a repository; nobody remembers an older state."""
        del is_stale
        return self.accounts.get(did) if self._is_at(did, host) else None

    def list_accounts(self, host: str | None = None) -> Iterable[tuple[str, Account]]:
        """Yields DIDs and accounts in the order in which a host lists them."""
        return (item for item in self.accounts.items() if self._is_at(item[0], host))

    def has_collection(self, _did: str, _collection: str) -> None:
        """The repositories of a capture are files that nobody has read."""

    def _is_at(self, did: str, host: str | None) -> bool:
        # Without a document nobody can say where it was: any host may have been asked.
        return host is None or self.host_of(did) in (None, host)

    def truth(self, _did: str | None = None) -> None:
        """A capture has only what was seen."""

    def open_history(self, emission: Emission) -> CapturedHistory:
        """Returns the frames."""
        return CapturedHistory(self.frames, emission)

    def close(self) -> None:
        """No file is open."""


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


def _load_identities(path: Path) -> dict[str, Identity]:
    identities: dict[str, Identity] = {}
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
        identities[did] = Identity(document if "id" in document else None, audit_log)
    return identities


def _load_accounts(folder: Path) -> dict[str, Account]:
    path = folder / ACCOUNTS_FILE
    if not path.exists():
        return {}
    entries = _parse_json(path, _read_text(path), "the file")
    if not isinstance(entries, list):
        raise CaptureError(path, "it is not a list of accounts")
    accounts: dict[str, Account] = {}
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
        listing = None
        if "error" not in latest_commit:
            listing = {
                "did": did,
                "head": latest_commit["cid"],
                "rev": latest_commit["rev"],
                "active": repo_status.get("active", False),
            }
        # Of a path only the way to it is needed, and the whole repository has that, too.
        prove = None if car is None else partial(_whole, car)
        accounts[did] = Account(latest_commit, repo_status, listing, car, prove)
    return accounts


def _car(folder: Path, path: Path, name: str) -> Path | None:
    # The name comes from a file that may be somebody else's: it must not lead out of the folder.
    if not _FOLDER_NAME.fullmatch(name):
        raise CaptureError(path, f"{name!r} is not the name of a folder")
    car = folder / ACCOUNTS_FOLDER / name / CAR_FILE
    return car if car.is_file() else None


def _whole(car: Path, _path: str) -> bytes:
    return car.read_bytes()


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
