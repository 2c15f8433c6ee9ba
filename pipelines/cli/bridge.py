"""`standpipe bridge`: copies upstreams' event streams into Kafka until it is stopped."""

import time

import click

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import parse_datetime
from pipelines.bridge import service
from pipelines.bridge.cursor import AtTime, Start
from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.process import stop_event

_MAX_CURSOR_DIGITS = 16  # sequence numbers are below 2^53


class _FirstCursor(click.ParamType):
    """`live`, `oldest`, a sequence number or a time → None, 0, the number or the moment."""

    name = "cursor"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | AtTime | None:
        text = str(value)
        if text == "live":
            return None
        if text == "oldest":
            return 0
        if text.isascii() and text.isdecimal() and len(text) <= _MAX_CURSOR_DIGITS:
            return int(text)
        try:
            time_us = parse_datetime(text)
        except ProtocolError:
            self.fail(
                f"{text!r} is neither live, oldest, a sequence number nor a time like "
                "2026-11-25T14:00:00Z.",
                param,
                ctx,
            )
        if time_us > time.time_ns() // 1000:
            self.fail(f"{text} is still to come; live starts with new events.", param, ctx)
        return AtTime(time_us)


@click.command(name="bridge")
@click.option(
    "--relay",
    "relays",
    multiple=True,
    metavar="URL",
    help="A relay to read: wss://host, https://host, host, or ws://host:port. With several of "
    "them, an event that more than one brings is there once.",
)
@click.option(
    "--pds",
    "servers",
    multiple=True,
    metavar="URL",
    help="A server of accounts (PDS) to read directly. What it says of accounts whose DID "
    "document names another server is refused.",
)
@click.option(
    "--cursor",
    "first_cursor",
    type=_FirstCursor(),
    default="live",
    show_default=True,
    metavar="live|oldest|N|TIME",
    help="Where to start the first time: with new events, with the oldest the upstream still "
    "has, after sequence number N (of the only upstream), or with what happened at TIME "
    "(2026-11-25T14:00:00Z), which is looked for in the stream. Of no effect once a cursor is "
    "stored for a host.",
)
@click.option(
    "--give-up-cursor",
    "given_up",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="If the cursor stored for a host is N, forget it and start as --cursor says: for an "
    "upstream that numbers its events anew. The topic gaps will tell what may be missing.",
)
@click.option(
    "--slot",
    default="0",
    show_default=True,
    metavar="NAME",
    help="Stable name of this process; each bridge of a deployment has its own.",
)
@metrics_option
@kafka_options
def command(
    *,
    relays: tuple[str, ...],
    servers: tuple[str, ...],
    first_cursor: int | AtTime | None,
    given_up: tuple[int, ...],
    slot: str,
    kafka: KafkaConfig,
) -> None:
    """Copies the event streams of upstreams into the topic frames, byte for byte.

    \b
    frames      one message a frame; key DID, headers host seq kind received_us
    cursors     how far the upstream was copied, per host
    epochs      which frames each transaction brought, and where they are
    gaps        where events are known to be missing between two frames, and why
    quarantine  messages that cannot be read, keyed by host

    All of it is written in one transaction, so that after any crash the next start continues
    with exactly the frame that follows the last one in Kafka.

    One bridge works for a pipeline. Start a second one, with the same upstreams and a --slot of
    its own: it stands by, and takes over about ten seconds after the first one is gone.

    It runs until Ctrl-C or SIGTERM, and then writes what it has received. A connection that
    breaks is made again; while Kafka is away nothing is read, and nothing is lost as long as the
    upstream keeps it. Every ten seconds a line "progress" on stderr says how far it is.

    \b
    Before:  standpipe kafka start && standpipe topics apply
    Try it:  standpipe sim --capture tests/data/capture --port 2583 &
             standpipe bridge --relay ws://127.0.0.1:2583
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    with stop_event() as stopping:
        start = Start(first_cursor, frozenset(given_up))
        service.run(kafka, relays, start, stopping.is_set, slot, servers)
