"""Prints the addresses of the web in posts, in rich text and in cards."""

from collections.abc import AsyncIterator

import faust
from faust.types.streams import StreamT

from pipelines.analytics.mentions import Kind, mentions_of
from pipelines.analytics.records import Record
from pipelines.analytics.transport import read_committed

app = faust.App("cookbook-links", topic_disable_leader=True)
read_committed(app)
topic = app.topic("atproto.records.app.bsky.feed.post", value_type=Record)


@app.agent(topic, sink=[print])
async def links(posts: StreamT[Record]) -> AsyncIterator[str]:
    """Yields post and address. Any JSON may be in a record: `mentions` trusts none of it."""
    async for post in posts:
        found = mentions_of(post.collection, post.record)
        for link in sorted(found.get(Kind.LINKS, ())):
            yield f"{post.uri} {link}"
