"""The last beats of every process, and the rates that they give.

Pure. Bounded: a process has at most the beats of RATE_WINDOW_S, and the processes are those that
the compacted topic `status` holds.
"""

from collections import deque
from collections.abc import Iterator

from pipelines.kafka.beat import Beat

# Rates are means over this time: transactions come in steps, and a screen should not flicker.
RATE_WINDOW_S = 10.0


class History:
    """What processes said last."""

    def __init__(self) -> None:
        self._beats: dict[bytes, deque[Beat]] = {}

    def add(self, beat: Beat) -> None:
        """Takes in a beat; of each process they come in order."""
        beats = self._beats.setdefault(beat.key, deque())
        if beats and beats[-1].started_us != beat.started_us:
            beats.clear()  # another life: its counts began anew
        beats.append(beat)
        while beat.updated_us - beats[0].updated_us > RATE_WINDOW_S * 1e6:
            beats.popleft()

    def forget(self, key: bytes) -> None:
        """Forgets a process."""
        self._beats.pop(key, None)

    def latest(self) -> Iterator[Beat]:
        """Yields the last beat of each process."""
        for beats in self._beats.values():
            yield beats[-1]

    def rate(self, key: bytes, counter: str) -> float:
        """Returns how much a counter grew in a second, on average over the last beats.

        Args:
            key: of the process.
            counter: its name.

        Returns:
            0 where there are not two beats yet.
        """
        beats = self._beats.get(key)
        if not beats:
            return 0.0
        first, last = beats[0], beats[-1]
        grown = last.report.counters.get(counter, 0) - first.report.counters.get(counter, 0)
        seconds = (last.updated_us - first.updated_us) / 1e6
        return grown / seconds if seconds > 0 else 0.0
