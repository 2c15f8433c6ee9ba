"""`standpipe metrics`: what can be measured, and where it is served."""

import json

import click
import yaml

from pipelines.cli.metrics_option import ADDRESS
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.metrics import service
from pipelines.metrics.alerts import rules
from pipelines.metrics.dashboard import dashboard
from pipelines.metrics.endpoint import Address
from pipelines.metrics.registry import METRICS, Buckets
from pipelines.process import stop_event


@click.group()
def command() -> None:
    """Numbers for Prometheus.

    Each stage serves its own with --metrics. What no process can know of itself, such as how far a
    stage is behind, `serve` has, once for a deployment.
    """


@command.command()
@click.option(
    "--listen",
    "address",
    type=ADDRESS,
    default="127.0.0.1:9465",
    show_default=True,
    metavar="[HOST:]PORT",
    help="Where to serve; the host is 127.0.0.1 unless it is named.",
)
@kafka_options
def serve(address: Address, kafka: KafkaConfig) -> None:
    """Serve what is seen of a deployment from outside, at /metrics, until Ctrl-C."""
    with stop_event() as stop:

        def wait(listening: Address) -> None:
            click.echo(f"http://{listening.host}:{listening.port}/metrics")
            stop.wait()

        service.run(kafka, address, wait)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def list_metrics(*, as_json: bool) -> None:
    """List every metric: name, type, labels, unit, meaning; in JSON also where buckets end."""
    rows = [
        {
            "name": metric.full_name,
            "type": metric.kind.value,
            "labels": list(metric.all_labels),
            "unit": metric.unit,
            "meaning": metric.meaning,
            "buckets": list(metric.source.bounds) if isinstance(metric.source, Buckets) else [],
        }
        for metric in METRICS
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for metric in METRICS:
        name = f"{metric.full_name}{{{','.join(metric.all_labels)}}}"
        click.echo(f"{name}\t{metric.kind}\t{metric.unit}\t{metric.meaning}")


@command.command(name="dashboard")
def print_dashboard() -> None:
    """Print the dashboard for Grafana: deploy/grafana/standpipe.json."""
    click.echo(json.dumps(dashboard(), indent=2))


@command.command(name="alerts")
def print_alerts() -> None:
    """Print the alert rules for Prometheus: deploy/prometheus/alerts.yaml."""
    click.echo(yaml.safe_dump(rules(), sort_keys=False, width=99), nl=False)
