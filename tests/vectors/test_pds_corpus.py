"""2,379 frames of the reference PDS, of which we know exactly what is right and what is not."""

import gzip
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cbor2
import orjson
import pytest
from support import oracle
from support.recordings import load_recording
from support.repo import outcome, refusal

from pipelines.atproto import atjson
from pipelines.atproto.car import read_car, write_car
from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.commit import SignedCommit, VerifiedCommit, open_commit, parse_commit
from pipelines.atproto.errors import DagCborError, Reason
from pipelines.atproto.frames import Kind, parse_frame
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo import stream_repo, verify_repo
from pipelines.atproto.syntax import Did, tid_time_us
from pipelines.captures import read_frames
from pipelines.identity.documents import parse_document
from pipelines.identity.offline import OfflineKeys
from pipelines.identity.plc import verify_audit_log
from pipelines.report import Chain, FrameReport, Outcome, report_frames
from pipelines.verdict import Proven, judge_frame

pytestmark = pytest.mark.shared

# The ops of the commits contradict their trees (the same path twice in one request); the syncs
# have another rev than their commits.
_REFUSED = {
    646: Reason.FRAME_OP,
    651: Reason.FRAME_OP,
    656: Reason.FRAME_OP,
    660: Reason.COMMIT_PATH_TWICE,
    1576: Reason.COMMIT_REV_MISMATCH,
    1579: Reason.COMMIT_REV_MISMATCH,
    1582: Reason.COMMIT_REV_MISMATCH,
}
# importRepo over an active account emits nothing.
_BROKEN = {1233}
# Records without a faithful JSON form: frame, path, reason.
_ODD_RECORDS = {
    (404, "com.example.edge/3n2vrwhtxrf25", Reason.JSON_AMBIGUOUS),
    (408, "com.example.edge/3n2vrwhxqux25", Reason.JSON_AMBIGUOUS),
    (493, "com.example.edge/3n2vrwjbcxl25", Reason.CBOR_DEPTH),
    (498, "com.example.edge/3n2vrwjdq4d25", Reason.CBOR_DEPTH),
    (503, "com.example.edge/3n2vrwjgb6i25", Reason.CBOR_DEPTH),
    (507, "com.example.edge/3n2vrwjjfra25", Reason.CBOR_DEPTH),
    (512, "com.example.edge/3n2vrwjltvt25", Reason.CBOR_DEPTH),
    (516, "com.example.edge/3n2vrwjpj3t25", Reason.CBOR_DEPTH),
}
_OTHER_FORM = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


class _CurrentKeysOnly:
    """The keys at the end of the recording, without the history."""

    def __init__(self, keys: OfflineKeys) -> None:
        self._keys = keys

    def current_key(self, did: Did) -> VerifyingKey:
        return self._keys.current_key(did)

    def refreshed_key(self, did: Did, since_us: int | None) -> None:
        self._keys.refreshed_key(did, since_us)

    def key_at(self, did: Did, time_us: int) -> None:
        assert time_us > 0, did


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "pds-corpus"


@cache
def _report(folder: Path) -> list[FrameReport]:
    recording = load_recording(folder)
    return list(report_frames(recording.frames, recording.keys))


def test_exactly_the_contradictory_frames_are_refused(folder: Path) -> None:
    """Spec: G-07, G-10, G-12, G-30."""
    refused = {line.n: line.reason for line in _report(folder) if line.verdict == "refused"}
    assert refused == _REFUSED


def test_everything_else_is_verified_or_has_nothing_to_verify(folder: Path) -> None:
    counts = Counter((line.kind, line.verdict) for line in _report(folder))
    assert counts == {
        (Kind.COMMIT, Outcome.VERIFIED): 2234,
        (Kind.COMMIT, Outcome.REFUSED): 4,
        (Kind.SYNC, Outcome.VERIFIED): 42,
        (Kind.SYNC, Outcome.REFUSED): 3,
        (Kind.IDENTITY, Outcome.SKIPPED): 48,
        (Kind.ACCOUNT, Outcome.SKIPPED): 48,
    }


def test_the_chain_is_broken_in_one_place(folder: Path) -> None:
    """Spec: G-16."""
    assert {line.n for line in _report(folder) if line.chain is Chain.BROKEN} == _BROKEN


def test_every_repository_starts_one_chain(folder: Path) -> None:
    firsts = [line.did for line in _report(folder) if line.chain is Chain.FIRST]
    assert len(firsts) == len(set(firsts)) == 35


