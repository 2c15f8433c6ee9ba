"""Whether an upstream whose socket is open still tells us what happens.

A connection can be alive, answer every ping, and bring nothing, a part only, or old news. Nobody
but the upstream knows what there is to bring; what we know is what it used to bring.

    silent   nothing for RECENT_SLOTS, although much was to be expected
    slow     less than SLOW_PART of what is usual
    stale    events that are ever older: what we get falls further behind the clock

The model: time is cut into slots of SLOT_S. A slot counts only if we were connected and reading
all through it, since an upstream that we keep waiting is not to blame. The last RECENT_SLOTS are
compared with the median of up to USUAL_SLOTS before them, which a burst or a pause does not move.
Slots in which an upstream catches us up do not belong to what is usual, nor do those in which it
is in trouble. A small host is silent for hours by right: where little is to be expected, nothing
is said. One that has brought nothing at all since we began has no usual rate: it is silent once
that has lasted as long as it had been quiet before we began, and UNHEARD_S at least. Times that
are a week off are a recording's or a wrong clock's, and prove nothing.

Pure: the caller brings the clock.
"""

import statistics
from collections import deque
from enum import StrEnum
from typing import NamedTuple

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import parse_datetime

SLOT_S = 10.0
RECENT_SLOTS = 6
USUAL_SLOTS = 60
# The patience with an upstream that has yet to bring its first event. A relay has one at once.
UNHEARD_S = 600.0
# So many slots tell what is usual: two minutes.
LEARNED_SLOTS = 12
# Events expected in RECENT_SLOTS from which on their absence is no chance: even those of a few
# people, who come and go together, are not all silent at once.
SILENT_EXPECTED_COUNT = 20
SLOW_EXPECTED_COUNT = 100
SLOW_PART = 0.2
# It is well again at this part of what is usual.
WELL_PART = 0.5
# A rate that has been low for so long is taken for the usual one.
RELEARN_S = 3600.0
# Older events are not the present: the upstream lags, or catches us up.
LIVE_DELAY_S = 60.0
# How fast the delay has to grow, in seconds a second, for events to be ever older.
STALE_GROWTH = 0.25
# More than any upstream keeps.
BELIEVABLE_DELAY_S = 7 * 86_400.0
# Events of a slot whose times are looked at; their median is not that of a sender with a wrong
# clock.
SAMPLES_COUNT = 15


def age_s(now_us: int, time: str | None) -> float | None:
    """Returns how long ago an event happened, in seconds; negative for one that is to come.

    Args:
        now_us: the time of day, microseconds since the epoch.
        time: the upstream's clock, as it stands in the event.

    Returns:
        The age; None if that is no time.
    """
    try:
        return (now_us - parse_datetime(time)) / 1e6
    except ProtocolError:
        return None


class Trouble(StrEnum):
    """How an upstream fails to tell us what happens."""

    SILENT = "silent"
    SLOW = "slow"
    STALE = "stale"


class Finding(NamedTuple):
    """An upstream in trouble.

    Attributes:
        trouble: its kind.
        since_s: when it was noticed, by the caller's clock.
        detail: what was seen, for a person.
    """

    trouble: Trouble
    since_s: float
    detail: str


class _Slot(NamedTuple):
    events_count: int
    delay_s: float | None

    @property
    def is_live(self) -> bool:
        return self.delay_s is None or self.delay_s < LIVE_DELAY_S


