"""Work and memory are bounded by the size of the input, whatever is in it (spec: M-01 to M-08).

Work is counted and not timed, see `support.work`: an input twice as large may cost twice as much
and not more, and a byte costs a few steps at most. The shapes are those that would hurt a careless
reader; those of text are bounded by their limits alone, which are a few kilobytes.
"""

import json
import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from support import oracle, wire
from support.admissions import NOBODY
from support.exports import Export, export, export_tree
from support.oracle import cid_of, dag_cbor, link
from support.parsers import PARSERS
from support.repo import (
    Repo,
    ScriptedKeys,
    commit_fields,
    make_op,
    make_step,
    op_fields,
    outcome,
    record,
    sign_commit,
)
from support.work import count_steps, peak_bytes

from pipelines.atproto import atjson, car, cbor, commit, frames
from pipelines.atproto.errors import Reason
from pipelines.atproto.frames import Action
from pipelines.atproto.mst import node
from pipelines.explode.outputs import (
    EVENT_JSON_BUDGET_BYTES,
    RECORDS_BUDGET_BYTES,
    OutputTopics,
    outputs_of,
)
from pipelines.explode.sources import Source
from pipelines.inspection.tree import survey_tree
from pipelines.kafka.messages import InputMessage
from pipelines.verdict import Proven, judge_frame

_STEP = make_step()
_ROOT = cid_of(b"")
_MANY = 400
# The dearest are empty maps in JSON that is not in our own form.
_MAX_STEPS_PER_BYTE = 20
# The dearest are empty byte strings in a record, since JSON has a map for each.
_MAX_MEMORY_PER_BYTE = 400


class _Shape(NamedTuple):
    """Inputs of one kind in any size.

    Attributes:
        call: what reads them.
        make: from a count to an input.
        is_cheap: whether large ones can be made for a test.
    """

    call: Callable[[bytes], object]
    make: Callable[[int], bytes]
    is_cheap: bool = True


def _paths(count: int) -> list[str]:
    return [f"com.example.note/{n:06}" for n in range(count)]


def _commit_of_creates(count: int) -> bytes:
    return Repo().apply({path: record("x") for path in _paths(count)}).frame()


def _export(count: int) -> Export:
    return export({path: {"n": n} for n, path in enumerate(_paths(count))})


def _shuffled(count: int) -> bytes:
    made = _export(count)
    blocks = made.ordered()
    return made.car(random.Random(count).sample(blocks, len(blocks)))


def _surplus(count: int) -> bytes:
    made = _export(9)
    return made.car([*made.ordered(), *(b"%d" % n for n in range(count))])


def _same_record(count: int) -> bytes:
    """A repository with one small record under many paths."""
    body = dag_cbor(record("x"))
    records = dict.fromkeys(_paths(count), cid_of(body))
    made = export_tree(oracle.build(records), records, {cid_of(body): body})
    return made.car(dict.fromkeys(made.ordered()))


def _node(count: int) -> bytes:
    keys = [path.encode() for path in _paths(count)]
    return oracle.encode_node(oracle.Node(keys, [_ROOT] * count, [None] * (count + 1)))


def _hung_everywhere(count: int) -> bytes:
    """A tree whose root has the same large node before and behind each of its keys."""
    leaf = oracle.encode_node(
        oracle.Node(
            [path.encode() for path in oracle.sample_paths(0, count)],
            [_ROOT] * count,
            [None] * (count + 1),
        )
    )
    keys = [path.encode() for path in oracle.sample_paths(1, count)]
    root = oracle.Node(keys, [_ROOT] * count, [cid_of(leaf)] * (count + 1))
    return wire.car(cid_of(oracle.encode_node(root)), [oracle.encode_node(root), leaf])


def _draw(raw: bytes) -> object:
    roots, blocks = car.read_car(raw)
    return survey_tree(blocks, roots[0], marks={}, max_lines=9)


def _byte_by_byte(raw: bytes) -> object:
    reader = car.CarReader()
    for n in range(len(raw)):
        reader.feed(raw[n : n + 1])
    reader.close()
    return reader.roots