def test_without_the_history_of_keys_earlier_commits_fail(folder: Path) -> None:
    """The negative control: 23 commits and 8 syncs were signed by a key that is no longer current.

    Nine more belong to an account whose DID was given up since: it has no current key at all.
    """
    recording = load_recording(folder)
    lines = report_frames(recording.frames, _CurrentKeysOnly(recording.keys))
    counts = Counter((line.kind, line.reason) for line in lines if line.verdict == "refused")
    contradictory = {Reason.FRAME_OP, Reason.COMMIT_PATH_TWICE, Reason.COMMIT_REV_MISMATCH}
    assert {key: count for key, count in counts.items() if key[1] not in contradictory} == {
        (Kind.COMMIT, Reason.SIGNATURE_INVALID): 23,
        (Kind.SYNC, Reason.SIGNATURE_INVALID): 8,
        (Kind.COMMIT, Reason.IDENTITY_DOCUMENT): 8,
        (Kind.SYNC, Reason.IDENTITY_DOCUMENT): 1,
    }


def test_the_key_of_the_signed_time_fits_every_signature(folder: Path) -> None:
    """By the audit log alone, for did:web by the document: all 2,238 commits and 45 syncs."""
    keys = load_recording(folder).keys
    assert _signatures(folder, partial(_key_of, keys=keys)) == {
        (Kind.COMMIT, True): 2238,
        (Kind.SYNC, True): 45,
    }


def test_the_latest_key_alone_fits_not_every_signature(folder: Path) -> None:
    """The negative control, by the logs, which also have the last key of a DID given up since."""
    lines = (folder / "identities.jsonl").read_bytes().splitlines()
    latest: dict[str, VerifyingKey] = {}
    for identity in map(orjson.loads, lines):
        did, log = identity["did"], identity.get("plc_audit_log")
        if log is None:
            latest[did] = parse_document(did, identity["document"]).require_key()
        else:
            keys = [change.signing_key for change in verify_audit_log(did, log)]
            latest[did] = [key for key in keys if key is not None][-1]

    assert _signatures(folder, lambda commit: latest[commit.did]) == {
        (Kind.COMMIT, True): 2238 - 23,
        (Kind.COMMIT, False): 23,
        (Kind.SYNC, True): 45 - 8,
        (Kind.SYNC, False): 8,
    }


def test_every_record_maps_back_to_its_cid_or_is_odd(folder: Path) -> None:
    """Spec: A-24, A-31: odd records do not sink their commits."""
    recording = load_recording(folder)
    odd = set()
    record_count = 0
    for n, frame in enumerate(recording.frames):
        verdict = judge_frame(frame, recording.keys, received_us=None)
        if isinstance(verdict, Proven) and isinstance(verdict.verified, VerifiedCommit):
            for op, record in verdict.verified.ops:
                if record is not None:
                    record_count += 1
                    if (reason := _oddity(record, op.cid)) is not None:
                        odd.add((n, op.path, reason))
    assert record_count == 7134
    assert odd == _ODD_RECORDS


def test_the_final_repositories_are_whole_and_their_records_map_back(folder: Path) -> None:
    """Spec: B-29, C-11: also shows that the oracle builds what a real host built."""
    odd = set()
    record_count = 0
    for path in sorted(folder.glob("accounts/*/repo.car")):
        data = path.read_bytes()
        roots, blocks = read_car(data)
        assert write_car(roots[0], blocks.items()) == data
        data_cid = parse_commit(blocks[roots[0]]).data_cid
        records = oracle.read(blocks, data_cid)
        assert oracle.build(records).root == data_cid
        record_count += len(records)
        odd |= {(name, _oddity(blocks[cid], cid)) for name, cid in records.items()}
    assert record_count == 5729
    assert {pair for pair in odd if pair[1] is not None} == {
        (path, reason) for _, path, reason in _ODD_RECORDS
    }


def test_every_final_repository_is_proven_and_holds_what_the_oracle_reads(folder: Path) -> None:
    """Spec: C-11: none of these files is in streamable order."""
    keys = load_recording(folder).keys
    heads = {account["did"]: account["latestCommit"] for account in _accounts(folder)}
    record_count = hidden_count = 0
    paths = sorted(folder.glob("accounts/*/repo.car"))
    for path in paths:
        data = path.read_bytes()
        roots, blocks = read_car(data)
        commit = parse_commit(blocks[roots[0]])
        stream = stream_repo(data, _key_of(commit, keys), did=commit.did)
        found = {record.path: record.cid for record in stream}
        assert list(found) == sorted(found)
        assert found == oracle.read(blocks, commit.data_cid)
        repo = stream.verified
        head = {"cid": encode_cid(repo.commit_cid), "rev": repo.commit.rev}
        if "error" in heads[commit.did]:  # the host does not serve it any more
            hidden_count += 1
        else:
            assert heads[commit.did] == head
        assert repo.byte_count == len(data)
        assert repo.block_count == len(blocks)
        record_count += repo.record_count
    assert (len(paths), hidden_count, record_count) == (33, 2, 5729)


