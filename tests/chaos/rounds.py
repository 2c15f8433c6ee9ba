"""A whole round with its verdict."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from chaos.faults import Kind, shuffled
from chaos.outcome import Outcome, judge
from chaos.round import running_round


def run_round(
    folder: Path,
    capture: Path,
    seed: int,
    counts: Mapping[Kind, int],
    tell: Callable[[str], None],
    *,
    relays_count: int = 2,
    bridges_count: int = 2,
    repeats_count: int = 2,
    has_struck: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Runs a round to its end.

    Args:
        folder: for everything that it writes; empty.
        capture: a captured network, mixed in.
        seed: what follows from it: network, faults, pauses.
        counts: how many faults of which kind.
        tell: gets a line for each fault, and for each thing that was compared.
        relays_count: how many upstreams there are.
        bridges_count: how many bridges, of which one leads.
        repeats_count: how often kinds of which no fault counts are made once more.
        has_struck: whether what the stages do to themselves is done; the round waits for it.
    """
    with running_round(
        folder,
        capture,
        seed,
        tell,
        relays_count=relays_count,
        bridges_count=bridges_count,
    ) as (round_, network):
        round_.run(shuffled(counts, Random(seed)), repeats_count, has_struck)
        outcome = judge(
            round_.config,
            network,
            folder,
            capture,
            round_.struck,
            round_.crew.restarts_count,
            [upstream.host for upstream in round_.upstreams],
        )
    made, counted = Counter(fault.kind for fault in outcome.struck), Counter(outcome.counted)
    for kind in made:
        tell(f"{kind}: {made[kind]}, of which {counted[kind]} count")
    tell(f"frames that are there again with a reason: {outcome.repeats_count}")
    for comparison in outcome.comparisons:
        tell(str(comparison))
    return outcome
