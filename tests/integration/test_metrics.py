"""Metrics of a whole pipeline on a real broker: each process tells, and one looks from outside."""

from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from conftest import free_port
from prometheus_client.parser import text_string_to_metric_families
from support.kafka import is_caught_up, wait_until
from support.pipeline import running_pipeline
from support.recordings import load_recording

from pipelines.config import KafkaConfig
from pipelines.metrics.registry import METRICS, Buckets, Group, Number
from pipelines.report import Outcome, report_frames
from pipelines.sim.network import load_network
from pipelines.sim.service import SimServer
from pipelines.status.watch import StatusReader

pytestmark = pytest.mark.broker

PARTITIONS = 2
WAIT_S = 90  # several processes start on whatever machine this is


def scrape(port: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Returns numbers by name and by the values of their labels, sorted by the labels' names."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_processes_serve_is_what_they_did(
    kafka: str, topic_prefix: str, capture_folder: Path, tmp_path: Path
) -> None:
    config = KafkaConfig(kafka, topic_prefix)
    recording = load_recording(capture_folder)
    verdicts = list(report_frames(recording.frames, recording.keys))
    refused = [each for each in verdicts if each.verdict is Outcome.REFUSED]
    stages = ("bridge", "explode", "compact", "resync", "analytics")
    ports = {stage: free_port() for stage in stages}
    with (
        SimServer(load_network(capture_folder)) as sim,
        running_pipeline(config, sim.addresses, tmp_path, PARTITIONS) as pipeline,
    ):
        urls = ["--plc-url", sim.addresses.plc, "--did-web-url", sim.addresses.did_web]
        options = {
            "bridge": ["--relay", sim.addresses.relay, "--cursor", "oldest"],
            "explode": [*urls, "--state-dir", str(tmp_path / "explode")],
            "compact": ["--state-dir", str(tmp_path / "compact")],
            "resync": [
                *("--plc-url", sim.addresses.plc, "--pds-url", sim.addresses.pds),
                *("--state-dir", str(tmp_path / "resync")),
            ],
            "analytics": [],
        }
        for stage, port in ports.items():
            pipeline._start(stage, *options[stage], "--metrics", str(port))
        outside = free_port()
        pipeline._start("metrics", "serve", "--listen", str(outside))

        def is_done() -> bool:
            return is_caught_up(config, "explode", config.topic("frames")) and is_caught_up(
                config, "compact", config.topic("events")
            )

        wait_until(
            lambda: _served(ports["bridge"], "standpipe_frames_total") == len(verdicts),
            "all frames",
            WAIT_S,
        )
        wait_until(is_done, "the end", WAIT_S)
        wait_until(lambda: len(_beats(config)) == len(ports), "signs of life", WAIT_S)

        bridge, explode, compact = (
            scrape(ports[name]) for name in ("bridge", "explode", "compact")
        )
        assert sum(_of(bridge, "standpipe_upstream_messages_total").values()) >= len(verdicts)
        by_reason = _of(explode, "standpipe_refused_total")
        for reason in {each.reason for each in refused}:
            count = sum(each.reason == reason for each in refused)
            assert by_reason[str(reason), "0", "explode"] == count
        assert sum(by_reason.values()) == len(refused)
        assert sum(_of(explode, "standpipe_inputs_total").values()) == len(verdicts)
        assert _of(explode, "standpipe_state")["0", "explode", "running"] == 1
        assert sum(_of(compact, "standpipe_repos").values()) > 10
        assert _of(bridge, "standpipe_frame_size_bytes_count") == {("0", "bridge"): len(verdicts)}
        sizes = _of(bridge, "standpipe_frame_size_bytes_sum")
        assert sizes == _of(bridge, "standpipe_frames_bytes_total")
        for served in (bridge, explode, compact):
            times = _of(served, "standpipe_transaction_duration_seconds_count")
            assert times == _of(served, "standpipe_transactions_total")
        batches = _of(explode, "standpipe_batch_size_sum")
        assert batches == _of(explode, "standpipe_inputs_total")
        assert sum(_of(explode, "standpipe_batch_duration_seconds_count").values()) > 0
        assert sum(_of(bridge, "standpipe_event_delay_seconds_count").values()) > 0
        assert scrape(ports["analytics"])["process_cpu_seconds_total", ()] > 0

        # Whatever a process tells of itself is in the registry.
        numbers = {each.source.name for each in METRICS if isinstance(each.source, Number)}
        groups = {each.source.name for each in METRICS if isinstance(each.source, Group | Buckets)}
        for name, report in _beats(config).items():
            assert report.counters.keys() <= numbers, name
            assert report.groups.keys() <= groups, name

        wait_until(
            lambda: _of(scrape(outside), "standpipe_lag_messages").get(("explode",)) == 0,
            "no lag",
            WAIT_S,
        )
        seen = scrape(outside)
        for stage in ports:
            assert seen["standpipe_processes", ("running", stage)] == 1
        assert seen["standpipe_lag_seconds", ("explode",)] == 0
        assert seen["standpipe_retention_used_ratio", ("explode",)] == 0
        assert seen["standpipe_retention_left_seconds", ("explode",)] == 259_200
        for process in pipeline.stages:
            assert process.stop() == 0, process.log()


def _served(port: int, name: str) -> float:
    try:
        return sum(_of(scrape(port), name).values())
    except OSError:
        return -1  # it is not there yet


def _of(
    numbers: dict[tuple[str, tuple[str, ...]], float], name: str
) -> dict[tuple[str, ...], float]:
    return {labels: value for (other, labels), value in numbers.items() if other == name}


def _beats(config: KafkaConfig) -> dict[str, Any]:
    with closing(StatusReader(config)) as reader:
        reader.refresh()
        return {name: beat.report for name, beat in reader.beats().items()}
