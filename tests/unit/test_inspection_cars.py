"""Reports of CAR files: what is in them, and good exactly where the repository can be proven."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import oracle, wire
from support.damage import damage
from support.exports import Export, export, export_tree
from support.oracle import Tree, cid_of, dag_cbor
from support.repo import OTHER_SIGNER, SIGNER, make_step, outcome, record
from support.trees import TOP, VALUE, node

from pipelines.atproto import repo_reader
from pipelines.atproto.commit import MAX_RECORD_BYTES
from pipelines.atproto.errors import Reason
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo import verify_repo
from pipelines.inspection import cars
from pipelines.inspection.report import Failed, NotReached, Passed, Report

_REPO = export(
    {f"com.example.note/{n:05}": record(f"note {n}") for n in range(40)}
    | {"com.example.other/self": record("other")}
)
_BLOCKS = _REPO.ordered()


def _inspect(car: bytes, signing_key: VerifyingKey | None = SIGNER.key, **options: Any) -> Report:
    defaults: dict[str, Any] = {"is_partial": False, "has_records": False, "max_tree_lines": 9}
    return cars.inspect_car(car, signing_key=signing_key, **defaults | options)


def _failures(report: Report) -> list[tuple[str, Reason]]:
    return [(check.name, check.reason) for check in report.checks if isinstance(check, Failed)]


def _facts(report: Report, title: str) -> dict[str, Any]:
    (section,) = [section for section in report.sections if section.title == title]
    return dict(section.facts)


def test_a_whole_repository_passes_every_check() -> None:
    report = _inspect(_REPO.car())
    assert all(isinstance(check, Passed) for check in report.checks)
    assert len(report.checks) == 10
    facts = _facts(report, "CAR")
    assert (facts["nodes"], facts["records"]) == (len(_REPO.nodes), 41)
    assert facts["is_streamable"] is True
    assert _facts(report, "collections (2)") == {"com.example.note": 40, "com.example.other": 1}
    assert report.tree[-1].endswith("lines more")


def test_order_repetition_and_surplus_are_told_and_are_no_failure() -> None:
    blob_cid = b"\x01\x55\x12\x20" + cid_of(b"a blob")[4:]
    car = _REPO.car([*reversed(_BLOCKS), _BLOCKS[3], b"\xa0"])
    report = _inspect(car + wire.car_section(blob_cid, b"a blob"))
    assert report.is_good
    facts = _facts(report, "CAR")
    assert facts["is_streamable"] is False
    assert (facts["repeated_blocks"], facts["unreferenced_blocks"], facts["blobs"]) == (1, 2, 1)


def test_a_car_stays_streamable_with_a_surplus_behind() -> None:
    assert _facts(_inspect(_REPO.car([*_BLOCKS, b"\xa0"])), "CAR")["is_streamable"] is True


@pytest.mark.parametrize("paths_count", [3, 4, 40])
def test_a_record_under_too_many_paths_is_refused_and_not_shown(
    paths_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spec: C-07, M-06. As where the repository is proven."""
    monkeypatch.setattr(repo_reader, "MAX_REPEATED_BYTES", 12_000)
    named = {f"com.example.note/{n:05}": record("x" * 5_000) for n in range(paths_count)}
    repeating = export(named)
    car = repeating.car(list(dict.fromkeys(repeating.ordered())))
    report = _inspect(car, has_records=True)
    if outcome(lambda: verify_repo(car, SIGNER.key)) is Reason.CAR_TOO_LARGE:
        assert paths_count > 3
        expected = ("no records stand under too many paths", Reason.CAR_TOO_LARGE)
        assert _failures(report) == [expected]
        assert report.records == ()
    else:
        assert paths_count == 3
        assert report.is_good
        assert len(report.records) == paths_count


def test_what_a_commit_brought_is_partial() -> None:
    step = make_step()
    report = _inspect(step.needed_car, is_partial=True)
    assert report.is_good
    open_checks = [check.name for check in report.checks if isinstance(check, NotReached)]
    assert open_checks == ["every node is there", "every record is there"]
    whole = [name for name, _ in _failures(_inspect(step.needed_car))]
    assert "every record is there" in whole


