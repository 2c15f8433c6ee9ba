"""Replays that subscribers ask for, each as it likes."""

import click
from click.core import ParameterSource

from pipelines.config import KafkaConfig
from pipelines.metrics.endpoint import Address
from pipelines.process import stop_event

# Which cluster and topics, whatever is done with them.
_OF_THE_CLUSTER = frozenset({"admitted", "bootstrap_servers", "topic_prefix"})


def serve_jetstream(
    ctx: click.Context, kafka: KafkaConfig, topics: tuple[str, ...], address: Address
) -> int:
    """Serves `events` as Jetstream does, until it is asked to stop.

    Args:
        ctx: of the command.
        kafka: the cluster.
        topics: as given.
        address: where to listen.

    Returns:
        The exit code.

    Raises:
        click.UsageError: something else is asked for at the same time.
        BrokerUnavailableError: no broker answers at the start.
        ConfigError: it cannot listen there, or the topic is missing.
    """
    # It has a web server, which no other replay needs.
    from pipelines.serving import jetstream_server  # noqa: PLC0415

    if topics != (jetstream_server.TOPIC,):
        raise click.UsageError(
            f"--serve-jetstream is for the topic {jetstream_server.TOPIC} alone, which has every "
            "record, account and identity."
        )
    others = [
        param.opts[0]
        for param in ctx.command.params
        if param.name not in {"topics", "jetstream"} | _OF_THE_CLUSTER
        and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]
    if others:
        raise click.UsageError(
            f"--serve-jetstream leaves out {', '.join(others)}: each subscriber says itself where "
            "it begins and what it wants."
        )

    def tell(host: str, port: int) -> None:
        click.echo(f"ws://{host}:{port}{jetstream_server.PATH}")

    with stop_event() as stop:
        jetstream_server.serve(kafka, address.host, address.port, tell, stop.is_set)
    return 0
