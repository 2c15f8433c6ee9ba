"""The replay that subscribers ask for: the frames of one upstream, over a socket."""

from dataclasses import replace

import click
from click.core import ParameterSource

from pipelines.config import KafkaConfig
from pipelines.metrics.endpoint import Address
from pipelines.process import stop_event
from pipelines.replay.epochs import EpochsError
from pipelines.replay.planning import FRAMES, Request

# What goes together with it, by parameter.
_SERVED = frozenset({"since", "until", "late", "host", "seq", "dids"})
_OF_THE_CLUSTER = frozenset({"topics", "serve", "admitted", "bootstrap_servers", "topic_prefix"})


def check_alone(topics: tuple[str, ...]) -> None:
    """Checks that nothing is asked for that a socket has no use for.

    Args:
        topics: as given.

    Raises:
        click.UsageError: something is.
    """
    if topics != (FRAMES,):
        raise click.UsageError(
            f"--serve is for the topic {FRAMES} alone: nothing else is an event stream."
        )
    ctx = click.get_current_context()
    others = [
        param.opts[0]
        for param in ctx.command.params
        if param.name not in _SERVED | _OF_THE_CLUSTER
        and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]
    if others:
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
