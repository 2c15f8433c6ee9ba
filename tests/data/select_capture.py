"""Makes tests/data/capture: whole accounts out of a larger recording of our own.

    python tests/data/select_capture.py SOURCE [TARGET]

SOURCE is the folder of the recording (README.md beside this file says what it is); TARGET is
`capture` beside this file by default. The same source gives the same bytes.
"""

import argparse
import json
import shutil
import struct
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# Whole accounts, so that the chain of each repository is as it was; by the name in accounts.json
# (two accounts share the name "delusera": the second took over the handle of the deleted first).
ACCOUNT_NAMES = {
    "user4a": "ordinary use: posts, likes, follows, updates, deletes, batches",
    "sema": "contradicting ops: the same path twice in one commit; an update that changes nothing",
    "edgea": "odd record keys and values: `$link` maps, deep nesting, empty keys",
    "native256a": "K-256 key, then P-256",
    "rota": "three key rotations in a row",
    "rotpa": "K-256 to P-256 and back",
    "rebuilda": "a repository rebuilt: #sync to a rev that never had a #commit",
    "miga": "migration: #sync with another rev than its commit, signed by the former key",
    "migpa": "migration of a P-256 account that keeps its key: #sync with another rev",
    "migxa": "migration from a P-256 to a K-256 key: #sync with another rev",
    "impa": "a repository imported in silence: the next commit does not follow its predecessor",
    "weba": "did:web, moved here and renamed",
    "handlea": "handle changes",
    "deacta": "deactivated and activated again; announced as active twice more",
    "deactfinala": "deactivated for good: the host refuses getRepo",
    "takena": "taken down and restored",
    "takenfinala": "deactivated, then taken down",
    "delusera": "deleted by its user; and the account that took over its handle",
    "deladmina": "deleted by the host, and its DID given up (PLC tombstone)",
    "emptya": "no record at all",
    "bloba": "records with blobs",
}

# What a strict verifier must refuse, by number in the source. The ops of the commits contradict
# their trees; the rev of the #syncs is not that of their commits.
REFUSED = frozenset({646, 651, 656, 660, 1576, 1579, 1582})
SKIPPED_KINDS = frozenset({"identity", "account"})

_LENGTH = struct.Struct(">I")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=HERE / "capture")
    arguments = parser.parse_args()
    select(arguments.source, arguments.target)


def select(source: Path, target: Path) -> None:
    """Writes the selection; whatever was in the target folder is replaced."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    accounts = [
        account
        for account in json.loads((source / "accounts.json").read_text())
        if account["name"] in ACCOUNT_NAMES
    ]
    absent = ACCOUNT_NAMES.keys() - {account["name"] for account in accounts}
    if absent:
        raise SystemExit(f"{source} lacks the accounts {', '.join(sorted(absent))}")
    dids = {account["did"] for account in accounts}
    _select_frames(source, target, dids)
    _write_lines(
        target / "identities.jsonl",
        [
            identity
            for identity in _read_lines(source / "identities.jsonl")
            if identity["did"] in dids
        ],
    )
    (target / "accounts.json").write_text(json.dumps(accounts, indent=1) + "\n")
    for account in accounts:
        car = source / "accounts" / account["dir"] / "repo.car"
        if car.exists():
            folder = target / "accounts" / account["dir"]
            folder.mkdir(parents=True)
            (folder / "repo.car").write_bytes(car.read_bytes())


def _select_frames(source: Path, target: Path, dids: set[str]) -> None:
    recording = (source / "frames.bin").read_bytes()
    expected: list[dict[str, Any]] = []
    with (target / "frames.bin").open("wb") as selection:
        for entry in _read_lines(source / "index.jsonl"):
            if entry["did"] not in dids:
                continue
            frame = recording[entry["offset"] : entry["offset"] + entry["size"]]
            selection.write(_LENGTH.pack(len(frame)) + frame)
            if entry["n"] in REFUSED:
                verdict = "refused"
            else:
                verdict = "skipped" if entry["kind"] in SKIPPED_KINDS else "verified"
            expected.append({"n": len(expected), "source_n": entry["n"], "verdict": verdict})
    _write_lines(target / "expected.jsonl", expected)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


if __name__ == "__main__":
    main()
