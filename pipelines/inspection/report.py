"""Reports: sections of facts, checks with their results, a picture of the tree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from pipelines.atproto import atjson
from pipelines.atproto.cid import CID_BYTES, encode_cid
from pipelines.atproto.errors import DagCborError, ProtocolError, Reason

T = TypeVar("T")

Value: TypeAlias = str | int | bool | None


class Fact(NamedTuple):
    """Something that was read, whether it is right or not."""

    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Section:
    """Facts that belong together."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Passed:
    """A check that holds."""

    name: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A check that does not hold.

    Attributes:
        name: of the check.
        reason: the stable reason.
        detail: one sentence for a person.
        path: the record concerned, where there is one.
    """

    name: str
    reason: Reason
    detail: str
    path: str | None


@dataclass(frozen=True, slots=True)
class NotReached:
    """A check that was not made.

    Attributes:
        name: of the check.
        why: what it waits for.
    """

    name: str
    why: str


Check: TypeAlias = Passed | Failed | NotReached


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record and its JSON.

    Attributes:
        path: where it is, if that is known.
        cid: in text form.
        json: its AT JSON, or None.
        why_no_json: then why.
    """

    path: str | None
    cid: str
    json: bytes | None
    why_no_json: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspection found.

    Attributes:
        title: what was inspected, in a few words.
        sections: what it says.
        checks: in the order in which they are made.
        tree: lines of the picture of its tree; none if it has none.
        records: the records in it, as far as they were asked for.
    """

    title: str
    sections: tuple[Section, ...]
    checks: tuple[Check, ...]
    tree: tuple[str, ...] = ()
    records: tuple[RecordView, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return not any(isinstance(check, Failed) for check in self.checks)


class Step(NamedTuple):
    """A part of a check that the protocol core makes in one call.

    Attributes:
        name: what is checked.
        reasons: with which it fails; `mst` stands for all reasons that begin with `mst.`.
    """

    name: str
    reasons: frozenset[str]

    @classmethod
    def of(cls, name: str, *reasons: str) -> "Step":
        """Makes a step."""
        return cls(name, frozenset(reasons))

    def has(self, reason: Reason) -> bool:
        """Whether the step fails with a reason."""
        return reason in self.reasons or reason.partition(".")[0] in self.reasons


class Checklist:
    """Makes checks and notes their results."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def run(self, steps: Sequence[Step], call: Callable[[], T]) -> T | None:
        """Makes the checks of a call.

        Args:
            steps: in the order in which the call makes them. The first that has the reason of
                the call's error failed; those before it passed, those behind were not reached.
            call: returns, or raises ProtocolError.

        Returns:
            What the call returns; None if a check failed.
        """
        try:
            result = call()
        except ProtocolError as error:
            self.fail(steps, error)
            return None
        self._checks += [Passed(step.name) for step in steps]
        return result

    def fail(self, steps: Sequence[Step], error: ProtocolError) -> None:
        """Notes an error of a call; see `run`."""
        failed = next((step for step in steps if step.has(error.reason)), steps[-1])
        position = steps.index(failed)
        self._checks += [Passed(step.name) for step in steps[:position]]
        self._checks.append(Failed(failed.name, error.reason, error.detail, error.path))
        self.skip(steps[position + 1 :], f"after {failed.name!r}")

    def skip(self, steps: Sequence[Step], why: str) -> None:
        """Notes checks that cannot be made."""
        self._checks += [NotReached(step.name, why) for step in steps]

    @property
    def results(self) -> tuple[Check, ...]:
        """What was noted so far."""
        return tuple(self._checks)


def record_view(path: str | None, cid: bytes, block: bytes) -> RecordView:
    """Returns a record with its JSON, or why it has none."""
    try:
        return RecordView(path, encode_cid(cid), atjson.to_json(block), None)
    except DagCborError as error:
        return RecordView(path, encode_cid(cid), None, str(error))


def shown(value: object) -> Value:
    """Returns a value as a fact has it: CIDs as text, other bytes by their size."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return encode_cid(value) if len(value) == CID_BYTES else f"{len(value)} bytes"
    return str(value)


def section(title: str, **values: object) -> Section:
    """Makes a section from named values."""
    return Section(title, tuple(Fact(name, shown(value)) for name, value in values.items()))
