"""How far an import has come: rate, share, and when it may be done. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of an import.

    Attributes:
        read_count: lines since it started.
        elapsed_s: seconds since it started.
        start_share: how much was done when it started, from 0 to 1; None if that is not known.
        share: how much is done, likewise.
    """

    read_count: int
    elapsed_s: float
    start_share: float | None
    share: float | None

    @property
    def done_count(self) -> int:
        """How much is done."""
        return self.read_count

    @property
    def per_s(self) -> float:
        """Lines a second since the start."""
        return self.read_count / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done, if it goes on like this; None if that cannot be told yet."""
        if self.share is None or self.start_share is None or self.share <= self.start_share:
            return None
        return self.elapsed_s * (1.0 - self.share) / (self.share - self.start_share)

    def __str__(self) -> str:
        parts = [f"{self.read_count:,} operations", f"{self.per_s:,.0f}/s"]
        if self.share is not None:
            parts.append(f"{self.share:.1%}")
        if self.left_s is not None:
            minutes, seconds = divmod(round(self.left_s), 60)
            hours, minutes = divmod(minutes, 60)
            parts.append(f"{hours}:{minutes:02}:{seconds:02} left")
        return ", ".join(parts)

    def fields(self) -> dict[str, float | None]:
        """Returns the same for a log line."""
        return {
            "read": self.read_count,
            "per_s": round(self.per_s),
            "share": None if self.share is None else round(self.share, 4),
            "left_s": None if self.left_s is None else round(self.left_s),
        }
