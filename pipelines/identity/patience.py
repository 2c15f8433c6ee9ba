"""How long a batch waits for look-ups before it goes on without them. Pure.

A wait is worth it while answers come in time. After one that was in vain the next ones are hardly
waits at all, until some answer comes within the usual time: whoever is slow or away costs one
wait, and not one a batch.
"""

import math
from typing import Final

# The wait after one that was in vain.
IMPATIENT_WAIT_S: Final = 0.05


class Patience:
    """Waits for one kind of host. Times are seconds of one clock."""

    def __init__(self, wait_s: float) -> None:
        """Starts patient.

        Args:
            wait_s: the usual wait of a batch.
        """
        self._wait_s = wait_s
        self._next_s = wait_s
        # Before the first batch: whoever asks for something waits until it is there.
        self._until_s = math.inf
        self._is_cut_short = False

    def begin(self, now_s: float, max_wait_s: float) -> None:
        """Begins a batch, which waits for `max_wait_s` at most."""
        self._until_s = now_s + min(self._next_s, max_wait_s)
        self._is_cut_short = max_wait_s < self._next_s

    def left_s(self, now_s: float) -> float:
        """Returns what the batch may still wait."""
        return max(0.0, self._until_s - now_s)

    def was_in_vain(self) -> None:
        """Notes that the batch goes on without an answer.

        Of hosts that says nothing if the batch did not wait for as long as it may.
        """
        if not self._is_cut_short:
            self._next_s = min(self._next_s, IMPATIENT_WAIT_S)

    def was_answered(self, duration_s: float) -> None:
        """Notes an answer, whether anybody still waited for it or not."""
        if duration_s <= self._wait_s:
            self._next_s = self._wait_s