def test_records_are_shown_when_asked_for() -> None:
    views = _inspect(_REPO.car(), has_records=True).records
    assert [view.path for view in views] == sorted(_REPO.records)
    assert views[0].json == b'{"text":"note 0","$type":"com.example.note"}'


def test_the_signature_is_left_open_without_a_key_and_a_wrong_one_is_seen() -> None:
    assert _inspect(_REPO.car(), None).is_good
    signature = "the signature is of the given key"
    assert _failures(_inspect(_REPO.car(), OTHER_SIGNER.key)) == [
        (signature, Reason.SIGNATURE_INVALID)
    ]


def _with_tree(root: bytes) -> Export:
    """A repository with one node, whatever it is, and one record."""
    tree = Tree(cid_of(root), {cid_of(root): root})
    return export_tree(tree, {}, {VALUE: b"a record"})


def _car_of(root: bytes) -> bytes:
    made = _with_tree(root)
    return made.car([made.commit, root, b"a record"])


def _large() -> bytes:
    return export({"com.example.note/1": record("x" * MAX_RECORD_BYTES)}).car()


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (lambda: b"\0", "the header names a root", Reason.CAR_HEADER),
        (lambda: _REPO.car()[:-1], "every block has the hash of its CID", Reason.CAR_TRUNCATED),
        (
            lambda: _REPO.car()[:-1] + b"?",
            "every block has the hash of its CID",
            Reason.CID_HASH_MISMATCH,
        ),
        (lambda: _REPO.car(_BLOCKS[1:]), "the root is a commit object", Reason.CAR_ROOT_MISSING),
        (
            lambda: wire.car(cid_of(b"\xa0"), [b"\xa0"]),
            "the root is a commit object",
            Reason.COMMIT_VERSION,
        ),
        (
            lambda: _car_of(dag_cbor({"e": [], "l": None, "x": 1})),
            "every node keeps the rules of the tree",
            Reason.MST_NODE,
        ),
        (
            lambda: _car_of(node([TOP], cid_of(b"elsewhere"), None)),
            "every node is there",
            Reason.MST_BLOCK_MISSING,
        ),
        (
            lambda: _car_of(oracle.encode_node(oracle.Node([b"no-path"], [VALUE], [None, None]))),
            "every key is the path of a record",
            Reason.MST_KEY,
        ),
        (
            lambda: _REPO.car(_BLOCKS[:-1]),
            "every record is there",
            Reason.COMMIT_RECORD_MISSING,
        ),
        (_large, "no record is too large", Reason.COMMIT_RECORD_TOO_LARGE),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_the_check_that_failed_is_named(
    make: Callable[[], bytes], name: str, reason: Reason
) -> None:
    assert _failures(_inspect(make())) == [(name, reason)]


def test_a_report_is_good_exactly_when_the_repository_can_be_proven() -> None:
    rng = random.Random(33)
    refusals = set()
    for _ in range(600):
        blocks = list(_BLOCKS)
        match rng.randrange(4):
            case 0:
                del blocks[rng.randrange(len(blocks))]
            case 1:
                rng.shuffle(blocks)
            case 2:
                blocks.append(rng.choice(blocks))
            case _:
                pass
        car = _REPO.car(blocks)
        if rng.randrange(2):
            car = damage(car, rng, 1)
        verdict = outcome(partial(verify_repo, car, SIGNER.key))
        failures = [reason for _, reason in _failures(_inspect(car))]
        if isinstance(verdict, Reason):
            assert verdict in failures
            refusals.add(verdict)
        else:
            assert failures == []
    assert len(refusals) > 6


@pytest.mark.shared
def test_the_recorded_repository(shared_data: Path) -> None:
    folder = shared_data / "network-repo"
    report = _inspect((folder / "repo.car").read_bytes(), None, has_records=True)
    assert report.is_good
    expected = [
        line.split("\t") for line in (folder / "car_expected_records.tsv").read_text().splitlines()
    ]
    assert {view.path: view.cid for view in report.records} == {
        fields[0]: fields[1] for fields in expected
    }
