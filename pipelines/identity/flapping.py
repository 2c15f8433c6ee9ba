"""How often an account may be looked up because it announced a change. Pure.

Each `#identity` and `#account` puts what is known of an account out of use. Nobody signs them, and
one between any two commits would have the directory asked for each commit. So after some look-ups
in a row there is one in `INTERVAL_US`, and what is announced in between waits for it. Nothing is
lost: a look-up tells what all announcements before it meant. The account's own frames wait until
then, and nobody else's do. spec: M-09
"""

from typing import Final

from pipelines.atproto.syntax import Did
from pipelines.identity.memory import Recent

# A move to another server takes some four announcements from each side.
BURST_COUNT: Final = 10
# A bound of ours. Whoever announces changes of somebody else's account delays it by so much.
INTERVAL_US: Final = 30_000_000
# Accounts that are remembered, some 200 bytes each. More than are looked up in an interval.
MAX_ACCOUNTS: Final = 20_000


class Flapping:
    """The look-ups of late."""

    def __init__(self) -> None:
        """Starts without any."""
        # Up to when an account has used up its look-ups, if one in `INTERVAL_US` is right.
        self._used_until_us: Recent[int] = Recent(MAX_ACCOUNTS)

    def looked_up(self, did: Did, now_us: int) -> None:
        """Takes note of a look-up.

        Args:
            did: the account.
            now_us: the time of day, microseconds since the epoch.
        """
        used_until_us = max(now_us, self._used_until_us.get(did) or 0)
        self._used_until_us.put(did, used_until_us + INTERVAL_US)

    def due_us(self, did: Did) -> int:
        """Returns from when on an account may be looked up again; it may be long ago.

        Args:
            did: the account.
        """
        return (self._used_until_us.get(did) or 0) - (BURST_COUNT - 1) * INTERVAL_US
