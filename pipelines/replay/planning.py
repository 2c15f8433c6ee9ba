"""From what was asked for to partitions and offsets: the questions to the broker, asked once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admitting import deployed
from pipelines.kafka.messages import Position
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import log_ends, log_starts, read_between
from pipelines.kafka.topics import OTHER, PartitionBy, Registry, TopicSpec, registry
from pipelines.replay.epochs import Numbers, epoch_of
from pipelines.replay.selection import Selection
from pipelines.replay.window import NO_END, LogBounds, Range, Window, range_of

FRAMES: Final = "frames"
EPOCHS: Final = "epochs"
# Behind the name of a family: all its topics.
ALL: Final = ".*"
_WITH_ACCOUNTS: Final = frozenset({"did", "at-uri"})


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants to have replayed.

    Attributes:
        topics: logical names; `records.*` stands for all of a family.
        window: its bounds.
        dids: the accounts; empty for all.
        collections: the collections; empty for all.
        host: the upstream whose frames are wanted in its own order; None for all, by time.
        first_seq: sequence number that the frames of `host` begin with, or None.
        last_seq: the one that they end with, or None.
        is_following: whether to go on with what is written meanwhile, without an end.
    """

    topics: tuple[str, ...]
    window: Window = field(default_factory=Window)
    dids: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    host: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    is_following: bool = False


class Chosen(NamedTuple):
    """A topic that is read.

    Attributes:
        name: logical name.
        spec: its entry, or that of its family.
        partitions: how many it has.
    """

    name: str
    spec: TopicSpec
    partitions: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read.

    Attributes:
        topics: by physical name.
        ranges: of each partition; where `epochs` is set, of that topic too.
        selection: which messages of them.
        epochs: where the order of `host` stands; None for the order of time.
        host: as in the request.
        oldest_seq: the host's oldest number that is still known, where it is above the first one
            asked for; else None.
    """

    topics: Mapping[str, Chosen]
    ranges: Mapping[Position, Range]
    selection: Selection
    epochs: Position | None = None
    host: str | None = None
    oldest_seq: int | None = None


def check_request(request: Request) -> None:
    """Checks what can be checked without a broker.

    Raises:
        ConfigError: with every contradiction.
    """
    problems = []
    window = request.window
    if window.is_over_before_it_begins:
        problems.append("--until is not after --since: nothing can be between them")
    if (
        request.first_seq is not None
        and request.last_seq is not None
        and request.last_seq < request.first_seq
    ):
        problems.append(
            f"--seq {request.first_seq}..{request.last_seq} ends before it begins: put the lower "
            "number first"
        )
    problems += [
        f"--offsets {partition}:{start}..{end - 1} ends before it begins: put the lower first"
        for partition, (start, end) in sorted(window.offsets.items())
        if end <= start
    ]
    is_numbered = request.first_seq is not None or request.last_seq is not None
    if is_numbered and request.host is None:
        problems.append(
            "--seq counts the frames of one upstream: say which with --host (`standpipe status` "
            "lists them)"
        )
    if request.host is not None and request.topics != (FRAMES,):
        problems.append(
            "--host and --seq are for the topic frames alone, whose order the epochs tell; "
            "choose other topics with --since and --until"
        )
    if request.host is not None and window.offsets:
        problems.append("--offsets and --host exclude each other: number the frames with --seq")
    if request.is_following and (
        window.until_ms is not None or request.last_seq is not None or window.offsets
    ):
        problems.append("--follow has no end: leave out --until, --offsets and the last --seq")
    if problems:
        raise ConfigError(*problems)


def plan_replay(kafka: KafkaConfig, request: Request) -> Plan:
    """Resolves a request, and notes the present ends.

    Args:
        kafka: the cluster and prefix.
        request: checked by `check_request`.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: there is no such topic, or it has not what is asked for.
    """
    known = _registry_for(kafka, request)
    names = topic_names(request, known)
    counts = check_partitions(kafka, names, known)
    topics = {kafka.topic(name): Chosen(name, known.topics[name], counts[name]) for name in names}
    problems = [
        f"{name} has no accounts: leave out --did"
        for name, spec, _ in topics.values()
        if request.dids and spec.key.content not in _WITH_ACCOUNTS
    ]
    too_high = sorted(
        partition for partition in request.window.offsets if partition >= max(counts.values())
    )
    problems += [
        f"--offsets names partition {number}, and there are {max(counts.values())}, counted from 0"
        for number in too_high
    ]
    if problems:
        raise ConfigError(*problems)
    wheres = [
        (topic, number)
        for topic, chosen in topics.items()
        for number in _partitions_of(request, chosen)
    ]
    if request.host is not None:
        return _host_plan(kafka, request, request.host, topics, wheres)
    ranges = _time_ranges(kafka, request, wheres)
    return Plan(topics, ranges, _selection(request, topics))


def topic_names(request: Request, known: Registry) -> list[str]:
    """Returns the logical names of the topics that a request means, each once.

    With collections, of a family only their topics and the common one, which had their records
    before they were admitted.

    Args:
        request: what is wanted.
        known: the deployment's topics.

    Raises:
        ConfigError: there is no such topic.
    """
    names: dict[str, None] = {}
    unknown = []
    for topic in request.topics:
        family = topic.removesuffix(ALL)
        spec = known.specs.get(family)
        if topic.endswith(ALL) and spec is not None and spec.is_family:
            names.update(dict.fromkeys(_of_family(request, spec)))
        elif topic in known.topics:
            names[topic] = None
        else:
            unknown.append(topic)
    if unknown:
        listed = [f"{name}{ALL}" if spec.is_family else name for name, spec in known.specs.items()]
        raise ConfigError(
            *(f"there is no topic {topic}: there are {', '.join(listed)}" for topic in unknown)
        )
    if request.collections:
        mixed = [name for name in names if "collection" not in _header_names(known.topics[name])]
        if mixed:
            raise ConfigError(
                f"{', '.join(mixed)}: a message there may be of several collections; replay "
                "records.* or latest.* with --collection"
            )
    return list(names)


def _registry_for(kafka: KafkaConfig, request: Request) -> Registry:
    """Returns the deployment's own table of collections only if the request needs it."""
    if all(topic in registry().specs for topic in request.topics):
        return registry()
    check_partitions(kafka, [TABLES])
    return deployed(kafka)[0]


