"""Metrics: what the registry promises, and what becomes of reports and of looks."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipelines.analytics.counting import MinuteSummary
from pipelines.analytics.service import Latest
from pipelines.analytics.trending import HourSummary
from pipelines.errors import ConfigError
from pipelines.kafka.beat import Report, State
from pipelines.kafka.board import reports, shown
from pipelines.kafka.counts import LoopCounts, Tally
from pipelines.kafka.distribution import BOUNDS, Distribution, groups_of
from pipelines.kafka.lag import Lag
from pipelines.metrics.alerts import Severity, alerts, rules
from pipelines.metrics.dashboard import dashboard, expression
from pipelines.metrics.endpoint import Address, samples_of_this_process, serving
from pipelines.metrics.registry import BY_NAME, METRICS, Buckets, Group, Kind, Metric, Number
from pipelines.metrics.samples import deployment_samples, process_samples
from pipelines.status.history import History
from pipelines.status.overview import Condition, Process, Stage, look
from pipelines.status.stages import STAGES

_DEPLOY = Path(__file__).parents[2] / "deploy"
_ANYWHERE = Address("127.0.0.1", 0)


# ---- the registry ------------------------------------------------------------------------------


def test_each_metric_has_a_name_of_its_own_with_its_unit() -> None:
    assert len(BY_NAME) == len(METRICS)
    assert len({metric.full_name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert isinstance(metric.source, Buckets) is (metric.kind is Kind.HISTOGRAM)
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", metric.name)
        assert not metric.name.endswith("_total")
        if metric.unit in {"seconds", "bytes"}:
            assert metric.name.endswith(f"_{metric.unit}")
        assert metric.meaning.strip(" .") == metric.meaning
        assert len(set(metric.all_labels)) == len(metric.all_labels)
        assert isinstance(metric.source, Group) <= (len(metric.labels) == 1)


def _numbers() -> set[str]:
    return {metric.source.name for metric in METRICS if isinstance(metric.source, Number)}


def _groups() -> set[str]:
    return {metric.source.name for metric in METRICS if isinstance(metric.source, Group)}


def test_each_distribution_has_a_metric_and_its_buckets_are_few_and_in_order() -> None:
    sources = [metric.source for metric in METRICS if isinstance(metric.source, Buckets)]
    assert {source.name for source in sources} == BOUNDS.keys()
    for source in sources:
        assert list(source.bounds) == sorted(set(source.bounds))
        assert 5 <= len(source.bounds) <= 12
        assert source.bounds[0] > 0


def test_each_number_of_a_loop_has_a_metric() -> None:
    assert LoopCounts().report().counters.keys() <= _numbers()


def test_what_analytics_tells_has_a_metric() -> None:
    latest = Latest()
    latest.show(MinuteSummary(0, {"a": 1}, {"en": 1}), HourSummary(0, 1, 1))
    assert latest.groups.keys() <= _groups()


# ---- samples -----------------------------------------------------------------------------------


def _values(report: Report) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.metric.full_name, sample.labels): sample.value
        for sample in process_samples("explode", "0", report)
    }


def test_a_report_becomes_numbers_in_their_units() -> None:
    counters = {"received": 7, "last_received_us": 1_500_000, "frames_bytes": 600}
    values = _values(Report(State.RUNNING, counters=counters))
    here = ("explode", "0")
    assert values["standpipe_upstream_messages_total", here] == 7
    assert values["standpipe_upstream_last_message_timestamp_seconds", here] == 1.5
    assert values["standpipe_frames_bytes_total", here] == 600
    states = {
        labels[2]: value for (name, labels), value in values.items() if name.endswith("_state")
    }
    assert states == {state: float(state is State.RUNNING) for state in State}


def test_groups_become_labels_and_unknown_names_nothing() -> None:
    tally = Tally()
    tally.add("refused", "mst.key_order", 3)
    tally.add("refused", "signature.invalid")
    tally.add("of a newer version", "x")
    tally.commit()
    values = _values(Report(State.RUNNING, counters={"newer": 1}, groups=tally.groups))
    counts = {key: value for key, value in values.items() if not key[0].endswith("_state")}
    assert counts == {
        ("standpipe_refused_total", ("explode", "0", "mst.key_order")): 3,
        ("standpipe_refused_total", ("explode", "0", "signature.invalid")): 1,
    }


def test_a_distribution_becomes_counts_up_to_each_bound() -> None:
    times = Distribution("batch_times")
    for time_ms in (5, 6, 40_000):
        times.add(time_ms)
    report = Report(State.RUNNING, groups=groups_of(times, Distribution("batch_sizes")))
    [found] = [sample for sample in process_samples("explode", "0", report) if sample.counts]
    assert (found.metric.name, found.value) == ("batch_duration_seconds", 40.011)
    assert found.counts == (1, *[2] * 11, 3)


def test_what_is_not_there_has_no_number() -> None:
    """A bridge that received nothing yet has no time of its last message: 0 would be 1970."""
    names = {name for name, _ in _values(Report(State.STARTING, counters={"received": 0}))}
    assert "standpipe_upstream_last_message_timestamp_seconds" not in names
    assert "standpipe_upstream_messages_total" in names


def test_a_deployment_becomes_lags_conditions_and_the_distance_to_the_edge() -> None:
    processes = [
        Process("explode", str(n), condition, "", None, None, None)
        for n, condition in enumerate((Condition.RUNNING, Condition.RUNNING, Condition.SILENT))
    ]
    lag = Lag(40, is_exact=True, seconds=25.0)
    stages = [
        Stage("bridge", [], 0, 0, 0, 0, None),
        Stage("explode", processes, 0, 0, 0, 0, lag),
        Stage("analytics", [], 0, 0, 0, 0, lag),
    ]
    overview = replace(look(History(), {}, 0), stages=stages)
    values = {
        (sample.metric.name, sample.labels): sample.value
        for sample in deployment_samples(overview, {"explode": 100_000, "bridge": 1})
    }
    assert values["processes", ("explode", "running")] == 2
    assert values["processes", ("explode", "silent")] == 1
    assert values["processes", ("explode", "failed")] == 0
    assert values["lag_messages", ("explode",)] == 40
    assert values["lag_seconds", ("analytics",)] == 25
    assert values["retention_left_seconds", ("explode",)] == 75
    assert values["retention_used_ratio", ("explode",)] == 0.25
    assert ("retention_used_ratio", ("analytics",)) not in values  # kept for ever
    assert ("lag_seconds", ("bridge",)) not in values


# ---- the endpoint ------------------------------------------------------------------------------


def _read(address: Address) -> dict[str, Any]:
    with urlopen(f"http://{address.host}:{address.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_the_endpoint_serves_what_the_process_says_now() -> None:
    counts = LoopCounts()
    with shown("explode", "0", counts.report), serving(_ANYWHERE, samples_of_this_process) as at:
        assert at.port > 0
        for inputs_count in (5, 8):
            counts.inputs_count = inputs_count
            families = _read(at)
            [sample] = families["standpipe_inputs"].samples
            assert (sample.name, sample.value) == ("standpipe_inputs_total", inputs_count)
            assert sample.labels == {"stage": "explode", "slot": "0"}
        assert families["standpipe_inputs"].type == "counter"
        assert BY_NAME["inputs"].meaning in families["standpipe_inputs"].documentation
        assert families["process_resident_memory_bytes"].samples[0].value > 1_000_000
        assert families["standpipe_state"].type == "gauge"
    assert reports() == {}
    with pytest.raises(OSError, match="refused"):
        _read(at)


def test_a_histogram_is_served_as_prometheus_reads_it() -> None:
    counts = LoopCounts()
    for size in (1, 2, 3, 5_000):
        counts.batch_sizes.add(size)
    with shown("explode", "0", counts.report), serving(_ANYWHERE, samples_of_this_process) as at:
        family = _read(at)["standpipe_batch_size"]
    assert family.type == "histogram"
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert values["standpipe_batch_size_count", None] == 4
    assert values["standpipe_batch_size_sum", None] == 5_006
    ends = {end: value for (name, end), value in values.items() if name.endswith("_bucket")}
    assert (ends["1.0"], ends["2.0"], ends["5.0"], ends["2000.0"], ends["+Inf"]) == (1, 2, 3, 3, 4)
    assert len(ends) == len(BOUNDS["batch_sizes"]) + 1


def test_a_port_that_is_taken_is_named_with_the_remedy() -> None:
    with (
        serving(_ANYWHERE, tuple) as at,
        pytest.raises(ConfigError, match="another port with --metrics"),
        serving(at, tuple),
    ):
        pytest.fail("two endpoints at one port")


# ---- alerts and dashboard ----------------------------------------------------------------------


def _parts(text: str) -> Iterator[promql_parser.Expr]:
    """Yields every part of an expression; fails if it is none."""
    waiting = [promql_parser.parse(text)]
    while waiting:
        part = waiting.pop()
        yield part
        for name in ("expr", "lhs", "rhs", "vector_selector"):
            inner = getattr(part, name, None)
            if inner is not None:
                waiting.append(inner)
        waiting += getattr(part, "args", [])


def _check_expression(text: str) -> set[str]:
    """Returns the metrics in an expression, all of which exist and have the labels it names."""
    by_full_name = {
        metric.full_name + ("_bucket" if metric.kind is Kind.HISTOGRAM else ""): metric
        for metric in METRICS
    }
    metrics: set[str] = set()
    labels: set[str] = set()
    for part in _parts(text):
        if isinstance(part, promql_parser.VectorSelector):
            metric = by_full_name[part.name or ""]
            metrics.add(metric.name)
            assert {matcher.name for matcher in part.matchers.matchers} <= set(metric.all_labels)
            labels |= set(metric.all_labels) | ({"le"} if metric.kind is Kind.HISTOGRAM else set())
    for part in _parts(text):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            assert set(part.modifier.labels) <= labels
    return metrics


def test_each_alert_is_promql_over_metrics_that_exist() -> None:
    for alert in alerts():
        assert _check_expression(alert.expression), alert.name
    with pytest.raises(ValueError, match=r"."):
        _check_expression("sum by (stage) (standpipe_lag_seconds")
    with pytest.raises(KeyError):
        _check_expression("standpipe_lags > 1")
    with pytest.raises(AssertionError):
        _check_expression('standpipe_lag_seconds{slot="0"} > 1')


def test_alerts_are_named_once_and_say_what_and_how_bad() -> None:
    names = [alert.name for alert in alerts()]
    assert len(set(names)) == len(names)
    assert {alert.severity for alert in alerts()} == set(Severity)
    for alert in alerts():
        assert re.fullmatch(r"Standpipe[A-Z]\w+", alert.name)
        labels = {
            label
            for metric in _check_expression(alert.expression)
            for label in BY_NAME[metric].all_labels
        }
        assert set(re.findall(r"\$labels\.(\w+)", alert.summary)) <= labels


def test_the_rule_file_is_what_the_registry_makes() -> None:
    text = (_DEPLOY / "prometheus" / "alerts.yaml").read_text()
    assert yaml.safe_load(text) == rules(), "make it anew: standpipe metrics alerts"


def test_the_example_for_prometheus_reads_the_rules_and_ports_that_its_comments_name() -> None:
    path = _DEPLOY / "prometheus" / "prometheus.yaml"
    settings = yaml.safe_load(path.read_text())
    assert [(path.parent / name).is_file() for name in settings["rule_files"]] == [True]
    [job] = settings["scrape_configs"]
    [static] = job["static_configs"]
    stages = [stage for stage in STAGES if not stage.may_end]
    assert len(set(static["targets"])) == len(stages) + 1


def test_the_dashboard_is_what_the_registry_makes() -> None:
    text = (_DEPLOY / "grafana" / "standpipe.json").read_text()
    assert json.loads(text) == dashboard(), "make it anew: standpipe metrics dashboard"


def test_the_dashboard_has_one_panel_for_each_metric_and_none_over_another() -> None:
    panels: list[Mapping[str, Any]] = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    drawn = [
        _check_expression(target["expr"])
        for panel in panels
        for target in panel.get("targets", [])
    ]
    assert sorted(name for names in drawn for name in names) == sorted(BY_NAME)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = SimpleNamespace(**panel["gridPos"])
        assert place.x + place.w <= 24
        own = {
            (x, y)
            for x in range(place.x, place.x + place.w)
            for y in range(place.y, place.y + place.h)
        }
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_grows_is_drawn_as_rates_and_gauges_as_they_are(metric: Metric) -> None:
    assert ("rate(" in expression(metric)) is (metric.kind is not Kind.GAUGE)
    assert ("histogram_quantile(" in expression(metric)) is (metric.kind is Kind.HISTOGRAM)