def test_each_final_repository_needs_each_of_its_blocks(folder: Path) -> None:
    """Spec: C-11: of the smaller ones."""
    keys = load_recording(folder).keys
    for path in sorted(folder.glob("accounts/*/repo.car"), key=lambda p: p.stat().st_size)[:12]:
        roots, blocks = read_car(path.read_bytes())
        key = _key_of(parse_commit(blocks[roots[0]]), keys)
        for missing in blocks:
            rest = [item for item in blocks.items() if item[0] != missing]
            error = refusal(partial(verify_repo, write_car(roots[0], rest), key))
            assert error.reason in {
                Reason.CAR_ROOT_MISSING,
                Reason.MST_BLOCK_MISSING,
                Reason.COMMIT_RECORD_MISSING,
            }


def test_what_the_host_lists_as_json_is_what_the_repository_holds(folder: Path) -> None:
    """Spec: A-24: JSON and CIDs by another implementation."""
    odd: set[tuple[str, Reason | None]] = set()
    record_count = 0
    for path in sorted(folder.glob("accounts/*/records.jsonl*")):
        for line in _lines(path):
            record_count += 1
            listed = orjson.loads(line)
            record = outcome(partial(atjson.from_json, line.partition(b',"value":')[2][:-1]))
            if isinstance(record, Reason):
                odd.add((listed["uri"].split("/", 3)[3], record))
            elif encode_cid(cid_of(record)) != listed["cid"]:
                odd.add((listed["uri"].split("/", 3)[3], None))
    assert record_count == 5714
    # The host's JSON drops a byte order mark at the start of a text.
    assert odd == {(path, reason) for _, path, reason in _ODD_RECORDS} | {
        ("com.example.edge/3n2vrwhczra25", None)
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("info-outdated-cursor", Kind.INFO),
        ("error-future-cursor", Kind.ERROR),
        ("error-bad-cursor", Kind.ERROR),
        ("error-consumer-too-slow", Kind.ERROR),
    ],
)
def test_messages_about_the_connection_are_read(folder: Path, name: str, kind: Kind) -> None:
    """Spec: F-14, F-24, F-25, F-27, F-44."""
    frames = list(read_frames(folder / "extra" / f"{name}.bin"))
    assert kind in {parse_frame(frame).kind for frame in frames}


def _accounts(folder: Path) -> list[dict[str, Any]]:
    accounts: list[dict[str, Any]] = orjson.loads((folder / "accounts.json").read_bytes())
    return accounts


def _key_of(commit: SignedCommit, keys: OfflineKeys) -> VerifyingKey:
    """Returns the key of the signed time: by the log, for did:web by the document."""
    if commit.did.startswith("did:web:"):
        return keys.current_key(commit.did)
    key = keys.key_at(commit.did, tid_time_us(commit.rev))
    assert key is not None
    return key


def _signatures(
    folder: Path, key_of: Callable[[SignedCommit], VerifyingKey]
) -> Counter[tuple[Kind, bool]]:
    """Returns how many signatures fit, whatever else is wrong with their frames."""
    counts: Counter[tuple[Kind, bool]] = Counter()
    for frame in read_frames(folder / "frames.bin"):
        decoder = cbor2.CBORDecoder(BytesIO(frame))
        kind, payload = decoder.decode()["t"].removeprefix("#"), decoder.decode()
        if kind in (Kind.COMMIT, Kind.SYNC):
            commit = open_commit(payload.get("repo", payload.get("did")), payload["blocks"]).commit
            key = key_of(commit)
            failure = outcome(partial(key.verify, commit.unsigned, commit.signature))
            assert failure in (None, Reason.SIGNATURE_INVALID)
            counts[Kind(kind), failure is None] += 1
    return counts


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()


def _oddity(record: bytes, cid: bytes | None) -> Reason | None:
    """Returns why a record has no JSON form; the form of any other is led back to its CID."""
    try:
        json = atjson.to_json(record)
    except DagCborError as error:
        return error.reason
    assert atjson.from_json(json) == record
    # The other forms of the same JSON, as anybody may write it.
    assert cid_of(atjson.from_json(orjson.dumps(orjson.loads(json), option=_OTHER_FORM))) == cid
    return None
