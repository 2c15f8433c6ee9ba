"""A CAR file: a whole repository as a server exports it, or what a commit brought of one."""

from collections import Counter
from collections.abc import Iterator, Mapping

from pipelines.atproto.car import stream_car
from pipelines.atproto.cid import DAG_CBOR_PREFIX
from pipelines.atproto.commit import check_record_size, parse_root
from pipelines.atproto.errors import (
    CommitError,
    IdentifierError,
    MstError,
    ProtocolError,
    Reason,
)
from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.repo_reader import check_repetition
from pipelines.atproto.syntax import parse_path
from pipelines.inspection.commits import COMMIT_OBJECT, NO_KEY, SIGNATURE, commit_section
from pipelines.inspection.report import (
    Checklist,
    Fact,
    RecordView,
    Report,
    Section,
    Step,
    record_view,
    section,
)
from pipelines.inspection.tree import Survey, survey_tree

_READ = (
    Step.of("the header names a root", Reason.CAR_HEADER),
    Step.of("every block has the hash of its CID", "car", "cid"),
)
_RULES = Step.of("every node keeps the rules of the tree", "mst")
_NODES = Step.of("every node is there", Reason.MST_BLOCK_MISSING)
_PATHS = Step.of("every key is the path of a record", Reason.MST_KEY)
_RECORDS = Step.of("every record is there", Reason.COMMIT_RECORD_MISSING)
_SIZES = Step.of("no record is too large", Reason.COMMIT_RECORD_TOO_LARGE)
_REPETITION = Step.of("no records stand under too many paths", Reason.CAR_TOO_LARGE)
_TREE = (_RULES, _NODES, _PATHS, _RECORDS, _SIZES, _REPETITION)
_PARTIAL = "--partial: a commit brings only what it changed"


def inspect_car(
    data: bytes,
    *,
    signing_key: VerifyingKey | None,
    is_partial: bool,
    has_records: bool,
    max_tree_lines: int,
) -> Report:
    """Inspects a CAR file.

    Args:
        data: the file.
        signing_key: to check the commit's signature with.
        is_partial: whether nodes and records may be missing, as in what a commit brings.
        has_records: whether the report shall have the records.
        max_tree_lines: of the picture.
    """
    title = f"CAR of {len(data)} bytes"
    checks = Checklist()
    read = checks.run(_READ, lambda: _read(data))
    if read is None:
        checks.skip((COMMIT_OBJECT, SIGNATURE, *_TREE), "without the blocks")
        return Report(title, (), checks.results)
    roots, arrived = read
    blocks = dict(arrived)
    root = roots[0]
    commit = checks.run((COMMIT_OBJECT,), lambda: parse_root(blocks.get(root)))
    if commit is None:
        checks.skip((SIGNATURE, *_TREE), "without a commit")
        return Report(title, (_car_section(roots, arrived, None),), checks.results)
    if signing_key is None:
        checks.skip((SIGNATURE,), NO_KEY)
    else:
        checks.run((SIGNATURE,), lambda: signing_key.verify(commit.unsigned, commit.signature))
    survey = survey_tree(blocks, commit.data_cid, marks={}, max_lines=max_tree_lines)
    _check_tree(checks, survey, blocks, is_partial=is_partial)
    record_bytes = sum(len(blocks.get(cid, b"")) for _, cid in survey.records)
    is_bounded = checks.run((_REPETITION,), lambda: _is_bounded(record_bytes, data))
    return Report(
        title,
        (
            _car_section(roots, arrived, survey),
            commit_section(commit, root),
            _collections(survey),
        ),
        checks.results,
        tuple(survey.picture()),
        tuple(_records(survey, blocks)) if has_records and is_bounded else (),
    )


def _read(data: bytes) -> tuple[tuple[bytes, ...], list[tuple[bytes, bytes]]]:
    stream = stream_car(data)
    return stream.roots, list(stream.blocks)


def _is_bounded(record_bytes: int, data: bytes) -> bool:
    check_repetition(record_bytes, len(data))
    return True


def _check_tree(
    checks: Checklist, survey: Survey, blocks: Mapping[bytes, bytes], *, is_partial: bool
) -> None:
    _check(checks, _RULES, survey.problems[0] if survey.problems else None)
    if is_partial:
        checks.skip((_NODES,), _PARTIAL)
    else:
        _check(checks, _NODES, _missing_nodes(survey))
    _check(checks, _PATHS, _bad_path(survey))
    if is_partial:
        checks.skip((_RECORDS,), _PARTIAL)
    else:
        _check(checks, _RECORDS, _missing_record(survey, blocks))
    checks.run((_SIZES,), lambda: _check_sizes(survey, blocks))


def _check(checks: Checklist, step: Step, problem: ProtocolError | None) -> None:
    def report() -> None:
        if problem is not None:
            raise problem

    checks.run((step,), report)


def _missing_nodes(survey: Survey) -> ProtocolError | None:
    if survey.stub_count == 0:
        return None
    return MstError(Reason.MST_BLOCK_MISSING, f"{survey.stub_count} nodes are not in the CAR")


def _bad_path(survey: Survey) -> ProtocolError | None:
    for path, _ in survey.records:
        try:
            parse_path(path)
        except IdentifierError as error:
            return MstError(Reason.MST_KEY, error.detail)
    return None


def _missing_record(survey: Survey, blocks: Mapping[bytes, bytes]) -> ProtocolError | None:
    missing = [path for path, cid in survey.records if cid not in blocks]
    if not missing:
        return None
    what = f"{len(missing)} of {len(survey.records)} records are not in the CAR"
    return CommitError(Reason.COMMIT_RECORD_MISSING, what, path=missing[0])


def _check_sizes(survey: Survey, blocks: Mapping[bytes, bytes]) -> None:
    for path, cid in survey.records:
        check_record_size(blocks.get(cid, b""), path)


def _car_section(
    roots: tuple[bytes, ...], arrived: list[tuple[bytes, bytes]], survey: Survey | None
) -> Section:
    order = [cid for cid, _ in arrived]
    distinct = set(order)
    facts = section(
        "CAR",
        root=roots[0],
        further_roots=len(roots) - 1,
        blocks=len(arrived),
        repeated_blocks=len(arrived) - len(distinct),
        blobs=sum(not cid.startswith(DAG_CBOR_PREFIX) for cid in distinct),
    ).facts
    if survey is not None:
        in_order = [roots[0], *survey.order]
        facts += section(
            "",
            nodes=survey.node_count,
            records=len(survey.records),
            unreferenced_blocks=len(distinct.difference(in_order)),
            is_streamable=order[: len(in_order)] == in_order,
        ).facts
    return Section("CAR", facts)


def _collections(survey: Survey) -> Section:
    counts = Counter(path.partition("/")[0] for path, _ in survey.records)
    return Section(
        f"collections ({len(counts)})",
        tuple(Fact(collection, count) for collection, count in sorted(counts.items())),
    )


def _records(survey: Survey, blocks: Mapping[bytes, bytes]) -> Iterator[RecordView]:
    for path, cid in survey.records:
        block = blocks.get(cid)
        if block is not None:
            yield record_view(path, cid, block)
