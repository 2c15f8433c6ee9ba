"""What the property tests generate: repositories and edits, values, and damaged bytes."""

import random
from typing import Any

from hypothesis import strategies as st
from support import oracle, plc
from support.damage import damage
from support.oracle import cid_of, link

from pipelines.atproto.syntax import Did

# Keys of many layers, near each other and far: what matters is where they stand among each other.
# Uniform keys would practically all be of layers 0 and 1.
_KEYS_BY_LAYER = [
    oracle.sample_paths(layer, count) for layer, count in enumerate((60, 40, 20, 9, 4, 2))
]
PATHS = tuple(sorted(path for paths in _KEYS_BY_LAYER for path in paths))

paths = st.one_of(*map(st.sampled_from, _KEYS_BY_LAYER))
record_cids = st.integers(0, 3).map(lambda n: cid_of(b"record %d" % n))


def repositories(max_size: int = 24) -> st.SearchStrategy[dict[str, bytes]]:
    """Path → record CID."""
    return st.dictionaries(paths, record_cids, max_size=max_size)


@st.composite
def edits(draw: st.DrawFn) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A repository before and after a commit: often a few changes, sometimes another one."""
    before = draw(repositories())
    after = before | draw(repositories(max_size=6))
    if before:
        for path in draw(st.sets(st.sampled_from(sorted(before)), max_size=6)):
            after.pop(path, None)
    return before, after


_texts = st.text(max_size=8)
_byte_strings = st.one_of(
    st.binary(max_size=40), st.just(cid_of(b"")), st.just(b"\x12\x20" + cid_of(b"")[4:])
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-300, 300),
    _texts,
    _byte_strings,
    record_cids.map(link),
)
# Reserved names often enough to meet both their proper and their improper use.
_names = st.one_of(_texts, st.sampled_from(["$link", "$bytes", "$type", "a", "aa", "é"]))

dag_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_names, inner, max_size=4)
    ),
    max_leaves=20,
)
records = st.dictionaries(_names, dag_values, max_size=5)


def damaged(raw: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with something changed, cut out, put in, repeated or cut off."""
    return st.tuples(st.integers(0, 2**32), st.integers(1, 3)).map(
        lambda seeds: damage(raw, random.Random(seeds[0]), seeds[1])
    )


# JSON as directories and hosts serve it, with the members of PLC operations and of their log.
_plc_members = st.sampled_from(
    [*plc.entry(0, plc.create(), Did("")), *plc.operation(), *plc.create(), "atproto", "seq"]
)
_plc_names = st.one_of(st.text(max_size=4), _plc_members)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_plc_names, inner, max_size=7)
    ),
    max_leaves=20,
)
