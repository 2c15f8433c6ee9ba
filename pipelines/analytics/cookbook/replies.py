"""Prints who answers one account: what a notification is made of."""

from collections.abc import AsyncIterator
from typing import Final

import faust
from faust.types.streams import StreamT

from pipelines.analytics.records import Record
from pipelines.analytics.transport import read_committed

# Whose answers are wanted; here that of bsky.app.
ACCOUNT: Final = "did:plc:z72i7hdynmk6r22z27h6tvur"

app = faust.App("cookbook-replies", topic_disable_leader=True)
read_committed(app)
topic = app.topic("atproto.records.app.bsky.feed.post", value_type=Record)


@app.agent(topic, sink=[print])
async def replies(posts: StreamT[Record]) -> AsyncIterator[str]:
    """Yields the answer and what it answers. Any JSON may be in a record, hence the pattern."""
    async for post in posts:
        match post.record:
            case {"reply": {"parent": {"uri": str(parent)}}}:
                if parent.startswith(f"at://{ACCOUNT}/"):
                    yield f"{post.uri} answers {parent}"
