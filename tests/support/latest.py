"""What `repos` and `latest.*` hold, as a reader from the beginning sees it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cbrrr
from support.kafka import read_committed

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.syntax import Did
from pipelines.compact.state import RepoState, parse_repo
from pipelines.compact.store import Store
from pipelines.config import KafkaConfig
from pipelines.kafka.topics import registry
from pipelines.sim.truth import AccountTruth


@dataclass
class Latest:
    """The final state.

    Attributes:
        repos: value by DID.
        records: value by DID and path.
        tombstones_count: nulls that were read.
        messages_count: messages of `latest.*` that were read.
    """

    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    tombstones_count: int = 0
    messages_count: int = 0

    def paths(self, did: str) -> dict[str, str]:
        """Returns the CIDs of a repository's records, by path."""
        return {path: value["cid"] for path, value in self.records.get(did, {}).items()}

    def all_paths(self) -> dict[str, dict[str, str]]:
        """Returns the same of every repository that has records, by DID."""
        return {did: self.paths(did) for did in self.records}


def read_latest(config: KafkaConfig) -> Latest:
    """Reads all of it, checking what has to hold for every message."""
    latest = Latest()
    for message in read_committed(config, config.topic("repos")):
        value = json.loads(message.value or b"")
        headers = dict(message.headers)
        assert message.key == headers["did"] == value["did"].encode()
        assert headers["sync"] == value["sync"].encode()
        latest.repos[value["did"]] = value
    for topic in registry().specs["latest"].topics:
        revs: dict[bytes | None, bytes] = {}
        for message in read_committed(config, config.topic(topic)):
            headers = dict(message.headers)
            assert message.key is not None
            did, _, path = message.key.decode().removeprefix("at://").partition("/")
            assert headers["did"] == did.encode()
            assert (headers["operation"] == b"delete") == (message.value is None)
            # For one URI the revision never decreases.
            assert revs.get(message.key, b"") <= headers["rev"]
            revs[message.key] = headers["rev"]
            latest.messages_count += 1
            if message.value is None:
                latest.tombstones_count += 1
                latest.records.get(did, {}).pop(path, None)
            else:
                value = json.loads(message.value)
                assert value["cid"].encode() == headers["cid"]
                latest.records.setdefault(did, {})[path] = value
    latest.records = {did: records for did, records in latest.records.items() if records}
    return latest


def block_of(value: dict[str, Any]) -> bytes:
    """Returns the record block that a value of `latest.*` stands for."""
    if value["record_error"] is not None:
        return base64.b64decode(value["record_cbor"], validate=True)
    return cbrrr.encode_dag_cbor(value["record"], atjson_mode=True)


def wrong_repos(latest: Latest, accounts: Mapping[Did, AccountTruth]) -> dict[Did, str]:
    """Returns the accounts whose state is not the true one, and what is wrong."""
    return {
        did: wrong
        for did, account in accounts.items()
        if (wrong := _what_is_wrong(latest, did, account))
    }


def _what_is_wrong(latest: Latest, did: Did, account: AccountTruth) -> str:
    repo, state = latest.repos.get(did), account.state
    if repo is None:
        return "nothing is known of it"
    if (repo["active"], repo["status"]) != (state.status is None, state.status):
        return f"its status is {state.status}, not {repo['status']}"
    expected: tuple[str | None, ...] = ("unknown", None, None, None)
    if state.head is not None:
        commit = state.head.commit
        cids = (encode_cid(state.head.commit_cid), encode_cid(commit.data_cid))
        expected = ("synchronized", commit.rev, *cids)
    found = (repo["sync"], repo["rev"], repo["commit"], repo["data"])
    if found != expected:
        return f"it is {expected}, not {found}"
    values = latest.records.get(did, {})
    if {path: block_of(value) for path, value in values.items()} != account.records:
        return "its records are others"
    return ""


class Stored(NamedTuple):
    """What a store of compact has of a repository: its state, and its records' CIDs by path."""

    repo: RepoState
    paths: dict[str, str]


def read_stores(folder: Path, partitions: int) -> dict[str, Stored]:
    """Returns what the stores of a stopped compact process hold, by DID."""
    found: dict[str, Stored] = {}
    for partition in range(partitions):
        store = Store(folder / str(partition))
        for value in store.repos():
            repo = parse_repo(value)
            paths = {path: encode_cid(record.cid) for path, record in store.records(repo.did)}
            found[repo.did] = Stored(repo, paths)
        store.close()
    return found
