"""Every metric there is, with its unit and meaning; nothing else is ever exposed. Pure.

A process exposes what it says of itself in its signs of life (`pipelines.kafka.beat.Report`): each
counter and each group there has its metric here, which a test holds complete. What no process can
know of itself, such as how far it is behind, is exposed by `standpipe metrics serve`, once for a
deployment.

Labels have values from closed sets only (stages, slots, upstreams, reasons, kinds, topics,
states): what somebody on the network sends never becomes one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from pipelines.kafka.distribution import BOUNDS
from pipelines.status.upstreams import TROUBLES

PREFIX: Final = "standpipe_"


class Kind(StrEnum):
    """Whether a number only grows while a process lives, or tells how often what was how large."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Number:
    """A counter of a report.

    Attributes:
        name: as in the report.
        divisor: what it is divided by, to get the unit.
    """

    name: str
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a report: one series for each member, which becomes the value of a label.

    Attributes:
        name: as in the report.
        divisor: what its numbers are divided by, to get the unit.
    """

    name: str
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class Buckets:
    """A distribution of a report (`pipelines.kafka.distribution`).

    Attributes:
        name: that of its group, and of its bounds.
        divisor: what bounds and sum are divided by, to get the unit.
    """

    name: str
    divisor: int = 1

    @property
    def bounds(self) -> tuple[float, ...]:
        """Where buckets end, in the metric's unit; one more has what is above them all."""
        return tuple(bound / self.divisor for bound in BOUNDS[self.name])


@dataclass(frozen=True, slots=True)
class State:
    """What a report says the process is doing: 1 for that state, and 0 for the others."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A number that one process exposes for the deployment; see `pipelines.metrics.samples`."""


Source: TypeAlias = Number | Group | Buckets | State | Deployment


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: without prefix, and without the `_total` of counters.
        kind: counter, gauge or histogram.
        unit: of what it counts; a unit of the name (`seconds`, `bytes`) is its last part.
        meaning: a sentence.
        source: where the number comes from.
        labels: beside `stage` and `slot`, which every metric of a process has.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    source: Source
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name by which Prometheus knows it."""
        return PREFIX + self.name + ("_total" if self.kind is Kind.COUNTER else "")

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Every label that its series have."""
        if isinstance(self.source, Deployment):
            return self.labels
        return ("stage", "slot", *self.labels)


def _counter(name: str, unit: str, meaning: str, source: Source, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, unit, meaning, source, labels)


def _histogram(name: str, unit: str, meaning: str, source: Buckets) -> Metric:
    return Metric(name, Kind.HISTOGRAM, unit, meaning, source)


def _gauge(name: str, unit: str, meaning: str, source: Source, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, unit, meaning, source, labels)


