"""`standpipe bridge`: copies an upstream's event stream into Kafka until it is stopped."""

import click

from pipelines.bridge import service
from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.process import stop_event

_MAX_CURSOR_DIGITS = 16  # sequence numbers are below 2^53


class _FirstCursor(click.ParamType):
    """`live`, `oldest` or a sequence number → None, 0 or the number."""

    name = "cursor"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        text = str(value)
        if text == "live":
            return None
        if text == "oldest":
            return 0
        if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_CURSOR_DIGITS):
            self.fail(f"{text!r} is neither live, oldest nor a sequence number.", param, ctx)
        return int(text)


@click.command(name="bridge")
@click.option(
    "--relay",
    required=True,
    metavar="URL",
    help="The relay or PDS to read: wss://host, https://host, host, or ws://host:port.",
)
@click.option(
    "--cursor",
    "first_cursor",
    type=_FirstCursor(),
    default="live",
    show_default=True,
    metavar="live|oldest|N",
    help="Where to start the first time: with new events, with the oldest the upstream still "
    "has, or after sequence number N. Of no effect once a cursor is stored for the host.",
)
@metrics_option
@kafka_options
def command(*, relay: str, first_cursor: int | None, kafka: KafkaConfig) -> None:
    """Copies an upstream's event stream into the topic frames, byte for byte.

    \b
    frames      one message a frame; key DID, headers host seq kind received_us
    cursors     how far the upstream was copied, per host
    epochs      which frames each transaction brought, and where they are
    quarantine  messages that cannot be read, keyed by host

    All four are written in one transaction, so that after any crash the next start continues
    with exactly the frame that follows the last one in Kafka. One process reads one upstream, and
    one upstream is read by one process: a second one takes over from the first.

    It runs until Ctrl-C or SIGTERM, and then writes what it has received. A connection that
    breaks is made again; while Kafka is away nothing is read, and nothing is lost as long as the
    upstream keeps it. Every ten seconds a line "progress" on stderr says how far it is.

    \b
    Before:  standpipe kafka start && standpipe topics apply
    Try it:  standpipe sim --capture tests/data/capture --port 2583 &
             standpipe bridge --relay ws://127.0.0.1:2583
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    with stop_event() as stopping:
        service.run(kafka, relay, first_cursor, stopping.is_set)
