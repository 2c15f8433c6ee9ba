"""The agents of the cookbook over records of the real network, as Faust runs them.

What they have to print follows from what another implementation emitted for the same events.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from faust.types.agents import AgentT
from support.admissions import NOBODY
from support.recordings import load_recording

from pipelines.analytics.cookbook import follows, languages, likes, links, replies
from pipelines.analytics.records import Record
from pipelines.explode.outputs import OutputTopics, outputs_of
from pipelines.explode.sources import Source
from pipelines.kafka.messages import InputMessage
from pipelines.verdict import judge_frame

POST, LIKE, FOLLOW = "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.graph.follow"
MINUTE_US = 60_000_000
# A dozen frames to a minute.
START_US = 1_783_175_880_000_000
STEP_US = 5_000_000
TOPICS = OutputTopics("events", "quarantine", "identities", "parked", "records", {}, NOBODY)
DEADLINE_S = 60

pytestmark = pytest.mark.shared


@dataclass(frozen=True, slots=True)
class Written:
    """One record, as we tell of it and as the others do."""

    ours: Record
    theirs: Mapping[str, Any]

    @property
    def uri(self) -> str:
        commit = self.theirs["commit"]
        return f"at://{self.theirs['did']}/{commit['collection']}/{commit['rkey']}"

    @property
    def content(self) -> Mapping[str, Any]:
        return self.theirs["commit"].get("record") or {}


@pytest.fixture
def network(shared_data: Path) -> list[Written]:
    """All records of the recorded frames, in order."""
    folder = shared_data / "network-frames"
    recording = load_recording(folder)
    values = []
    for number, frame in enumerate(recording.frames):
        received_us = START_US + number * STEP_US
        message = InputMessage("frames", 0, number, received_us // 1000, None, frame, [])
        verdict = judge_frame(frame, recording.keys, received_us)
        outputs = outputs_of(verdict, Source("relay.example", received_us, message), TOPICS)
        values += [out.value for out in outputs if out.topic == "records" and out.value]
    lines = (folder / "expected_jetstream_v1.jsonl").read_bytes().splitlines()
    ours = [Record.loads(value) for value in values]
    return [Written(*both) for both in zip(ours, map(orjson.loads, lines), strict=True)]


def of(collection: str, network: Iterable[Written]) -> list[Written]:
    found = [written for written in network if written.ours.collection == collection]
    assert found
    assert all(written.theirs["commit"]["collection"] == collection for written in found)
    return found


def printed(agent: AgentT[Any], records: Iterable[Record]) -> list[str]:
    """Returns what an agent says of records."""
    return asyncio.run(_run(agent, list(records)))


async def _run(agent: AgentT[Any], records: Sequence[Record]) -> list[str]:
    lines: list[str] = []
    before_last: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    last = Record.loads(records[-1].dumps())

    def look(record: Record) -> Record:
        # The agent asks for it when it is done with everything before.
        if record is last:
            before_last.set_result(list(lines))
        return record

    async with agent.test_context() as tested:
        tested.add_sink(lines.append)
        tested.stream().add_processor(look)
        for record in [*records, last]:
            await tested.put(record, wait=False)
        return await asyncio.wait_for(before_last, DEADLINE_S)


def test_links_of_posts(network: list[Written], capsys: pytest.CaptureFixture[str]) -> None:
    posts = of(POST, network)
    expected = []
    for post in posts:
        external = post.content.get("embed", {}).get("external", {})
        features = [
            feature for facet in post.content.get("facets", []) for feature in facet["features"]
        ]
        found = {one["uri"] for one in [external, *features] if "uri" in one}
        expected += [f"{post.uri} {link}" for link in sorted(found)]
    assert expected
    assert printed(links.links, (post.ours for post in posts)) == expected
    assert capsys.readouterr().out.splitlines()[: len(expected)] == expected


def test_replies_to_an_account(network: list[Written], monkeypatch: pytest.MonkeyPatch) -> None:
    posts = of(POST, network)
    parents = [
        (post.uri, post.content["reply"]["parent"]["uri"])
        for post in posts
        if "reply" in post.content
    ]
    [(account, count)] = Counter(parent.split("/")[2] for _, parent in parents).most_common(1)
    monkeypatch.setattr(replies, "ACCOUNT", account)
    expected = [
        f"{uri} answers {parent}" for uri, parent in parents if parent.split("/")[2] == account
    ]
    assert len(expected) == count < len(posts)
    assert printed(replies.replies, (post.ours for post in posts)) == expected


def test_languages_of_each_minute_that_is_over(network: list[Written]) -> None:
    posts = of(POST, network)
    minutes: dict[int, Counter[str]] = {}
    for post in posts:
        counts = minutes.setdefault(post.ours.received_us // MINUTE_US, Counter())
        found = {tag[:2] for tag in post.content.get("langs", [])}
        assert len(found) <= 1
        counts[found.pop() if found else "und"] += 1
    *over, _ = minutes.values()
    said = printed(languages.languages, (post.ours for post in posts))
    assert [dict(part.split("=") for part in line.split()) for line in said] == [
        {name: str(count) for name, count in counts.items()} for counts in over
    ]
    assert said


@pytest.mark.parametrize("window_count", [7, 10_000])
def test_the_post_that_is_liked_most_of_late(
    network: list[Written], monkeypatch: pytest.MonkeyPatch, window_count: int
) -> None:
    monkeypatch.setattr(likes, "WINDOW_COUNT", window_count)
    # Hardly a post was liked twice in that second: some likes come several times here.
    stream = [like for like in of(LIKE, network) for _ in range(int(like.uri[-1], 36) % 4 + 1)]
    subjects = [like.content["subject"]["uri"] for like in stream]
    assert all(f"/{POST}/" in subject for subject in subjects)
    expected, leader = [], ""
    for end, subject in enumerate(subjects, start=1):
        counts = Counter(subjects[max(end - window_count, 0) : end])
        if subject != leader and counts[subject] > counts[leader]:
            leader = subject
            expected.append(f"{counts[subject]} likes: {subject}")
    assert len(expected) > 1
    assert printed(likes.likes, (like.ours for like in stream)) == expected


def test_who_follows_whom(network: list[Written]) -> None:
    found = of(FOLLOW, network)
    expected = []
    for record in found:
        did, operation = record.theirs["did"], record.theirs["commit"]["operation"]
        if operation == "delete":
            expected.append(f"{did} no longer follows somebody")
        else:
            expected.append(f"{did} follows {record.content['subject']}")
    assert {"somebody", "follows"} <= {word for line in expected for word in line.split()}
    assert printed(follows.follows, (record.ours for record in found)) == expected


@pytest.mark.parametrize("remembered_count", [1, 100_000])
def test_who_no_longer_follows_is_known_as_long_as_it_is_remembered(
    network: list[Written], monkeypatch: pytest.MonkeyPatch, remembered_count: int
) -> None:
    monkeypatch.setattr(follows, "REMEMBERED_COUNT", remembered_count)
    created = [record for record in of(FOLLOW, network) if record.content]
    gone = [record.ours.derive(operation="delete", record=None) for record in created]
    said = printed(follows.follows, [*(record.ours for record in created), *gone])
    subjects = [record.content["subject"] for record in created]
    kept = ["somebody"] * (len(subjects) - remembered_count) + subjects[-remembered_count:]
    assert said[len(created) :] == [
        f"{record.did} no longer follows {subject}"
        for record, subject in zip(gone, kept, strict=True)
    ]
