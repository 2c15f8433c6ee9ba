"""The dashboard for Grafana, made from the registry of metrics: a panel for each. Pure.

`deploy/grafana/standpipe.json` is what `dashboard` returns, and a test holds them equal.
"""

from collections.abc import Iterator
from typing import Any, Final

from pipelines.metrics.registry import METRICS, Deployment, Kind, Metric

_COLUMNS: Final = 24  # of Grafana's grid
_WIDTH: Final = 8
_HEIGHT: Final = 7
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana imports it: first the deployment, then its processes."""
    outside = [metric for metric in METRICS if isinstance(metric.source, Deployment)]
    inside = [metric for metric in METRICS if not isinstance(metric.source, Deployment)]
    panels: list[dict[str, Any]] = []
    top = 0
    for title, metrics in (("Deployment", outside), ("Processes", inside)):
        panels.append(_row(title, len(panels) + 1, top))
        top += 1
        for index, metric in enumerate(metrics):
            row, column = divmod(index, _COLUMNS // _WIDTH)
            place = (column * _WIDTH, top + row * _HEIGHT)
            panels.append(_panel(metric, len(panels) + 1, place))
        top += -(-len(metrics) * _WIDTH // _COLUMNS) * _HEIGHT
    return {
        "uid": "standpipe",
        "title": "Standpipe",
        "tags": ["standpipe"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }


def expression(metric: Metric) -> str:
    """Returns what is drawn of a metric, in PromQL.

    Sums over processes, of counters a second; of a moment how long ago it was; of a histogram
    what all but one in twenty are below. What is one process's alone, such as a place in a stream,
    is not added up.
    """
    if metric.kind is Kind.HISTOGRAM:
        return quantile(metric, 0.95, "5m")
    labels = [label for label in metric.all_labels if label != "slot"]
    series = metric.full_name
    if metric.name.endswith(("_timestamp_seconds", "_seq", "_delay_seconds")):
        return f"time() - {series}" if metric.name.endswith("_timestamp_seconds") else series
    if metric.kind is Kind.COUNTER:
        series = f"rate({series}[5m])"
    return f"sum by ({', '.join(labels)}) ({series})"


def quantile(metric: Metric, part: float, span: str) -> str:
    """Returns what a part of the values of a histogram is below, by stage, in PromQL.

    Args:
        metric: the histogram.
        part: of 1.
        span: of the values of how long.
    """
    rate = f"rate({metric.full_name}_bucket[{span}])"
    return f"histogram_quantile({part}, sum by (stage, le) ({rate}))"


def _row(title: str, number: int, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
    }


def _panel(metric: Metric, number: int, place: tuple[int, int]) -> dict[str, Any]:
    x, y = place
    return {
        "id": number,
        "type": "timeseries",
        "title": _title(metric),
        "description": f"{metric.meaning} ({metric.unit})",
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": _grafana_unit(metric)}, "overrides": []},
        "gridPos": {"x": x, "y": y, "w": _WIDTH, "h": _HEIGHT},
        "targets": [
            {
                "refId": "A",
                "datasource": _DATASOURCE,
                "expr": expression(metric),
                "legendFormat": " ".join(_legend(metric)),
            }
        ],
    }


def _title(metric: Metric) -> str:
    title = metric.name.replace("_", " ")
    return f"{title}, 95%" if metric.kind is Kind.HISTOGRAM else title


def _legend(metric: Metric) -> Iterator[str]:
    for label in metric.all_labels:
        if label != "slot" or "sum by" not in expression(metric):
            yield f"{{{{{label}}}}}"


def _grafana_unit(metric: Metric) -> str:
    match metric.unit, metric.kind:
        case "bytes", Kind.COUNTER:
            return "Bps"
        case ("seconds", Kind.COUNTER) | ("1", _):
            return "percentunit"  # of the time
        case "bytes", Kind.HISTOGRAM:
            return "bytes"
        case (("seconds" | "seconds since 1970"), _):
            return "s"
        case _, Kind.COUNTER:
            return "cps"
        case _:
            return "short"
