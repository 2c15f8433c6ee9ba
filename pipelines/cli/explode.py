"""`standpipe explode`: one worker that proves frames and publishes events and records."""

from pathlib import Path

import click

from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.cli.resolving import resolver_options
from pipelines.config import KafkaConfig, state_directory
from pipelines.explode import service
from pipelines.explode.waiting import DEFAULT_LIMIT_S
from pipelines.identity.memory import DEFAULT_KEYS_COUNT, KEY_BYTES
from pipelines.identity.resolver import Resolver
from pipelines.process import stop_event


@click.command()
@click.option(
    "--slot",
    default="0",
    show_default=True,
    metavar="NAME",
    help="Stable name of this worker; each worker of a deployment has its own.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Where the local stores are. Default: explode/<topic prefix>/<slot> in $STANDPIPE_HOME "
    "(.standpipe). They may be deleted at any time: they are rebuilt from the topic identities.",
)
@click.option(
    "--memory-keys",
    type=click.IntRange(min=1),
    default=DEFAULT_KEYS_COUNT,
    show_default=True,
    metavar="N",
    help=f"Signing keys kept in memory, {KEY_BYTES} bytes each; the others are in the stores.",
)
@click.option(
    "--give-up-after",
    type=click.FloatRange(min=0),
    default=DEFAULT_LIMIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a frame waits for an identity that nobody can tell, before it goes to "
    "quarantine; well below the retention of frames.",
)
@click.option(
    "--no-refusal-ceiling",
    is_flag=True,
    help="Go on although refusals span many accounts and servers at once. Without it the worker "
    "then stops, with nothing of the batch committed: such refusals are likely our own fault.",
)
@click.option(
    "--record-cbor",
    is_flag=True,
    help="Write each record's block (DAG-CBOR, base64) into records.* beside its JSON, for "
    "readers that hash it. Give it to all workers or to none; it takes about as much room again.",
)
@resolver_options
@metrics_option
@kafka_options
def command(
    slot: str,
    state_dir: Path | None,
    memory_keys: int,
    give_up_after: float,
    *,
    no_refusal_ceiling: bool,
    record_cbor: bool,
    resolver: Resolver,
    kafka: KafkaConfig,
) -> None:
    """Prove frames: atproto.frames → events, records, quarantine, identities, parked.

    Start as many as there are partitions, each with its own --slot; they share the work and take
    over from each other, with what they know of identities. Every output is committed together
    with the position of its frame, so that a reader with isolation.level=read_committed sees each
    exactly once.

    A frame whose account's identity nobody can tell now is parked, with all that follow of the
    account, and the others go on; it is proven once the directory or host is back.

    Ctrl-C finishes the batch in hand and leaves the group.
    """
    folder = state_dir or state_directory() / "explode" / kafka.topic_prefix / slot
    with stop_event() as stop:
        service.run(
            kafka,
            resolver,
            folder,
            slot=slot,
            should_stop=stop.is_set,
            limits=service.Limits(
                memory_keys,
                give_up_after,
                has_refusal_ceiling=not no_refusal_ceiling,
                has_blocks=record_cbor,
            ),
        )
