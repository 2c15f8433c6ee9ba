"""Prints how many posts of each language were written, for each minute that is over."""

from collections import Counter
from collections.abc import AsyncIterator

import faust
from faust.types.streams import StreamT

from pipelines.analytics.languages import language_of
from pipelines.analytics.records import Record
from pipelines.analytics.transport import read_committed

app = faust.App("cookbook-languages", topic_disable_leader=True)
read_committed(app)
topic = app.topic("atproto.records.app.bsky.feed.post", value_type=Record)


@app.agent(topic, sink=[print])
async def languages(posts: StreamT[Record]) -> AsyncIterator[str]:
    """Yields a line a minute, of the time when records were received and not of the clock.

    So it counts the same in a replay. A late record counts in the minute that is open.
    """
    minute, counts = 0, Counter[str]()
    async for post in posts:
        if post.operation != "create":
            continue
        if (now := post.received_us // 60_000_000) > minute:
            if counts:
                yield " ".join(f"{name}={n}" for name, n in counts.most_common())
            minute, counts = now, Counter()
        counts[language_of(post.record)] += 1
