"""Commits, nodes and ops on any input: values or one family of errors."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from property import strategies
from support.oracle import cid_of, dag_cbor, link
from support.repo import (
    DID,
    SIGNER,
    commit_fields,
    make_op,
    make_step,
    op_fields,
    outcome,
    sign_commit,
)
from support.wire import car

from pipelines.atproto import mst
from pipelines.atproto.commit import open_commit, parse_commit, verify_commit
from pipelines.atproto.errors import CommitError, Reason
from pipelines.atproto.frames import Action

_STEP = make_step()
_FIELDS = ["did", "version", "data", "rev", "prev", "sig", "x"]


@given(
    raw=st.one_of(
        st.binary(max_size=200),
        strategies.damaged(_STEP.commit),
        st.builds(
            lambda field, value: dag_cbor(
                {**commit_fields(_STEP.after.root), "sig": bytes(64), field: value}
            ),
            st.sampled_from(_FIELDS),
            strategies.dag_values,
        ),
    )
)
def test_any_bytes_are_a_canonical_commit_or_refused(raw: bytes) -> None:
    """Spec: A-13, B-02."""
    commit = outcome(lambda: parse_commit(raw), CommitError)
    if isinstance(commit, Reason):
        assert commit in {Reason.COMMIT_FIELD, Reason.COMMIT_VERSION}
        return
    fields = {
        "did": commit.did,
        "version": 3,
        "data": link(commit.data_cid),
        "rev": commit.rev,
        "prev": None if commit.prev is None else link(commit.prev),
    }
    assert dag_cbor(fields) == commit.unsigned
    assert dag_cbor(fields | {"sig": commit.signature}) == commit.block == raw


@given(raw=st.one_of(st.binary(max_size=200), strategies.damaged(_STEP.car)))
def test_any_blocks_hold_a_commit_or_are_refused(raw: bytes) -> None:
    opened = outcome(lambda: open_commit(DID, raw))
    assert isinstance(opened, Reason) or (
        opened.blocks[opened.commit_cid] == opened.commit.block == _STEP.commit
    )


@st.composite
def _bad_nodes(draw: st.DrawFn) -> dict[bytes, bytes]:
    """The nodes of a tree, one of them replaced by something else under its CID.

    No CAR can bring that; it leads the tree's checks to every place without the labour of making
    hashes that fit.
    """
    nodes = dict(_STEP.after.nodes)
    victim = draw(st.sampled_from(sorted(nodes)))
    value: Any = draw(
        st.one_of(
            strategies.damaged(nodes[victim]),
            st.sampled_from(sorted(nodes.values())),
            strategies.dag_values.map(dag_cbor),
            strategies.records.map(dag_cbor),
        )
    )
    return nodes | {victim: value}


_any_ops = st.lists(
    st.builds(
        make_op,
        st.sampled_from(Action),
        st.one_of(strategies.paths, st.sampled_from([op.path for op in _STEP.ops])),
        st.one_of(st.none(), strategies.record_cids),
        st.one_of(st.none(), strategies.record_cids),
    ),
    max_size=3,
)


@given(nodes=_bad_nodes(), ops=st.one_of(st.just(list(_STEP.ops)), _any_ops))
def test_any_nodes_and_ops_give_a_root_or_are_refused(
    nodes: dict[bytes, bytes], ops: list[Any]
) -> None:
    """Spec: B-30, G-11."""
    root = outcome(lambda: mst.invert(nodes, _STEP.after.root, ops))
    assert isinstance(root, Reason) or len(root) == 36


@given(root_node=st.one_of(strategies.dag_values, strategies.records).map(dag_cbor))
def test_a_signature_over_nonsense_proves_nothing(root_node: bytes) -> None:
    """Spec: G-11, G-12: the account itself may sign a tree that is none."""
    block = sign_commit(commit_fields(cid_of(root_node), rev=_STEP.rev))
    message = _STEP.message(
        commit=link(cid_of(block)),
        blocks=car(cid_of(block), [block, root_node, *_STEP.records.values()]),
        ops=[op_fields(op) for op in _STEP.ops],
    )
    assert isinstance(outcome(lambda: verify_commit(message, SIGNER.key)), Reason)
