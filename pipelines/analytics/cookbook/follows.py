"""Prints whom an account follows from now on, and whom no longer."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

import faust
from faust.types.streams import StreamT

from pipelines.analytics.records import Record
from pipelines.analytics.transport import read_committed

# Some 300 bytes each.
REMEMBERED_COUNT: Final = 100_000

app = faust.App("cookbook-follows", topic_disable_leader=True)
read_committed(app)
topic = app.topic("atproto.records.app.bsky.graph.follow", value_type=Record)


@app.agent(topic, sink=[print])
async def follows(records: StreamT[Record]) -> AsyncIterator[str]:
    """Yields a line for each follow. A delete has no record: what was in it has to be remembered.

    The oldest are forgotten first; whom those were of is then not known.
    """
    remembered = OrderedDict[str, str]()
    async for follow in records:
        before = remembered.pop(follow.uri, "somebody")
        match follow.record:
            case {"subject": str(subject)}:
                remembered[follow.uri] = subject
                if len(remembered) > REMEMBERED_COUNT:
                    remembered.popitem(last=False)
                yield f"{follow.did} follows {subject}"
        if follow.operation == "delete":
            yield f"{follow.did} no longer follows {before}"
