"""Reads what a look at a pipeline needs: beats from the topic `status`, lags from the groups.

Nothing of it is committed, and nobody is disturbed: the readers belong to no group.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.errors import BrokerUnavailableError, ConfigError, TransientError
from pipelines.kafka.admin import check_partitions
from pipelines.kafka.admission import TOPIC as TABLES
from pipelines.kafka.admitting import deployed
from pipelines.kafka.beat import TOPIC, Beat, State, parse_beat
from pipelines.kafka.clients import create_reader, create_status_producer, is_passing
from pipelines.kafka.lag import Lag, LagReader
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import PROGRESS_TIMEOUT_S, input_message, log_ends
from pipelines.status.history import History
from pipelines.status.overview import Overview, Supervised, look
from pipelines.status.stages import STAGES, lag_inputs

# As often as a process beats.
REFRESH_INTERVAL_S = 2.0
_POLL_COUNT = 500
_POLL_TIMEOUT_S = 0.2
_STOP_TIMEOUT_S = 5.0

_log = logs.get_logger("status")


class StatusReader:
    """Reads the state of one pipeline again and again. Not for use by several threads."""

    def __init__(self, kafka: KafkaConfig) -> None:
        """Prepares the reader.

        Args:
            kafka: the cluster and the prefix of the pipeline's topics.

        Raises:
            BrokerUnavailableError: no broker answers.
            ConfigError: there is no pipeline with that prefix.
        """
        check_partitions(kafka, [TOPIC, TABLES])
        self._kafka = kafka
        self._consumer = create_reader(kafka)
        self._where = (kafka.topic(TOPIC), 0)
        self._consumer.assign([TopicPartition(*self._where, OFFSET_BEGINNING)])
        self._lag_reader = LagReader(kafka, lag_inputs(kafka, deployed(kafka)[0]))
        self._has_read = False
        self._history = History()
        self._lags: Mapping[str, Lag] = {}
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Reads what is new.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        messages = self._new_messages()
        names = {(message.key or b"").decode() for message in messages} | self.beats().keys()
        seen = {name.partition(".")[0] for name in names}
        stages = {
            self._kafka.group(stage.name): stage.name
            for stage in STAGES
            if stage.inputs and stage.name in seen
        }
        # Stage after stage along the flow: if none of them lags, then what the beats from before
        # tell of has gone through all of them. So both are shown together.
        lags: Mapping[str, Lag] = {}  # an old one would be worse than none
        try:
            lags = self._lag_reader.read(stages)
        finally:
            with self._lock:
                for message in messages:
                    self._take_in(message)
                self._lags = {stages[group]: lag for group, lag in lags.items()}

    def look(self, supervised: Mapping[str, Supervised] | None = None) -> Overview:
        """Returns what there is to see now, by the last `refresh`; from any thread.

        Args:
            supervised: as in `pipelines.status.overview.look`.
        """
        with self._lock:
            return look(self._history, self._lags, time.time_ns() // 1000, supervised)

    def beats(self) -> dict[str, Beat]:
        """Returns the last beat of every process, by `<stage>.<slot>`."""
        return {beat.key.decode(): beat for beat in self._history.latest()}

    def close(self) -> None:
        """Closes the readers."""
        self._consumer.close()
        self._lag_reader.close()

    def _new_messages(self) -> list[InputMessage]:
        """Returns the messages since the last call; the first time up to the end.

        That end is noted before. The client tells of an end only when none has come for half a
        second, which never happens where many processes beat.
        """
        messages: list[InputMessage] = []
        deadline_s = time.monotonic() + PROGRESS_TIMEOUT_S
        end = 0 if self._has_read else log_ends(self._kafka, [self._where])[self._where]
        while True:
            polled = self._consumer.consume(_POLL_COUNT, _POLL_TIMEOUT_S)
            for message in polled:
                error = message.error()
                if error is None:
                    messages.append(input_message(message))
                    self._has_read = self._has_read or messages[-1].offset + 1 >= end
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    self._has_read = True
                elif not is_passing(error):
                    raise KafkaException(error)
            if self._has_read and len(polled) < _POLL_COUNT:
                return messages
            if time.monotonic() > deadline_s:
                raise BrokerUnavailableError(f"no answer while reading {self._where[0]}")

    def _take_in(self, message: InputMessage) -> None:
        if message.value is None:
            self._history.forget(message.key or b"")
            return
        try:
            self._history.add(parse_beat(message.value))
        except ValueError as error:
            _log.warning("beat_unreadable", offset=message.offset, detail=str(error))


def forget(kafka: KafkaConfig, names: Sequence[str]) -> None:
    """Takes processes that will not run again out of the picture.

    A process that does run is back with its next beat.

    Args:
        kafka: the cluster and the prefix of the pipeline's topics.
        names: their `<stage>.<slot>`.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: there is no such process.
    """
    with contextlib.closing(StatusReader(kafka)) as reader:
        reader.refresh()
        known = reader.beats()
    unknown = [name for name in names if name not in known]
    if unknown:
        listed = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"there is no process {unknown[0]}; known processes: {listed}")
    _write_nulls(kafka, names)


def forget_dead(kafka: KafkaConfig) -> None:
    """Takes processes out of the picture that ran on this machine and were killed.

    Args:
        kafka: the cluster and the prefix of the pipeline's topics.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: there is no pipeline with that prefix.
    """
    with contextlib.closing(StatusReader(kafka)) as reader:
        reader.refresh()
        beats = reader.beats()
    here = socket.gethostname()
    dead = [
        name
        for name, beat in beats.items()
        if beat.machine == here
        and beat.report.state is not State.STOPPED
        and not Path(f"/proc/{beat.pid}").exists()
    ]
    if dead:
        _write_nulls(kafka, dead)


def _write_nulls(kafka: KafkaConfig, names: Sequence[str]) -> None:
    producer = create_status_producer(kafka)
    for name in names:
        producer.produce(kafka.topic(TOPIC), None, name.encode(), partition=0)
    if producer.flush(PROGRESS_TIMEOUT_S):
        raise BrokerUnavailableError(
            f"the broker at {kafka.bootstrap_servers} does not take the null; is it up? "
            "`standpipe kafka status` tells"
        )


class Watch:
    """A thread that keeps a `StatusReader` up to date while the `with` block runs.

    The first look is taken before the block begins.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        """Prepares it; the arguments and errors are those of `StatusReader`."""
        self._reader = StatusReader(kafka)
        self._failure: str | None = None
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def look(self, supervised: Mapping[str, Supervised] | None = None) -> Overview:
        """Returns what there is to see now; that it could not be read is one of its problems."""
        overview = self._reader.look(supervised)
        failure = self._failure
        if failure is None:
            return overview
        return replace(overview, problems=[failure, *overview.problems])

    def __enter__(self) -> Self:
        self._reader.refresh()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stops.set()
        self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            while not self._stops.wait(REFRESH_INTERVAL_S):
                try:
                    self._reader.refresh()
                except TransientError as error:
                    self._failure = str(error)
                else:
                    self._failure = None
            self._reader.close()
        except Exception as error:  # noqa: BLE001 - shown, and the pipeline goes on unseen
            _log.error("watch_ended", exc_info=True)
            self._failure = f"the status cannot be read any more: {error}"
