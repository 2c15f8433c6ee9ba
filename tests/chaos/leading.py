"""Which of several bridges leads, by what they have logged since they were started: pure."""

import json
from collections.abc import Iterable, Mapping, Sequence

_BEGINS = "leading"
_ENDS = frozenset({"standing_by", "leadership_lost", "leadership_ended"})


def leads(lines: Iterable[str]) -> bool:
    """Tells whether a bridge believes that it leads.

    Args:
        lines: of its log since its start; those that are no JSON, or not yet whole, do not count.
    """
    events = [event for line in lines if (event := _event(line)) in _ENDS | {_BEGINS}]
    return events[-1:] == [_BEGINS]


def only_leader(logs: Mapping[str, Sequence[str]]) -> str | None:
    """Returns the one bridge that believes that it leads.

    One that stood still believes it for a while after it goes on; then there are two, and nobody
    can tell which one writes.

    Args:
        logs: the lines of each bridge that is at work.

    Returns:
        Its name, or None if there is none or more than one.
    """
    leaders = [name for name, lines in logs.items() if leads(lines)]
    return leaders[0] if len(leaders) == 1 else None


def _event(line: str) -> str | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return str(found.get("event")) if isinstance(found, dict) else None
