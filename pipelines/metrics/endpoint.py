"""An HTTP endpoint with metrics in the text format of Prometheus."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from pipelines import logs
from pipelines.errors import ConfigError
from pipelines.kafka.board import reports
from pipelines.metrics.registry import PREFIX, Buckets, Kind
from pipelines.metrics.samples import Sample, by_metric, process_samples

_log = logs.get_logger("metrics")

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Address(NamedTuple):
    """Where the endpoint listens; port 0 for any that is free."""

    host: str
    port: int


class _Samples(Collector):
    """Asks for samples whenever somebody reads the endpoint."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        for metric, samples in by_metric(self._samples()).items():
            name, meaning = PREFIX + metric.name, f"{metric.meaning} ({metric.unit})"
            if isinstance(metric.source, Buckets):
                histogram = HistogramMetricFamily(name, meaning, labels=metric.all_labels)
                _fill(histogram, metric.source, samples)
                yield histogram
                continue
            kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = kind(name, meaning, labels=metric.all_labels)
            for sample in samples:
                family.add_metric(sample.labels, sample.value)
            yield family


def _fill(histogram: HistogramMetricFamily, buckets: Buckets, samples: Iterable[Sample]) -> None:
    ends = [*map(str, buckets.bounds), "+Inf"]
    for sample in samples:
        counts = zip(ends, map(float, sample.counts), strict=True)
        histogram.add_metric(sample.labels, list(counts), sample.value)


@contextlib.contextmanager
def serving(address: Address, samples: Callable[[], Iterable[Sample]]) -> Iterator[Address]:
    """Serves metrics while the block runs, with those of the process itself (memory, CPU).

    Args:
        address: where to listen.
        samples: called from another thread, whenever somebody reads.

    Yields:
        Where it listens.

    Raises:
        ConfigError: it cannot listen there.
    """
    registry = CollectorRegistry()
    registry.register(_Samples(samples))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(address.port, address.host, registry)
    except OSError as error:
        raise ConfigError(
            f"cannot serve metrics at {address.host}:{address.port}: {error.strerror}; choose "
            "another port with --metrics"
        ) from None
    host, port = server.server_address[:2]
    _log.info("metrics_served", host=host, port=port)
    try:
        yield Address(str(host), port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def samples_of_this_process() -> Iterator[Sample]:
    """Yields what the stages of this process have to say now."""
    for (stage, slot), report in reports().items():
        yield from process_samples(stage, slot, report)
