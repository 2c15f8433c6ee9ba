"""The recorded network through everything, first without getRepo: the state is the real one."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from support import oracle
from support.kafka import is_caught_up, read_committed, wait_until
from support.latest import Latest, block_of, read_latest
from support.pipeline import run_command, running_pipeline
from support.reexport import export_messages

from pipelines.atproto.car import read_car
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.commit import parse_commit
from pipelines.captures import read_frames
from pipelines.compact.accounts import DEFAULT_PURGE_AFTER_S
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import OutputMessage
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer

pytestmark = [pytest.mark.broker, pytest.mark.shared, pytest.mark.slow]

PARTITIONS = 3
# What the recording's own description says (README of pds-corpus).
DESYNCHRONIZED = {
    "sema": "frame.op",
    "impa": "chain.since",
    "weba": "history.unknown",
    "miga": "commit.rev_mismatch",
    "migpa": "commit.rev_mismatch",
    "migxa": "commit.rev_mismatch",
}
DELETED_COUNT = 2


def test_the_state_is_that_of_the_real_repositories(
    kafka: str, topic_prefix: str, shared_data: Path, tmp_path: Path
) -> None:
    """What the events alone tell, and then what servers say of what is broken by them."""
    folder = shared_data / "pds-corpus"
    config = KafkaConfig(kafka, topic_prefix)
    frames_count = sum(1 for _ in read_frames(folder / "frames.bin"))
    accounts = {account["did"]: account for account in load_accounts(folder)}
    with (
        SimServer(load_network(folder)) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        stages = [pipeline.start_bridge(), pipeline.start_worker("0")]
        stages.append(pipeline.start_compact(purge_after_s=DEFAULT_PURGE_AFTER_S))
        events = config.topic("events")
        wait_until(
            lambda: len(read_committed(config, events)) >= frames_count,
            "an event for each frame",
        )
        wait_until(
            lambda: (
                read_latest(config).repos.keys() == accounts.keys()
                and is_caught_up(config, "compact", events)
            ),
            "compact to be done",
        )
        events_alone = read_latest(config)
        broken = {
            accounts[did]["name"]: repo["reason"]
            for did, repo in events_alone.repos.items()
            if repo["sync"] == "desynchronized"
        }
        assert broken == DESYNCHRONIZED
        # Nobody has confirmed a deletion yet.
        unconfirmed = [did for did, repo in events_alone.repos.items() if repo["deletion_us"]]
        assert len(unconfirmed) == DELETED_COUNT
        assert events_alone.records.keys() >= set(unconfirmed)

        stages.append(pipeline.start_resync())
        wait_until(lambda: not unrepaired(read_latest(config)), "all repairs")
        assert [stage.stop() for stage in stages] == [0, 0, 0, 0]

    latest = read_latest(config)
    assert latest.repos.keys() == accounts.keys()
    deleted = [did for did, repo in latest.repos.items() if repo["status"] == "deleted"]
    assert sorted(deleted) == sorted(unconfirmed)
    assert not latest.records.keys() & set(deleted)
    assert all(latest.repos[did]["sync"] == "unknown" for did in deleted)

    whole = [did for did, repo in latest.repos.items() if repo["sync"] == "synchronized"]
    assert len(whole) == len(accounts) - DELETED_COUNT == 33
    for did in whole:
        head, records = load_repo(folder, accounts[did]["dir"])
        repo = latest.repos[did]
        assert (repo["rev"], repo["data"]) == head, did
        values = latest.records.get(did, {})
        cids = {path: encode_cid(cid) for path, cid in records.items()}
        assert latest.paths(did) == cids, did
        for path, value in values.items():
            assert cid_of(block_of(value)) == records[path], (did, path)
        if accounts[did]["name"] not in DESYNCHRONIZED:
            assert latest.repos[did] == events_alone.repos[did]
        commit = accounts[did]["latestCommit"]
        if "error" not in commit:
            assert (repo["rev"], repo["commit"]) == (commit["rev"], commit["cid"]), did
    [sema] = (did for did, account in accounts.items() if account["name"] == "sema")
    moved = "com.example.sem/moved"
    assert moved in events_alone.paths(sema)
    [gone] = (
        message
        for message in read_committed(config, config.topic("latest.other"))
        if message.key == f"at://{sema}/{moved}".encode() and message.value is None
    )
    assert dict(gone.headers)["live"] == b"false"
    for did, account in accounts.items():
        status = account["repoStatus"]
        if "error" in status:
            continue
        assert latest.repos[did]["active"] == status["active"], did
        assert latest.repos[did]["status"] == status.get("status"), did

    audit = run_command(config, "audit", "--all", "--json")
    assert audit.returncode == 0, audit.stderr
    found = {line["did"]: line for line in map(json.loads, audit.stdout.splitlines())}
    assert found.keys() == accounts.keys()
    for did in whole:
        assert found[did]["finding"] == "matches"
        assert found[did]["root"] == found[did]["expected"] == latest.repos[did]["data"]
        assert found[did]["records_count"] == len(latest.records.get(did, {}))
    shown = run_command(config, "repo", whole[0], "--json", "--records")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["records"] == latest.paths(whole[0])
    for did in whole:
        captured = read_car((folder / "accounts" / accounts[did]["dir"] / "repo.car").read_bytes())
        assert read_car(made_again(latest, did, tmp_path / accounts[did]["dir"])) == captured, did
    out = tmp_path / "repo.car"
    exported = run_command(config, "repo", did, "--export", "car", "--out", str(out))
    assert exported.returncode == 0, exported.stderr
    assert read_car(out.read_bytes()) == captured
    assert [path.name for path in tmp_path.glob("*.car*")] == [out.name]
    unknown = run_command(config, "repo", f"{did}x", "--export", "car")
    assert (unknown.returncode, unknown.stdout) == (1, "")


def unrepaired(latest: Latest) -> list[str]:
    """Returns the repositories of which something is missing, or there that has to go."""
    return [
        did
        for did, repo in latest.repos.items()
        if (repo["active"] and repo["sync"] != "synchronized")
        or repo["deletion_us"] is not None
        or repo["purging"]
    ]


def made_again(latest: Latest, did: str, folder: Path) -> bytes:
    """Returns the CAR that an export makes of what was read of one repository."""
    values = latest.records.get(did, {})
    messages = [
        OutputMessage(
            "latest",
            0,
            value["uri"].encode(),
            json.dumps(value).encode(),
            [(name, value[name].encode()) for name in ("rev", "cid")],
            0,
        )
        for value in values.values()
    ]
    cids = {path: parse_cid(value["cid"]) for path, value in values.items()}
    commit = base64.b64decode(latest.repos[did]["commit_block"])
    return export_messages(folder, commit, messages, cids)


def load_accounts(folder: Path) -> list[dict[str, Any]]:
    accounts: list[dict[str, Any]] = json.loads((folder / "accounts.json").read_bytes())
    return accounts


def load_repo(folder: Path, name: str) -> tuple[tuple[str, str], dict[str, bytes]]:
    """Returns revision and root of an exported repository, and its records' CIDs by path."""
    roots, blocks = read_car((folder / "accounts" / name / "repo.car").read_bytes())
    commit = parse_commit(blocks[roots[0]])
    return (commit.rev, encode_cid(commit.data_cid)), oracle.read(blocks, commit.data_cid)
