"""Whatever a subscriber of the JSON stream sends, it is understood or an `OptionsError`."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st
from property import strategies

from pipelines.serving.jetstream_options import (
    MAX_COLLECTIONS,
    MAX_DIDS,
    OptionsError,
    Wanted,
    parse_query,
    parse_update,
)

_NAMES = (
    "wantedCollections",
    "wantedDids",
    "cursor",
    "maxMessageSizeBytes",
    "requireHello",
    "compress",
)
_GOOD = st.sampled_from(
    [
        "app.bsky.feed.post",
        "app.bsky.graph.*",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "did:web:example.com",
        "1725519626134432",
        "0",
        "true",
    ]
)
_TEXTS = st.one_of(_GOOD, st.text(max_size=30), st.builds(lambda a, b: a + b, _GOOD, st.text()))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=10,
)
_HONEST = json.dumps(
    {
        "type": "options_update",
        "payload": {
            "wantedCollections": ["app.bsky.feed.post", "app.bsky.graph.*"],
            "wantedDids": ["did:plc:ewvi7nxzyoun6zhxrhs64oiz"],
            "maxMessageSizeBytes": 1_000_000,
        },
    }
).encode()


def check(wanted: Wanted) -> None:
    assert len(wanted.dids) <= MAX_DIDS
    assert len(wanted.collections) + len(wanted.prefixes) <= MAX_COLLECTIONS
    assert wanted.max_bytes >= 0
    assert all(wanted.takes_account(did) for did in wanted.dids)
    assert all(wanted.takes_collection(name) for name in wanted.collections)
    assert all(wanted.takes_collection(f"{prefix}x") for prefix in wanted.prefixes)
    assert all(prefix.endswith(".") for prefix in wanted.prefixes)


@given(st.dictionaries(st.sampled_from(_NAMES), st.lists(_TEXTS, max_size=4)))
def test_an_address_is_understood_or_refused(query: dict[str, list[str]]) -> None:
    with contextlib.suppress(OptionsError):
        found = parse_query(query)
        check(found.wanted)
        assert found.cursor_us is None or 0 <= found.cursor_us < 10**18


@given(
    st.one_of(
        strategies.damaged(_HONEST),
        st.binary(max_size=200),
        st.text(),
        st.builds(
            lambda payload: json.dumps({"type": "options_update", "payload": payload}),
            st.one_of(_JSON, st.dictionaries(st.sampled_from(_NAMES), _JSON)),
        ),
    )
)
def test_a_message_is_understood_or_refused(message: str | bytes) -> None:
    with contextlib.suppress(OptionsError):
        found = parse_update(message)
        if found is not None:
            check(found)


def test_the_honest_message_is_understood() -> None:
    found = parse_update(_HONEST)
    assert found is not None
    check(found)
    assert found.max_bytes == 1_000_000
