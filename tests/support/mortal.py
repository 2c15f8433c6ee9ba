"""`standpipe` as a program that ends itself in its second transaction.

    python tests/support/mortal.py MOMENT COMMAND [OPTION …]

Nothing from outside could aim so well. A replay into topics writes small blocks, so that there is
a second transaction.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import count
from typing import Any
from unittest import mock

from pipelines.cli import main
from pipelines.kafka.messages import Position
from pipelines.kafka.transaction import Transaction, TransactionalProducer
from pipelines.replay.topic import TopicOutput

BLOCK_BYTES = 50_000


class Moment(StrEnum):
    """Where in a transaction it ends."""

    MESSAGES_DELIVERED = "messages-delivered"
    POSITIONS_SENT = "positions-sent"
    COMMITTED = "committed"


def arm(moment: Moment) -> None:
    """Makes this process end at a moment, with no chance to clean up."""
    numbers = count(1)
    send_offsets, run = Transaction.send_offsets, TransactionalProducer.run

    def strike() -> None:
        if next(numbers) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def sending(self: Transaction, *arguments: Any) -> None:
        if moment is Moment.MESSAGES_DELIVERED:
            self.delivered_offsets()
            strike()
        send_offsets(self, *arguments)
        if moment is Moment.POSITIONS_SENT:
            strike()

    def running(
        self: TransactionalProducer, body: Callable[[Transaction], None]
    ) -> Mapping[Position, int]:
        delivered = run(self, body)
        if moment is Moment.COMMITTED:
            strike()
        return delivered

    mock.patch.object(Transaction, "send_offsets", sending).start()
    mock.patch.object(TransactionalProducer, "run", running).start()
    mock.patch.object(TopicOutput, "block_bytes", BLOCK_BYTES).start()


if __name__ == "__main__":
    arm(Moment(sys.argv.pop(1)))
    main()
