"""Numbers and times as people read them. Pure."""

import math

from pipelines.kafka.lag import Lag

UNKNOWN = "-"

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


def count_text(count: int) -> str:
    """Returns a count with its thousands apart."""
    return f"{count:,}"


def rate_text(per_second: float) -> str:
    """Returns a rate: whole numbers from ten on, one digit after the point below."""
    return f"{per_second:,.0f}" if per_second >= 9.95 or per_second == 0 else f"{per_second:.1f}"


def duration_text(seconds: float | None) -> str:
    """Returns a duration with one unit."""
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.0f} h"
    return f"{seconds / _DAY_S:,.0f} d"


def coverage_text(part: float | None) -> str:
    """Returns a part of 1 in per cent; only all of it is 100."""
    return UNKNOWN if part is None else f"{math.floor(part * 1000) / 10:.1f} %"


def behind_text(lag: Lag | None) -> str:
    """Returns how many messages somebody is behind; `~` marks an estimate."""
    if lag is None:
        return UNKNOWN
    return f"{'' if lag.is_exact else '~'}{lag.messages_count:,}"


def lag_text(lag: Lag | None) -> str:
    """Returns how old the oldest unprocessed message is."""
    return duration_text(None if lag is None else lag.seconds)