def _of_family(request: Request, spec: TopicSpec) -> Iterator[str]:
    if not request.collections:
        yield from spec.topics
        return
    for collection in request.collections:
        if collection in spec.collections:
            yield f"{spec.name}.{collection}"
    yield f"{spec.name}.{OTHER}"


def _header_names(spec: TopicSpec) -> list[str]:
    return [header.name for header in spec.headers]


def _partitions_of(request: Request, chosen: Chosen) -> Sequence[int]:
    """Returns the partitions that can have the accounts that are wanted."""
    if not request.dids or chosen.spec.key.partition_by is not PartitionBy.DID:
        return range(chosen.partitions)
    return sorted({partition_for(did, chosen.partitions) for did in request.dids})


def _selection(request: Request, topics: Mapping[str, Chosen]) -> Selection:
    # In the topic of a collection, all messages are of it.
    wanted = set(request.collections)
    is_mixed = any(chosen.name.rpartition(".")[2] == OTHER for chosen in topics.values())
    return Selection(
        since_ms=request.window.since_ms,
        until_ms=request.window.until_ms,
        dids=_encoded(request.dids),
        collections=_encoded(wanted) if is_mixed else None,
        host=None if request.host is None else request.host.encode(),
        first_seq=request.first_seq,
        last_seq=request.last_seq,
    )


def _encoded(texts: Collection[str]) -> frozenset[bytes] | None:
    return frozenset(text.encode() for text in texts) or None


def _time_ranges(
    kafka: KafkaConfig, request: Request, wheres: Sequence[Position]
) -> dict[Position, Range]:
    window = request.window
    ends = log_ends(kafka, wheres, is_readable=True)
    starts = log_starts(kafka, wheres)
    since = {} if window.since_ms is None else log_starts(kafka, wheres, window.since_ms)
    until_ms = window.until_ms
    until = {} if until_ms is None else log_starts(kafka, wheres, until_ms + window.late_ms)
    ranges = {}
    for where in wheres:
        log = LogBounds(starts[where] or 0, ends[where], since.get(where), until.get(where))
        found = range_of(window, where[1], log)
        if found is not None:
            ranges[where] = found._replace(end=NO_END) if request.is_following else found
    return ranges


def _host_plan(
    kafka: KafkaConfig,
    request: Request,
    host: str,
    topics: Mapping[str, Chosen],
    wheres: Sequence[Position],
) -> Plan:
    check_partitions(kafka, [EPOCHS])
    epochs: Position = (kafka.topic(EPOCHS), 0)
    # They are read as far as the epochs go: a range without a length is never left to read.
    frames = {
        where: Range(start, start)
        for where, (start, _) in _time_ranges(kafka, request, wheres).items()
    }
    order = _time_ranges(kafka, request, [epochs])[epochs]
    oldest_seq = None
    if request.first_seq is not None or request.last_seq is not None:
        numbers = _find_numbers(kafka, request, host, epochs, order)
        assert numbers.epochs is not None
        end = order.end if request.last_seq is None else numbers.epochs.end
        order = Range(numbers.epochs.start, end)
        for where, (start, _) in frames.items() if numbers.starts else ():
            later = max(start, numbers.starts[where[1]])
            frames[where] = Range(later, later)
        if numbers.lowest_seq is not None and numbers.lowest_seq > numbers.first_seq > 0:
            oldest_seq = numbers.lowest_seq
    return Plan(
        topics, {epochs: order, **frames}, _selection(request, topics), epochs, host, oldest_seq
    )


def _find_numbers(
    kafka: KafkaConfig, request: Request, host: str, epochs: Position, order: Range
) -> Numbers:
    """Reads epochs for the wanted numbers, some 100,000 a second; the bridge writes ten."""
    numbers = Numbers(host, request.first_seq or 0, request.last_seq)
    end = log_ends(kafka, [epochs], is_readable=True)[epochs]
    for message in read_between(kafka, {epochs: order.start}, {epochs: min(order.end, end)}):
        numbers.add(message.offset, epoch_of(message))
    if numbers.lowest_seq is None:
        known = ", ".join(sorted(numbers.hosts)) or "none"
        raise ConfigError(f"{epochs[0]} has no upstream {host} in this window; it has {known}")
    if numbers.epochs is None:
        raise ConfigError(
            f"no frame of {host} has such a --seq: there are {numbers.lowest_seq} to "
            f"{numbers.highest_seq}"
        )
    return numbers