METRICS: Final = (
    _gauge("state", "1 or 0", "what the process is doing", State(), "state"),
    # Stages that read topics: explode, compact, analytics. The bridge has transactions, too.
    _counter("inputs", "messages", "input messages whose outcome is committed", Number("inputs")),
    _counter("outputs", "messages", "messages written and committed", Number("outputs")),
    _counter("output_bytes", "bytes", "their sizes, before compression", Number("output_bytes")),
    _counter("transactions", "transactions", "transactions committed", Number("transactions")),
    _counter(
        "transaction_seconds",
        "seconds",
        "how long they took, with their repetitions",
        Number("transaction_ms", 1_000),
    ),
    _histogram(
        "transaction_duration_seconds",
        "seconds",
        "how long each transaction took, with its repetitions",
        Buckets("transaction_times", 1_000),
    ),
    _histogram(
        "batch_duration_seconds",
        "seconds",
        "how long each batch took, look-ups and waiting included, without its transaction",
        Buckets("batch_times", 1_000),
    ),
    _histogram(
        "batch_size", "messages", "messages of each batch that were done", Buckets("batch_sizes")
    ),
    _counter("waits", "waits", "times that something it needed was away", Number("waits")),
    _gauge(
        "partitions", "partitions", "partitions of each input that are its", Number("partitions")
    ),
    # The bridge.
    _counter("upstream_messages", "messages", "websocket messages received", Number("received")),
    _counter(
        "upstream_resent", "messages", "of them, those it had already: dropped", Number("resent")
    ),
    _counter(
        "upstream_skipped", "messages", "of them, those of an unknown type", Number("skipped")
    ),
    _counter("upstream_connections", "connections", "connections opened", Number("connections")),
    _gauge(
        "upstream_last_message_timestamp_seconds",
        "seconds since 1970",
        "when the last message came",
        Number("last_received_us", 1_000_000),
    ),
    _counter("frames", "messages", "frames committed to the topic frames", Number("frames")),
    _counter("frames_bytes", "bytes", "their sizes", Number("frames_bytes")),
    _histogram("frame_size_bytes", "bytes", "how large each frame is", Buckets("frame_sizes")),
    _histogram(
        "event_delay_seconds",
        "seconds",
        "how much later than its own time an event came, of the last of each transaction and "
        "upstream; 0 if that clock is ahead",
        Buckets("event_delays", 1_000),
    ),
    _counter(
        "quarantined", "messages", "messages of the upstream in quarantine", Number("quarantined")
    ),
    _gauge("queued", "messages", "what waits for a transaction", Number("queued")),
    _gauge("queued_bytes", "bytes", "sizes of these messages", Number("queued_bytes")),
    _counter("gaps", "gaps", "places where events are known to be missing", Number("gaps")),
    _gauge("leading", "1 or 0", "whether it works, and does not stand by", Number("leading")),
    _gauge(
        "upstream_connected", "1 or 0", "whether there is a connection", Group("connected"), "host"
    ),
    _counter(
        "upstream_first",
        "messages",
        "events that no upstream had brought",
        Group("first"),
        "host",
    ),
    _counter(
        "upstream_duplicates",
        "messages",
        "events that an upstream had brought before, and that are not published once more",
        Group("duplicates"),
        "host",
    ),
    _gauge(
        "upstream_coverage_ratio",
        "1",
        "part of the events of all upstreams since the start that this one brought",
        Group("coverage_ppm", 1_000_000),
        "host",
    ),
    _gauge(
        "upstream_missing",
        "events",
        "events since the start that other upstreams brought and this one has not, or not yet",
        Group("missing"),
        "host",
    ),
    _gauge(
        "upstream_busy_accounts",
        "accounts",
        "accounts with more events in a minute than anybody writes by hand; the log names them",
        Group("busy_accounts"),
        "host",
    ),
    _gauge("upstream_seq", "sequence number", "the last one committed", Group("seq"), "host"),
    _gauge(
        "upstream_delay_seconds",
        "seconds",
        "how much later than its own time that frame came; negative if that clock is ahead",
        Group("delay_ms", 1_000),
        "host",
    ),
    *(
        _gauge(
            f"upstream_{trouble}_timestamp_seconds",
            "seconds since 1970",
            f"since when {meaning}; absent otherwise",
            Group(trouble, 1_000_000),
            "host",
        )
        for trouble, meaning in TROUBLES.items()
    ),
    # Explode.
    _counter("proven", "frames", "frames proven", Group("proven"), "kind"),
    _counter("unsigned", "frames", "frames in which nothing is signed", Group("unsigned"), "kind"),
    _counter("refused", "frames", "frames refused", Group("refused"), "reason"),
    _gauge(
        "refused_lately",
        "frames, accounts, servers",
        "what was refused of the last 500 frames; from 50 accounts on 5 servers on, and more "
        "than half of the accounts, the worker stops",
        Group("refused_lately"),
        "what",
    ),
    _counter("skipped", "frames", "frames with nothing to judge", Group("skipped"), "kind"),
    _counter("written", "messages", "messages written, by topic", Group("written"), "topic"),
    _counter("lookups", "look-ups", "looks for identities, by where", Group("lookups"), "where"),
    _gauge("keys", "keys", "signing keys at hand", Group("keys"), "place"),
    _gauge("parked", "frames, accounts", "what waits for an identity", Group("parked"), "what"),
    # Compact.
    _counter("events", "events", "events judged", Group("events"), "outcome"),
    _counter(
        "repo_answers",
        "answers",
        "answers of servers about whole repositories, judged",
        Group("answers"),
        "outcome",
    ),
    _gauge(
        "repos",
        "repositories",
        "repositories by what their records are worth",
        Group("repos"),
        "sync",
    ),
    _gauge(
        "deletions",
        "accounts",
        "deleted accounts whose records wait for somebody to confirm the deletion",
        Group("deletions"),
        "what",
    ),
    _counter(
        "audited",
        "repositories",
        "repositories of the local store whose root was computed anew, by what came of it",
        Group("audited"),
        "finding",
    ),
    # Resync.
    _counter("repo_requests", "requests", "requests for repositories", Group("requests"), "cause"),
    _gauge(
        "repairs",
        "repositories",
        "repositories to be fetched, by state",
        Group("repairs"),
        "state",
    ),
    _counter("repo_fetches", "tries", "tries to fetch a repository", Group("fetches"), "outcome"),
    _counter(
        "snapshots",
        "records, chunks, bytes",
        "what was written of repositories that were fetched",
        Group("snapshots"),
        "what",
    ),
    # Analytics.
    _gauge(
        "last_minute_records",
        "records",
        "records of the last whole minute",
        Group("last_minute"),
        "collection",
    ),
    _gauge(
        "last_minute_records_by_language",
        "records",
        "records of the last whole minute that name a language",
        Group("last_minute_languages"),
        "language",
    ),
    _gauge(
        "this_hour",
        "accounts (estimated), records",
        "distinct accounts and records of the newest hour; their partitions share no account",
        Group("this_hour"),
        "what",
    ),
    # Import of identities.
    _counter(
        "operations",
        "operations",
        "PLC operations by what came of them",
        Group("operations"),
        "outcome",
    ),
    _counter(
        "operations_refused",
        "operations",
        "PLC operations refused",
        Group("operations_refused"),
        "reason",
    ),
    # Backfill and sweep.
    _counter(
        "listed_repositories",
        "repositories",
        "repositories that hosts list, by what came of them",
        Group("repositories"),
        "outcome",
    ),
    # The deployment, from outside.
    _gauge(
        "lag_messages",
        "messages",
        "messages that a stage can read and has not processed; an estimate where there are many",
        Deployment(),
        "stage",
    ),
    _gauge("lag_seconds", "seconds", "age of the oldest of them", Deployment(), "stage"),
    _gauge(
        "retention_left_seconds",
        "seconds",
        "time until the oldest message not processed may be deleted",
        Deployment(),
        "stage",
    ),
    _gauge(
        "retention_used_ratio",
        "1",
        "age of the oldest message not processed, as part of the time it is kept",
        Deployment(),
        "stage",
    ),
    _gauge(
        "processes",
        "processes",
        "processes of a stage by what they are doing, seen from outside",
        Deployment(),
        "stage",
        "condition",
    ),
)

BY_NAME: Final = {metric.name: metric for metric in METRICS}
