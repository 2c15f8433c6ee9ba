"""How often what happens in a generated network: what can be set, and what cannot."""

import math
from dataclasses import asdict

import pytest

from pipelines.errors import ConfigError
from pipelines.sim.mix import EXCLUSIVE, Mix, meanings


def test_every_share_has_a_default_and_a_meaning() -> None:
    defaults = asdict(Mix())
    assert meanings().keys() == defaults.keys()
    assert all(meanings().values())
    assert len(set(meanings().values())) == len(defaults)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, math.inf])
@pytest.mark.parametrize("name", meanings())
def test_a_share_is_a_probability(name: str, share: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is {share}: choose a number from 0 to 1$"):
        Mix(**{name: share})


def test_what_happens_next_is_one_thing() -> None:
    equal = 1 / len(EXCLUSIVE)
    Mix(**dict.fromkeys(EXCLUSIVE, equal))
    with pytest.raises(ConfigError, match=r"are 1\.1 together: choose 1 at most"):
        Mix(**dict.fromkeys(EXCLUSIVE[1:], equal), **{EXCLUSIVE[0]: equal + 0.1})