_SHAPES = {
    "frame of a wide field": _Shape(frames.parse_frame, lambda n: _STEP.frame(blobs=[[]] * n)),
    "frame of many fields": _Shape(
        frames.parse_frame, lambda n: _STEP.frame(**{f"x{i}": {} for i in range(n)})
    ),
    "frame of an unknown type": _Shape(
        frames.parse_frame, lambda n: wire.frame("#x", {"a": [{"a": []}] * n})
    ),
    "frame with ops": _Shape(
        frames.parse_frame,
        lambda n: _STEP.frame(
            ops=[op_fields(make_op(Action.DELETE, p, None, _ROOT)) for p in _paths(n // 4)]
        ),
    ),
    "commit with ops": _Shape(
        PARSERS["commit.verify_commit"].call, lambda n: _commit_of_creates(n // 4), is_cheap=False
    ),
    "CAR of empty blocks": _Shape(car.read_car, lambda n: wire.car(_ROOT, [b""] * n)),
    "CAR of one block": _Shape(car.read_car, lambda n: wire.car(_ROOT, [bytes(n)])),
    "CAR byte by byte, one block": _Shape(
        _byte_by_byte, lambda n: wire.car(_ROOT, [bytes(n * 9)])
    ),
    "CAR byte by byte, many blocks": _Shape(
        _byte_by_byte, lambda n: wire.car(_ROOT, [b"%d" % i for i in range(n)]), is_cheap=False
    ),
    "repository in order": _Shape(
        PARSERS["repo.verify_repo"].call, lambda n: _export(n).car(), is_cheap=False
    ),
    "repository in another order": _Shape(
        PARSERS["repo.verify_repo"].call, _shuffled, is_cheap=False
    ),
    "repository in small pieces": _Shape(
        PARSERS["repo_reader.RepoReader.feed"].call, _shuffled, is_cheap=False
    ),
    "repository with surplus": _Shape(PARSERS["repo.verify_repo"].call, _surplus, is_cheap=False),
    "repository of one record": _Shape(
        PARSERS["repo.verify_repo"].call, _same_record, is_cheap=False
    ),
    "commit object of maps": _Shape(commit.parse_commit, lambda n: dag_cbor([{}] * n)),
    "node of many entries": _Shape(lambda raw: node.parse_node(raw, 0), _node),
    "node of many entries, cut": _Shape(
        lambda raw: node.parse_node(raw, 0), lambda n: _node(n)[:-1]
    ),
    "picture of a node that hangs everywhere": _Shape(_draw, _hung_everywhere, is_cheap=False),
    "CBOR of maps": _Shape(cbor.decode, lambda n: dag_cbor([{}] * n)),
    "CBOR, sequence": _Shape(cbor.decode_sequence, lambda n: b"\xa0" * n),
    "record of maps": _Shape(atjson.to_json, lambda n: dag_cbor({"a": [{}] * n})),
    "record of byte strings": _Shape(atjson.to_json, lambda n: dag_cbor({"a": [b""] * n})),
    "record of escapes": _Shape(atjson.to_json, lambda n: dag_cbor({"a": "\x01" * n})),
    "record of large integers": _Shape(atjson.to_json, lambda n: dag_cbor({"a": [2**63 - 1] * n})),
    "record of floats": _Shape(atjson.to_json, lambda n: dag_cbor({"a": [0.5] * n})),
    "JSON in our form": _Shape(
        atjson.from_json, lambda n: atjson.to_json(dag_cbor({"a": [{}] * n}))
    ),
    "JSON in another form": _Shape(atjson.from_json, lambda n: b'{"a":[%b 1]}' % (b"{}," * n)),
    "JSON of decimals": _Shape(atjson.from_json, lambda n: b'{"a":[%b 1]}' % (b"123.0," * n)),
    "JSON of escapes": _Shape(atjson.from_json, lambda n: b'{"a":"%b"}' % (rb"\u0001" * n)),
    "JSON without end": _Shape(atjson.from_json, lambda n: b'{"a":"%b' % (rb"\"[" * n)),
    "JSON of quotes": _Shape(atjson.from_json, lambda n: b'{"a":' + b'"' * n),
    "JSON of brackets": _Shape(atjson.from_json, lambda n: b"[]" * n + b"x"),
    "JSON of a long number": _Shape(atjson.from_json, lambda n: b'{"a":%b}' % (b"9" * n)),
    "JSON of base64": _Shape(
        atjson.from_json, lambda n: b'{"a":[%b 1]}' % (b'{"$bytes":"AA=="},' * n)
    ),
}


@pytest.mark.parametrize("shape", _SHAPES.values(), ids=_SHAPES)
def test_work_grows_with_the_input_and_not_faster(shape: _Shape) -> None:
    inputs = [shape.make(count) for count in (_MANY, 2 * _MANY)]
    small, large = (count_steps(partial(outcome, partial(shape.call, raw))) for raw in inputs)
    assert small > 0
    assert large - small <= _MAX_STEPS_PER_BYTE * (len(inputs[1]) - len(inputs[0]))
    # Twice the input, twice the steps; a tenth for what does not grow evenly.
    assert large <= 2.2 * small


@pytest.mark.parametrize(
    "shape", [pytest.param(shape, id=name) for name, shape in _SHAPES.items() if shape.is_cheap]
)
def test_memory_grows_with_the_input_and_not_faster(shape: _Shape) -> None:
    inputs = [shape.make(count) for count in (10_000, 20_000)]
    small, large = (peak_bytes(partial(outcome, partial(shape.call, raw))) for raw in inputs)
    assert large - small <= _MAX_MEMORY_PER_BYTE * (len(inputs[1]) - len(inputs[0]))
    assert large <= _MAX_MEMORY_PER_BYTE * len(inputs[1])


def test_a_frame_of_nothing_but_items_is_refused_before_they_are_made() -> None:
    """Spec: M-01."""
    raw = wire.frame("#x", {"a": [{}] * 4_900_000})
    assert outcome(lambda: frames.parse_frame(raw)) is Reason.FRAME_TOO_LARGE
    assert peak_bytes(partial(outcome, partial(frames.parse_frame, raw))) < 100_000


@pytest.mark.parametrize("item", [b"", {}, 1], ids=["byte string", "map", "integer"])
def test_a_record_of_nothing_but_items_is_refused_before_they_are_made(item: object) -> None:
    """Spec: A-31, M-01."""
    raw = dag_cbor({"a": [item] * 1_040_000})
    assert outcome(lambda: atjson.to_json(raw)) is Reason.JSON_TOO_LARGE
    assert peak_bytes(partial(outcome, partial(atjson.to_json, raw))) < 100_000


def test_a_commit_object_as_large_as_its_frame_is_refused_before_it_is_decoded() -> None:
    """Spec: M-01."""
    block = dag_cbor([{}] * 2_000_000)
    assert outcome(lambda: commit.parse_commit(block)) is Reason.COMMIT_FIELD
    assert peak_bytes(partial(outcome, partial(commit.parse_commit, block))) < 100_000


def test_a_record_that_200_ops_name_is_kept_once() -> None:
    """Spec: M-05, M-06: by the proof, and in what is published up to its budget."""
    body = dag_cbor(record("\x01" * 300_000))
    records = dict.fromkeys(_paths(200), cid_of(body))
    tree = oracle.build(records)
    step = Repo().apply({path: {} for path in records})
    block = sign_commit(commit_fields(tree.root))
    raw = wire.frame(
        "#commit",
        step.payload(
            commit=link(cid_of(block)),
            blocks=wire.car(cid_of(block), [block, *tree.nodes.values(), body]),
            ops=[op_fields(op._replace(cid=cid_of(body))) for op in step.ops],
        ),
    )
    verdict = judge_frame(raw, ScriptedKeys(), wire.START_US)
    assert isinstance(verdict, Proven)
    # The decoded frame and its blocks are one copy each; the codec holds another for a moment.
    assert peak_bytes(lambda: judge_frame(raw, ScriptedKeys(), wire.START_US)) < 5 * len(raw)

    source = Source("relay.example.com", 0, InputMessage("frames", 0, 0, 0, None, raw, []))
    topics = OutputTopics("events", "quarantine", "identities", "parked", "records", {}, NOBODY)
    outputs = outputs_of(verdict, source, topics)
    bodies = [json.loads(output.value or b"")["record"] for output in outputs[1:]]
    whole_count = RECORDS_BUDGET_BYTES // (6 * 300_000)
    assert [body is not None for body in bodies] == [True] * whole_count + [False] * (
        200 - whole_count
    )
    peak = peak_bytes(lambda: outputs_of(verdict, source, topics))
    # Buffers grow by doubling.
    assert peak < 2 * (EVENT_JSON_BUDGET_BYTES + RECORDS_BUDGET_BYTES)
