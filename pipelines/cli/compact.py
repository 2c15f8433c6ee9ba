"""`standpipe compact`: one process that keeps repositories' state and latest records."""

from pathlib import Path

import click

from pipelines.cli.metrics_option import metrics_option
from pipelines.cli.options import kafka_options
from pipelines.cli.tracking_options import Tracking, tracking_options
from pipelines.compact import service
from pipelines.compact.accounts import DEFAULT_PURGE_AFTER_S, OnInactive, Policy
from pipelines.config import KafkaConfig, state_directory
from pipelines.process import stop_event


@click.command()
@click.option(
    "--slot",
    default="0",
    show_default=True,
    metavar="NAME",
    help="Stable name of this process; each compact process of a deployment has its own.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Where the local stores are. Default: compact/<topic prefix>/<slot> in $STANDPIPE_HOME "
    "(.standpipe). They may be deleted at any time: they are rebuilt from the topics.",
)
@click.option(
    "--repair/--no-repair",
    "is_repairing",
    default=True,
    show_default=True,
    help="Whether to ask for repositories in which something is missing. Without, they stay as "
    "they are until the chain closes by itself or somebody else asks; what is answered is applied "
    "in any case.",
)
@click.option(
    "--on-inactive",
    type=click.Choice([choice.value for choice in OnInactive]),
    default=OnInactive.KEEP.value,
    show_default=True,
    help="What becomes of the records of accounts that are suspended, taken down or deactivated: "
    "keep them for whoever follows repos, or purge them with nulls, as those of deleted accounts. "
    "An account that returns is asked for anew either way.",
)
@click.option(
    "--purge-after",
    "purge_after_s",
    type=click.FloatRange(min=0),
    default=DEFAULT_PURGE_AFTER_S,
    show_default=True,
    metavar="SECONDS",
    help="How long the records of a deleted account wait for its server, or the directory, to "
    "confirm that it is gone. They get their nulls then, or after this time whoever says what; 0 "
    "means at once, and nobody is asked.",
)
@tracking_options
@metrics_option
@kafka_options
def command(
    *,
    slot: str,
    state_dir: Path | None,
    is_repairing: bool,
    on_inactive: str,
    purge_after_s: float,
    tracking: Tracking,
    kafka: KafkaConfig,
) -> None:
    """Keep the latest state: atproto.events, snapshots → repos, latest.*, resyncs.

    \b
    repos     per DID: the commit whose records we hold, whether the account may be shown, and
              whether anything is missing (sync: unknown, synchronized, desynchronized, and
              applying while it is being repaired)
    latest.*  per at-uri: the latest record; a null where it is gone
    resyncs   a request for each repository in which something is missing, and for that of each
              account that was deleted: is it gone?

    A commit is applied if it continues the one before, by revision and by the root of the tree.
    One that does not, a commit that was refused, and a repository that is not known from its
    first commit on make the repository desynchronized, with the reason. Once the stage resync
    has fetched and proven it, the difference is applied between two batches of events, and what
    came meanwhile behind it.

    Start one, or several with their own --slot; they share the partitions and take over from each
    other. Its memory is in the topics: a local store that is missing, damaged or too old is built
    anew at the start, with a line "restoring" every five seconds.

    All repositories are tracked unless --track-dids or --track-collection names some. The others
    are in events and records.* all the same, but have no state here and are never asked for.
    Somebody who is taken up later is fetched whole; `standpipe backfill` does so at once.

    Ctrl-C finishes the batch in hand and leaves the group.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    folder = state_dir or state_directory() / "compact" / kafka.topic_prefix / slot
    with stop_event() as stop:
        service.run(
            kafka,
            folder,
            slot=slot,
            policy=Policy(
                is_repairing, OnInactive(on_inactive), purge_after_s, tracking.tracked()
            ),
            should_stop=stop.is_set,
        )
