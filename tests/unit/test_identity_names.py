"""Host names on the public network and elsewhere (spec: E-04, E-08, E-09)."""

import pytest

from pipelines.identity.names import is_public_name


@pytest.mark.parametrize("host", ["example.com", "a.b.co.uk", "test.example.org", "xn--ls8h.la"])
def test_public_names(host: str) -> None:
    assert is_public_name(host)
    assert is_public_name(host.upper())


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "pds",
        "127.0.0.1",
        "a.alt",
        "a.arpa",
        "a.example",
        "a.internal",
        "a.invalid",
        "a.local",
        "a.localhost",
        "a.onion",
        "a.test",
        "A.TEST",
        "[::1]",
    ],
)
def test_names_of_ones_own(host: str) -> None:
    assert not is_public_name(host)
