"""How far a backfill has come: rate, share, and when it may be done. Pure."""

from dataclasses import dataclass

from pipelines.status.text import duration_text


@dataclass(frozen=True, slots=True)
class Rate:
    """A moment of a backfill.

    Attributes:
        listed_count: repositories that were listed since it started.
        requested_count: of them, those that were asked for.
        read_lists_count: lists that are read to their end.
        lists_count: all lists.
        left_count: about how many repositories are still to be listed; None if nobody says.
        elapsed_s: seconds since it started.
    """

    listed_count: int
    requested_count: int
    read_lists_count: int
    lists_count: int
    left_count: int | None
    elapsed_s: float

    @property
    def done_count(self) -> int:
        """How much is done."""
        return self.listed_count

    @property
    def per_s(self) -> float:
        """Repositories a second since the start."""
        return self.listed_count / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done, if it goes on like this; None if that cannot be told."""
        if self.left_count is None or not self.per_s:
            return None
        return self.left_count / self.per_s

    def __str__(self) -> str:
        parts = [
            f"{self.listed_count:,} repositories",
            f"{self.per_s:,.0f}/s",
            f"{self.requested_count:,} asked for",
            f"{self.read_lists_count:,} of {self.lists_count:,} lists read",
        ]
        if self.left_s is not None:
            parts.append(f"{duration_text(self.left_s)} left")
        return ", ".join(parts)

    def fields(self) -> dict[str, int | None]:
        """Returns the same for a log line."""
        return {
            "listed": self.listed_count,
            "per_s": round(self.per_s),
            "requested": self.requested_count,
            "lists_read": self.read_lists_count,
            "lists": self.lists_count,
            "left_s": None if self.left_s is None else round(self.left_s),
        }
