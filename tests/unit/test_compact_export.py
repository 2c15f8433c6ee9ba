"""A repository made again from messages, and what of it cannot be."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from support import oracle
from support.events import rev, source
from support.exports import Export, export
from support.reexport import export_again, export_messages, messages_of
from support.repo import DID

from pipelines.atproto.commit import parse_commit
from pipelines.compact.events import Body
from pipelines.compact.export import ExportError
from pipelines.compact.outputs import OutputTopics, tombstone_messages
from pipelines.compact.provenance import block_of
from pipelines.compact.state import RepoState
from pipelines.kafka.messages import OutputMessage

PATHS = [path for layer in range(3) for path in oracle.sample_paths(layer, 4)]
REPO = export({path: {"$type": "a.b.c", "n": n % 7} for n, path in enumerate(PATHS)})


def bodies(repo: Export) -> dict[str, bytes]:
    return {path: block for path, _, block in repo.contents()}


def messages(repo: Export = REPO) -> list[OutputMessage]:
    return messages_of(DID, parse_commit(repo.commit).rev, bodies(repo))


def with_body(**members: Any) -> list[OutputMessage]:
    """Returns the messages of the repository, one of them with other members in its value."""
    first, *others = messages()
    assert first.value is not None
    value = orjson.loads(first.value) | members
    return [first._replace(value=orjson.dumps(value)), *others]


def test_the_blocks_come_in_the_order_of_a_stream(tmp_path: Path) -> None:
    """Spec: C-10: byte for byte what the oracle writes."""
    assert export_again(tmp_path, REPO.commit, bodies(REPO)) == REPO.car()


def test_an_empty_repository_is_a_commit_and_the_empty_node(tmp_path: Path) -> None:
    """Spec: B-28."""
    empty = export({})
    assert export_again(tmp_path, empty.commit, {}) == empty.car()


def test_of_a_record_the_last_message_counts(tmp_path: Path) -> None:
    path = PATHS[0]
    older = messages_of(DID, rev(1), {path: oracle.dag_cbor({"older": True})})
    assert export_again(tmp_path, REPO.commit, bodies(REPO), older) == REPO.car()


def test_a_record_that_is_gone_is_not_in_it(tmp_path: Path) -> None:
    gone = "a.b.c/gone"
    state = RepoState(DID, source(), deleted_rev=rev(1))
    written = messages_of(DID, rev(1), {gone: oracle.dag_cbor({})})
    topics = OutputTopics("repos", "resyncs", "latest.other", {})
    [null] = tombstone_messages(DID, gone, "", state, 0, topics)
    assert export_again(tmp_path, REPO.commit, bodies(REPO), [*written, null]) == REPO.car()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        pytest.param(
            {"record": None, "record_error": "json.too_large"},
            r"without its body \(json\.too_large\): nothing was exported\. `standpipe audit at://",
            id="no body",
        ),
        pytest.param({"record": {"n": 1_000}}, "than its CID says", id="another"),
        pytest.param({"record": {"$link": 1}}, "json.ambiguous", id="no JSON of ours"),
    ],
)
def test_a_body_that_is_not_there_is_told_with_its_record_and_what_helps(
    tmp_path: Path, members: dict[str, Any], says: str
) -> None:
    cids = dict(REPO.records)
    changed = with_body(**members)
    with pytest.raises(ExportError, match=says) as raised:
        export_messages(tmp_path, REPO.commit, changed, cids)
    assert (changed[0].key or b"").decode() in str(raised.value)


def test_a_record_that_was_not_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="try again"):
        export_messages(tmp_path, REPO.commit, messages()[1:], REPO.records)


def test_a_record_without_json_has_its_cbor() -> None:
    assert block_of(Body(None, "cbor.depth", "oA==")) == b"\xa0"
    assert block_of(Body({}, None, None)) == b"\xa0"
    assert block_of(Body(None, "json.too_large", None)) is None
