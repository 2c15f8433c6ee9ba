"""The option of commands that read lists of repositories, and what they are read with."""

from typing import Final

import click

from pipelines.identity.fetching import Fetcher, FetchLimits, Guard
from pipelines.identity.pace import PaceLimits

DEFAULT_PAGES_PER_S: Final = 5.0
# A page may be made from a table that was not asked for in weeks.
PAGE_TIMEOUT_S: Final = 60.0

rate_option = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_PAGES_PER_S,
    show_default=True,
    metavar="R",
    help="Pages a second that one host is asked for at most; a page has up to 1,000 repositories.",
)


def page_fetcher(rate: float, concurrent_count: int, guard: Guard | None) -> Fetcher:
    """Returns what reads pages.

    Args:
        rate: pages a second of one host.
        concurrent_count: hosts at once.
        guard: as of `Fetcher`.
    """
    pace = PaceLimits(1, rate, max(1, int(rate)))
    return Fetcher(FetchLimits(pace, concurrent_count, PAGE_TIMEOUT_S), guard, takes_gzip=True)
