"""The sign of life of a stage: a small message on the topic `status` every BEAT_INTERVAL_S.

    with heartbeat(kafka, "explode", slot, report):
        ...                                             # starting … running … stopped | failed

A thread of its own asks the stage for its report and writes it, outside of any transaction and
through a producer of its own, so that it is never in the way of the stage. A beat that the broker
does not take within STATUS_TIMEOUT_MS is dropped: the next one says more. The last one says how
the stage ended; a process that was killed writes none, and is known by its silence.

`standpipe status` reads the topic. What is in a message: `pipelines.kafka.beat`.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipelines import logs
from pipelines.config import KafkaConfig
from pipelines.kafka.beat import TOPIC, Beat, Report, State, encode_beat
from pipelines.kafka.board import shown
from pipelines.kafka.clients import create_status_producer

BEAT_INTERVAL_S = 2.0
# What a stage's end may wait for its last beat while the broker is away.
LAST_BEAT_TIMEOUT_S = 3.0

_log = logs.get_logger("kafka")


@contextlib.contextmanager
def heartbeat(
    kafka: KafkaConfig, stage: str, slot: str, report: Callable[[], Report]
) -> Iterator[None]:
    """Writes the beats of a stage while the block runs, and how it ended.

    Args:
        kafka: the cluster.
        stage: name of the stage.
        slot: stable name of this process among those of its stage.
        report: what the stage has to say now; called from another thread. Numbers that it reads
            while the stage changes them may be a moment apart.
    """
    pulse = _Pulse(kafka, stage, slot, report)
    pulse.start()
    try:
        with shown(stage, slot, report):
            yield
    except BaseException as error:
        pulse.stop(State.FAILED, f"{type(error).__name__}: {error}")
        raise
    else:
        pulse.stop(State.STOPPED, None)


class _Pulse:
    """The thread behind `heartbeat`; it alone uses the producer."""

    def __init__(
        self, kafka: KafkaConfig, stage: str, slot: str, report: Callable[[], Report]
    ) -> None:
        self._kafka = kafka
        self._stage = stage
        self._slot = slot
        self._report = report
        self._started_us = _now_us()
        self._ending: tuple[State, str | None] | None = None
        self._wakes = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, state: State, detail: str | None) -> None:
        """Writes the last beat; gives up when the broker does not take it."""
        self._ending = (state, detail)
        self._wakes.set()
        self._thread.join(LAST_BEAT_TIMEOUT_S + 1)

    def _run(self) -> None:
        try:
            producer = create_status_producer(self._kafka)
            while self._ending is None:
                self._write(producer, self._report())
                producer.poll(0)
                self._wakes.wait(BEAT_INTERVAL_S)
            last = self._report()
            state, detail = self._ending
            self._write(producer, Report(state, detail, last.counters, last.groups))
            producer.flush(LAST_BEAT_TIMEOUT_S)
        except Exception:  # noqa: BLE001 - the stage goes on; who watches sees it fall silent
            _log.error("heartbeat_ended", exc_info=True)

    def _write(self, producer: Producer, report: Report) -> None:
        beat = Beat(
            stage=self._stage,
            slot=self._slot,
            machine=socket.gethostname(),
            pid=os.getpid(),
            started_us=self._started_us,
            updated_us=_now_us(),
            report=report,
        )
        # A full queue, or a producer that the broker fenced off: there will be another beat.
        with contextlib.suppress(BufferError, KafkaException):
            producer.produce(
                self._kafka.topic(TOPIC),
                encode_beat(beat),
                beat.key,
                partition=0,
                on_delivery=_note_failure,
            )


def _note_failure(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        _log.debug("beat_dropped", detail=error.str())


def _now_us() -> int:
    return time.time_ns() // 1000
