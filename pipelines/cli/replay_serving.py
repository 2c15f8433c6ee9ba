"""Replays that subscribers ask for over a socket, each as it likes."""

from dataclasses import replace

import click
from click.core import ParameterSource

from pipelines.config import KafkaConfig
from pipelines.metrics.endpoint import Address
from pipelines.process import stop_event
from pipelines.replay.epochs import EpochsError
from pipelines.replay.planning import FRAMES, Request

# What each goes together with, by parameter.
_WITH_FRAMES = frozenset({"serve", "since", "until", "late", "host", "seq", "dids"})
_WITH_JETSTREAM = frozenset({"jetstream"})
_WITH_BOTH = frozenset({"topics", "admitted", "bootstrap_servers", "topic_prefix"})


def check_frames_alone(topics: tuple[str, ...]) -> None:
    """Checks that nothing is asked for that a socket of frames has no use for.

    Args:
        topics: as given.

    Raises:
        click.UsageError: something is.
    """
    if topics != (FRAMES,):
        raise click.UsageError(
            f"--serve is for the topic {FRAMES} alone: nothing else is an event stream."
        )
    if others := _given_besides(_WITH_FRAMES):
        raise click.UsageError(
            f"--serve leaves out {', '.join(others)}: it sends what there is and what comes, at "
            "the pace of each subscriber. Bound it with --since, --until, --seq or --did."
        )


def serve_frames(kafka: KafkaConfig, request: Request, address: Address) -> int:
    """Serves frames until it is asked to stop.

    Args:
        kafka: the cluster.
        request: checked.
        address: where to listen.

    Returns:
        The exit code.

    Raises:
        BrokerUnavailableError: no broker answers at the start.
        ConfigError: it cannot listen there, or the topics have not what is asked for.
        OffsetLostError: messages were deleted before they could be read, though they were new.
        click.ClickException: the frames' order cannot be told.
    """
    # It has a web server, which no other replay needs.
    from pipelines.serving import frames_server  # noqa: PLC0415

    def tell(host: str, url: str) -> None:
        click.echo(f"the frames of {host}; Ctrl-C ends it", err=True)
        click.echo(url)

    is_bounded = request.window.until_ms is not None or request.last_seq is not None
    try:
        with stop_event() as stop:
            frames_server.serve(
                kafka,
                replace(request, is_following=not is_bounded),
                (address.host, address.port),
                tell,
                stop.is_set,
            )
    except EpochsError as error:
        raise click.ClickException(str(error)) from None
    return 0


def serve_jetstream(kafka: KafkaConfig, topics: tuple[str, ...], address: Address) -> int:
    """Serves `events` as Jetstream does, until it is asked to stop.

    Args:
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
    # As above.
    from pipelines.serving import jetstream_server  # noqa: PLC0415

    if topics != (jetstream_server.TOPIC,):
        raise click.UsageError(
            f"--serve-jetstream is for the topic {jetstream_server.TOPIC} alone, which has every "
            "record, account and identity."
        )
    if others := _given_besides(_WITH_JETSTREAM):
        raise click.UsageError(
            f"--serve-jetstream leaves out {', '.join(others)}: each subscriber says itself where "
            "it begins and what it wants."
        )

    def tell(host: str, port: int) -> None:
        click.echo(f"ws://{host}:{port}{jetstream_server.PATH}")

    with stop_event() as stop:
        jetstream_server.serve(kafka, address.host, address.port, tell, stop.is_set)
    return 0


def _given_besides(parameters: frozenset[str]) -> list[str]:
    """Returns the options on the command line that are none of these, and of no replay's."""
    ctx = click.get_current_context()
    return [
        param.opts[0]
        for param in ctx.command.params
        if param.name not in _WITH_BOTH | parameters
        and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]
