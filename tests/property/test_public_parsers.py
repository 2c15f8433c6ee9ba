"""On any input every way into the protocol core returns or raises the one family of errors."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property import strategies
from support.oracle import dag_cbor
from support.parsers import NO_PARSERS, PARSERS, Parser, public_names

from pipelines.atproto.errors import ProtocolError

_HONEST_BYTES = [parser.honest for parser in PARSERS.values() if isinstance(parser.honest, bytes)]
_HONEST_TEXT = [parser.honest for parser in PARSERS.values() if isinstance(parser.honest, str)]
# Maps, lists and links without end, and their like in JSON.
_DEEP = st.builds(
    lambda head, count, tail: head * count + tail,
    st.sampled_from([b"\x81", b"\xa1\x61a", b"\xd8\x2a", b"[", b'{"a":', b"[{", b"]"]),
    st.integers(100, 5_000),
    st.binary(max_size=2),
)


def _bytes_like(honest: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(
        strategies.damaged(honest),
        st.binary(max_size=200),
        st.sampled_from(_HONEST_BYTES),
        strategies.dag_values.map(dag_cbor),
        _DEEP,
        # What follows a good beginning.
        st.builds(
            lambda cut, rest: honest[: cut % (len(honest) + 1)] + rest,
            st.integers(0, 5_000),
            _DEEP,
        ),
    )


def _objects_like(honest: str) -> st.SearchStrategy[object]:
    return st.one_of(
        strategies.damaged(honest.encode()).map(
            lambda raw: raw.decode("utf-8", "surrogateescape")
        ),
        st.text(),
        st.sampled_from(_HONEST_TEXT),
        st.builds(lambda text, count: text * count, st.text(max_size=3), st.integers(1, 5_000)),
        st.builds(lambda text: honest + text, st.text(max_size=3)),
        strategies.dag_values,
        st.just(honest.encode()),
    )


def test_every_public_callable_is_fuzzed_or_needs_no_fuzzing() -> None:
    """To whoever adds one: name it in `support.parsers`."""
    names = list(public_names())
    exempt = [name for names in NO_PARSERS.values() for name in names]
    assert sorted([*PARSERS, *exempt]) == sorted(names)


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
def test_any_input_is_taken_or_refused(parser: Parser) -> None:
    parser.call(parser.honest)  # else only its first check would be tried

    @settings(max_examples=60)
    @given(data=st.data())
    def fuzz(data: st.DataObject) -> None:
        honest = parser.honest
        like = _bytes_like(honest) if isinstance(honest, bytes) else _objects_like(honest)
        raw = data.draw(like)
        with suppress(ProtocolError):
            parser.call(raw)

    fuzz()
