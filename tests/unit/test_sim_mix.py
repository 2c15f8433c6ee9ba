"""How often what happens in a generated network: what can be set, and what cannot."""

import math
from dataclasses import asdict

import pytest

from pipelines.errors import ConfigError
from pipelines.sim.mix import EXCLUSIVE, Mix, Trouble, meanings

SHARES = [(shares, name) for shares in (Mix, Trouble) for name in meanings(shares)]


@pytest.mark.parametrize("shares", [Mix, Trouble])
def test_every_share_has_a_default_and_a_meaning(shares: type[Mix | Trouble]) -> None:
    defaults = asdict(shares())
    assert meanings(shares).keys() == defaults.keys()
    assert all(meanings(shares).values())
    assert len(set(meanings(shares).values())) == len(defaults)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, math.inf])
@pytest.mark.parametrize(("shares", "name"), SHARES)
def test_a_share_is_a_probability(shares: type[Mix | Trouble], name: str, share: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is {share}: choose a number from 0 to 1$"):
        shares(**{name: share})


def test_what_happens_next_is_one_thing() -> None:
    equal = 1 / len(EXCLUSIVE)
    Mix(**dict.fromkeys(EXCLUSIVE, equal))
    with pytest.raises(ConfigError, match=r"are 1\.1 together: choose 1 at most"):
        Mix(**dict.fromkeys(EXCLUSIVE[1:], equal), **{EXCLUSIVE[0]: equal + 0.1})


def test_what_goes_wrong_next_is_one_thing() -> None:
    """The account in the place of a deleted one is another question."""
    Trouble(drop_commit=0.5, import_repo=0.5, return_account=1)
    with pytest.raises(ConfigError, match=r"are 1\.1 together: choose 1 at most"):
        Trouble(drop_commit=0.5, import_repo=0.6)


def test_there_is_no_trouble_unless_it_is_asked_for() -> None:
    assert not any(asdict(Trouble()).values())
    assert not Trouble().is_any
    assert all(Trouble(**{name: 0.1}).is_any for name in meanings(Trouble))
