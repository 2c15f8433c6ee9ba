"""How far a replay has come, and what came of it, for a person."""

import json
from dataclasses import dataclass

from pipelines.replay.job import Tally
from pipelines.replay.reverify import Finding, Reverified, Unproven
from pipelines.replay.service import Outcome
from pipelines.status.text import duration_text


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a replay.

    Attributes:
        tally: what it has done.
        elapsed_s: seconds since it started.
    """

    tally: Tally
    elapsed_s: float

    @property
    def done_count(self) -> int:
        """How much is done."""
        return self.tally.read_count

    @property
    def per_s(self) -> float:
        """Offsets a second since the start."""
        return self.tally.read_count / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until it is done, if it goes on like this; None if that cannot be told."""
        left_count = self.tally.total_count - self.tally.read_count
        return left_count / self.per_s if self.per_s and left_count > 0 else None

    def __str__(self) -> str:
        tally = self.tally
        parts = [
            f"{tally.read_count:,} of {tally.total_count:,} offsets read",
            f"{self.per_s:,.0f}/s",
            f"{tally.taken_count:,} messages written",
            f"{tally.taken_bytes / 1e6:,.1f} MB",
        ]
        if self.left_s is not None:
            parts.append(f"{duration_text(self.left_s)} left")
        return ", ".join(parts)

    def fields(self) -> dict[str, float | None]:
        """Returns the same for a log line."""
        return {
            "read": self.tally.read_count,
            "total": self.tally.total_count,
            "per_s": round(self.per_s),
            "written": self.tally.taken_count,
            "bytes": self.tally.taken_bytes,
            "left_s": None if self.left_s is None else round(self.left_s),
        }


def summary(outcome: Outcome, elapsed_s: float, *, is_following: bool) -> str:
    """Returns the last line of a replay.

    Args:
        outcome: what came of it.
        elapsed_s: seconds that it took.
        is_following: whether it has no end but that somebody stops it.
    """
    tally = outcome.tally
    written = "1 message" if tally.taken_count == 1 else f"{tally.taken_count:,} messages"
    text = f"{written}, {tally.taken_bytes / 1e6:,.1f} MB, in {elapsed_s:.1f} s"
    if outcome.is_whole or is_following:
        return text
    return f"{text}; interrupted: the same command goes on where it was"


def unproven_line(unproven: Unproven) -> str:
    """Returns a frame without a proof as a JSON object."""
    return json.dumps(unproven._asdict())


def findings(checked: Reverified) -> str:
    """Returns what proving frames again came to, with the reasons of what was refused."""
    counts = checked.counts
    text = ", ".join(f"{counts[finding]:,} {finding}" for finding in Finding if counts[finding])
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in checked.reasons.most_common())
    return f"proven again: {text or 'nothing'}" + (f" ({reasons})" if reasons else "")
