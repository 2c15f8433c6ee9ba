"""Every reason has a meaning of its own."""

from pipelines.atproto.errors import Reason
from pipelines.atproto.meanings import MEANINGS


def test_each_reason_has_a_meaning_and_no_two_share_one() -> None:
    assert MEANINGS.keys() == set(Reason)
    assert len(set(MEANINGS.values())) == len(Reason)
    for meaning in MEANINGS.values():
        assert meaning.strip(" .") == meaning
        assert len(meaning) > 10
