"""Which frames are served, and where their numbers are: what the epochs say at the start."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.messages import Position
from pipelines.kafka.reading import log_ends, log_starts, read_between
from pipelines.replay.epochs import Epoch, epoch_of
from pipelines.replay.planning import FRAMES, Request, plan_replay
from pipelines.replay.selection import Selection
from pipelines.replay.window import NO_END
from pipelines.serving.cursors import Cursors
from pipelines.serving.ring import Place


@dataclass(frozen=True, slots=True)
class Served:
    """What is served.

    Attributes:
        host: the upstream.
        epochs: the topic and partition of the epochs.
        end: offset of the epochs where it ends; `NO_END` if it goes on with what is written.
        selection: which frames.
        frames: the partitions of `frames` that have any.
    """

    host: str
    epochs: Position
    end: int
    selection: Selection
    frames: tuple[Position, ...]

    @property
    def is_following(self) -> bool:
        """Whether more may come."""
        return self.end == NO_END


def plan_serving(kafka: KafkaConfig, request: Request) -> tuple[Served, Cursors, Place]:
    """Notes what is there. The bridge writes ten epochs a second; 100,000 are read in one.

    Args:
        kafka: the cluster.
        request: of the topic `frames`; without a host, the only one there is.

    Returns:
        What is served, where its numbers are, and the place behind the present ones.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: there is no such topic, no such upstream, or more than one and none is named.
        EpochsError: the epochs are of another version.
    """
    # The name of a host matters to the plan where the window has numbers, and these need one.
    plan = plan_replay(kafka, replace(request, host=request.host or ""))
    assert plan.epochs is not None
    order = plan.ranges[plan.epochs]
    frames = {where: start for where, (start, _) in plan.ranges.items() if where != plan.epochs}
    end = order.end
    if end == NO_END:
        end = max(order.start, log_ends(kafka, [plan.epochs], is_readable=True)[plan.epochs])
    firsts = {where: start or 0 for where, start in log_starts(kafka, frames).items()}
    # Where the log itself bounds the window, what was deleted of its first epoch is not known.
    known = {where: start if start > firsts[where] else 0 for where, start in frames.items()}
    found = _Found(request, {**known, plan.epochs: order.start})
    for offset, epoch in _epochs(kafka, plan.epochs, order.start, end):
        found.add(plan.epochs, offset, epoch)
    host = found.chosen(plan.epochs[0])
    selection = replace(plan.selection, host=host.encode())
    served = Served(host, plan.epochs, order.end, selection, tuple(frames))
    place = {where: max(found.place[where], start) for where, start in frames.items()}
    return served, found.cursors, {**place, plan.epochs: end}


def frame_starts(kafka: KafkaConfig, served: Served) -> Mapping[Position, int]:
    """Returns the offset of the first message there is of each partition of `frames`.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    return {where: start or 0 for where, start in log_starts(kafka, served.frames).items()}


def _epochs(
    kafka: KafkaConfig, epochs: Position, start: int, end: int
) -> Iterator[tuple[int, Epoch]]:
    for message in read_between(kafka, {epochs: start}, {epochs: end}):
        yield message.offset, epoch_of(message)


class _Found:
    """The epochs of the upstream that is served; of the first one, if none is named."""

    def __init__(self, request: Request, place: Place) -> None:
        self.cursors = Cursors()
        self.place = place
        self._wanted = request.host
        self._first_seq = request.first_seq or 0
        self._last_seq = NO_END if request.last_seq is None else request.last_seq
        self._hosts: dict[str, None] = {}

    def add(self, epochs: Position, offset: int, epoch: Epoch) -> None:
        self._hosts[epoch.host] = None
        if epoch.host != (self._wanted or next(iter(self._hosts))):
            return
        after = {
            (topic, number): max(start, epoch.next_offsets[number])
            if number < len(epoch.next_offsets)
            else start
            for (topic, number), start in self.place.items()
            if (topic, number) != epochs
        }
        after[epochs] = offset + 1
        # A number that is not wanted never comes, so no cursor means it.
        seqs = max(epoch.seq_lo, self._first_seq), min(epoch.seq_hi, self._last_seq)
        if seqs[0] <= seqs[1]:
            self.cursors.add(offset, seqs, self.place, after)
        self.place = after

    def chosen(self, topic: str) -> str:
        known = ", ".join(sorted(self._hosts)) or "none"
        if self._wanted is not None:
            if self._wanted not in self._hosts:
                raise ConfigError(
                    f"{topic} has no upstream {self._wanted} in this window; it has {known}"
                )
            return self._wanted
        if len(self._hosts) != 1:
            raise ConfigError(
                f"{FRAMES} are served as one upstream sent them, and {topic} has {known}: say "
                "which with --host"
            )
        return next(iter(self._hosts))
