"""Prints the post that is liked most of late, whenever that is another one."""

from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import Final

import faust
from faust.types.streams import StreamT

from pipelines.analytics.mentions import Kind, mentions_of
from pipelines.analytics.records import Record
from pipelines.analytics.transport import read_committed

# So many likes are counted; the bound of the memory, too.
WINDOW_COUNT: Final = 10_000

app = faust.App("cookbook-likes", topic_disable_leader=True)
read_committed(app)
topic = app.topic("atproto.records.app.bsky.feed.like", value_type=Record)


@app.agent(topic, sink=[print])
async def likes(records: StreamT[Record]) -> AsyncIterator[str]:
    """Yields the post and its likes, of the last `WINDOW_COUNT`; who leads has to be overtaken."""
    window, counts, leader = deque[str](), Counter[str](), ""
    async for like in records:
        for post in mentions_of(like.collection, like.record).get(Kind.POSTS, ()):
            window.append(post)
            counts[post] += 1
            if len(window) > WINDOW_COUNT:
                counts[oldest := window.popleft()] -= 1
                if not counts[oldest]:
                    del counts[oldest]
            if post != leader and counts[post] > counts[leader]:
                leader = post
                yield f"{counts[post]} likes: {post}"
