"""What the bridges say about each upstream that they read. Pure.

The groups are those that the bridge reports, with a number for each host.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.kafka.beat import Report
from pipelines.status.text import duration_text

# Groups of upstreams in trouble, and what is the matter with one then.
TROUBLES: Final = {
    "silent": "its connection is open and brings nothing",
    "slow": "its connection brings far less than before",
    "stale": "its connection brings events that are ever older",
    "misaddressed": "there is no event stream at its address, and never was",
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream.

    Attributes:
        host: its name.
        is_connected: whether there is a connection.
        seq: up to where it was copied; None before the first event.
        delay_s: how much later than its own time we received that event; None likewise.
        first_count: events since the start that it brought before any other.
        coverage: the part that it brought of all events since the start, of 1; None before the
            first one.
        missing_count: events since the start that others brought and this one has not.
        trouble: how it fails to tell what happens; None if it does not, or is away.
        trouble_us: since when, microseconds since the epoch.
    """

    host: str
    is_connected: bool
    seq: int | None
    delay_s: float | None
    first_count: int
    coverage: float | None
    missing_count: int
    trouble: str | None
    trouble_us: int | None


def upstreams_in(reports: Iterable[Report]) -> Sequence[Upstream]:
    """Returns the upstreams of processes that are alive, by host; stand-bys read none."""
    found: dict[str, Upstream] = {}
    for report in reports:
        if report.counters.get("connections"):
            found |= {one.host: one for one in _upstreams_of(report)}
    return [found[host] for host in sorted(found)]


def troubles_in(upstreams: Iterable[Upstream], now_us: int) -> Iterator[str]:
    """Yields a sentence for each upstream that is in trouble.

    Args:
        upstreams: those there are.
        now_us: the time of day, microseconds since the epoch.
    """
    for upstream in upstreams:
        if upstream.trouble is not None:
            seconds = (now_us - (upstream.trouble_us or now_us)) / 1e6
            yield (
                f"upstream {upstream.host} is {upstream.trouble} for {duration_text(seconds)}: "
                f"{TROUBLES[upstream.trouble]}; "
                "look at it, or have the bridge read another one"
            )


def upstream_state(upstream: Upstream) -> str:
    """Returns in a word how an upstream is."""
    return upstream.trouble or ("connected" if upstream.is_connected else "away")


def upstreams_text(report: Report) -> str:
    """Returns how many upstreams a bridge has, as the beginning of a line; nothing for one."""
    connected = report.groups.get("connected", {})
    if len(connected) < 2:
        return ""
    return f"{sum(connected.values())} of {len(connected)} upstreams, "


def _upstreams_of(report: Report) -> Iterator[Upstream]:
    groups = report.groups

    def number(group: str, host: str) -> int | None:
        return groups.get(group, {}).get(host)

    for host, connected in groups.get("connected", {}).items():
        delay_ms, coverage_ppm = number("delay_ms", host), number("coverage_ppm", host)
        trouble = next((name for name in TROUBLES if number(name, host) is not None), None)
        yield Upstream(
            host=host,
            is_connected=bool(connected),
            seq=number("seq", host),
            delay_s=None if delay_ms is None else delay_ms / 1000,
            first_count=number("first", host) or 0,
            coverage=None if coverage_ppm is None else coverage_ppm / 1_000_000,
            missing_count=number("missing", host) or 0,
            trouble=trouble,
            trouble_us=None if trouble is None else number(trouble, host),
        )
