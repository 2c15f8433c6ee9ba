"""An index of posts, killed while it is built: `make chaos-index`, or with `--kills` and `--seed`.

Each life of the process begins where the last one was killed, while `repos` and `latest.*` grow in
transactions of which some are aborted. It is killed before, within and after the transaction of a
batch, and at any moment, in turn. Afterwards the index has to be what is true, and so has one
that is made from the beginning. Exit code 0 means that both are.
"""

import argparse
import sys
import tempfile
import time
import uuid
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.broker import running_broker
from support.index_kills import Moment, contents, kill_again_and_again

from pipelines.config import KafkaConfig
from pipelines.kafka.admin import apply, plan

PARTITIONS = 4


def main() -> int:
    """Reads the command line, kills and compares."""
    parser = argparse.ArgumentParser(description="Kills an index again and again, and compares.")
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="what the messages follow from")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error("--kills is at least 1")
    with running_broker() as broker, tempfile.TemporaryDirectory() as name:
        kafka = KafkaConfig(broker.bootstrap_servers, f"chaos-{uuid.uuid4().hex[:8]}")
        apply(plan(kafka, PARTITIONS))
        begun_s = time.monotonic()
        folder = Path(name)
        moments = islice(cycle(Moment), options.kills)
        killed = kill_again_and_again(kafka, PARTITIONS, folder, moments, options.seed)
        took_s = time.monotonic() - begun_s
        wrong = {
            file: len(set(contents(folder / file).items()) ^ set(killed.shown.items()))
            for file in ("posts.db", "fresh.db")
        }
    sys.stdout.write(
        f"{options.kills} kills in {took_s:.0f} s, {killed.messages_count:,} messages, "
        f"{len(killed.shown):,} posts to be shown; wrong after the kills: {wrong['posts.db']}, "
        f"made from the beginning: {wrong['fresh.db']}\n"
    )
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