class Vitals:
    """What one upstream brought lately. Times are seconds of a clock that never goes back.

    Attributes:
        finding: what is wrong, as of the last slot; None if nothing is.
    """

    def __init__(self, quiet_before_s: float = 0.0) -> None:
        """Knows nothing, and is not connected.

        Args:
            quiet_before_s: age of the last event that we have of the upstream; 0 if we have none.
        """
        self._patience_s = max(UNHEARD_S, min(quiet_before_s, BELIEVABLE_DELAY_S))
        self._unheard_slots: int | None = 0  # without any event so far; None after the first one
        self._usual: deque[int] = deque(maxlen=USUAL_SLOTS)
        self._recent: deque[_Slot] = deque()
        self._slot_end_s: float | None = None
        self._is_whole = True
        self._count = 0
        self._delays_s: list[float] = []
        self.finding: Finding | None = None

    def begin_connection(self, now_s: float) -> None:
        """Starts a first slot; what is usual is known from earlier connections."""
        self._recent.clear()
        self._begin_slot(now_s)
        self.finding = None

    def end_connection(self) -> None:
        """Judges nothing until the next connection."""
        self._slot_end_s = None
        self.finding = None

    def hold_up(self) -> None:
        """Takes note that we do not read now."""
        self._is_whole = False

    def observe(self, now_s: float, received_us: int, time: str | None) -> None:
        """Takes note of an event that was not there before.

        Args:
            now_s: the clock.
            received_us: the time of day, microseconds since the epoch.
            time: the upstream's clock, as it stands in the event.
        """
        self.advance(now_s)
        self._unheard_slots = None
        self._count += 1
        if self._count <= SAMPLES_COUNT:
            delay_s = age_s(received_us, time)
            if delay_s is not None and abs(delay_s) < BELIEVABLE_DELAY_S:
                self._delays_s.append(delay_s)

    def advance(self, now_s: float) -> None:
        """Lets time pass; to be called every now and then also when nothing comes."""
        if self._slot_end_s is None or now_s < self._slot_end_s:
            return
        late_s = now_s - self._slot_end_s
        if late_s >= SLOT_S:
            # Nobody looked for a whole slot: we slept, and cannot know what came when.
            self.hold_up()
        self._end_slot(self._slot_end_s)
        self._begin_slot(now_s if late_s >= SLOT_S else self._slot_end_s)

    def _begin_slot(self, start_s: float) -> None:
        self._slot_end_s = start_s + SLOT_S
        self._is_whole = True
        self._count = 0
        self._delays_s = []

    def _end_slot(self, end_s: float) -> None:
        if not self._is_whole:
            self._recent.clear()
            return
        if self._unheard_slots is not None:
            self._unheard_slots += 1
        delay_s = statistics.median(self._delays_s) if self._delays_s else None
        self._recent.append(_Slot(self._count, delay_s))
        if len(self._recent) > RECENT_SLOTS:
            leaving = self._recent.popleft()
            if self.finding is None and leaving.is_live:
                self._usual.append(leaving.events_count)
        self._judge(end_s)

    def _judge(self, now_s: float) -> None:
        known = self.finding
        found = self._find() if len(self._recent) == RECENT_SLOTS else None
        if found is None:
            self.finding = None
            return
        trouble, detail = found
        since_s = known.since_s if known is not None and known.trouble is trouble else now_s
        self.finding = Finding(trouble, since_s, detail)
        if trouble is Trouble.SLOW and now_s - since_s >= RELEARN_S:
            self._usual.clear()
            self.finding = None

    def _find(self) -> tuple[Trouble, str] | None:
        unheard_s = (self._unheard_slots or 0) * SLOT_S
        if unheard_s >= self._patience_s:
            return Trouble.SILENT, f"no event in the first {unheard_s:.0f} s"
        window_s = round(RECENT_SLOTS * SLOT_S)
        count = sum(slot.events_count for slot in self._recent)
        if len(self._usual) >= LEARNED_SLOTS:
            usual = statistics.median(self._usual) * RECENT_SLOTS
            detail = f"{count} events in {window_s} s, where {usual:.0f} are usual"
            if count == 0 and usual >= SILENT_EXPECTED_COUNT:
                return Trouble.SILENT, detail
            is_low = self.finding is not None and self.finding.trouble is not Trouble.STALE
            part = WELL_PART if is_low else SLOW_PART
            if usual >= SLOW_EXPECTED_COUNT and count < part * usual:
                return Trouble.SLOW, detail
        first_s, last_s = self._recent[0].delay_s, self._recent[-1].delay_s
        if first_s is None or last_s is None or last_s < LIVE_DELAY_S:
            return None
        passed_s = (RECENT_SLOTS - 1) * SLOT_S
        if last_s - first_s < STALE_GROWTH * passed_s:
            return None
        return (
            Trouble.STALE,
            f"events are {last_s:.0f} s old, {passed_s:.0f} s ago {first_s:.0f} s",
        )
