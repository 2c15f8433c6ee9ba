"""The page of analytics in a real browser: with nothing, one record, a hundred thousand."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from playwright.sync_api import Page, expect
from support.browser import headless_chromium

from pipelines.analytics.counting import MinuteCounter
from pipelines.analytics.minutes import TOPIC as MINUTES
from pipelines.analytics.minutes import MinuteCount
from pipelines.analytics.page import server
from pipelines.analytics.trending import TrendFollower
from pipelines.analytics.trends import TOPIC as TRENDS
from pipelines.analytics.trends import Trend
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.admin import apply, plan

pytestmark = [pytest.mark.broker, pytest.mark.slow]

TIMEOUT_MS = 120_000
COLLECTIONS = {
    "posts": "app.bsky.feed.post",
    "likes": "app.bsky.feed.like",
    "other": "other",
}
SCRIPT = '<img src="x" onerror="document.title=1">'


@pytest.fixture
def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix)
    apply(plan(config, 2))
    return config


@pytest.fixture
def address(config: KafkaConfig) -> Iterator[str]:
    """Where the page is served."""
    listening: Future[str] = Future()
    stop = threading.Event()

    def run() -> None:
        try:
            server.run(
                config,
                "127.0.0.1",
                0,
                lambda host, port: listening.set_result(f"http://{host}:{port}/"),
                stop.is_set,
            )
        except BaseException as error:  # noqa: BLE001 - the test judges it
            listening.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listening.result(60)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The page in a window of a desk, opened; at its end nothing has gone wrong in it."""
    problems: list[str] = []
    with headless_chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda said: problems.append(said.text) if said.type == "error" else None,
        )
        page.goto(address)
        yield page
    assert problems == []


class Record:
    operation = "create"

    def __init__(self, choose: random.Random, topic: str, received_us: int) -> None:
        self.received_us = received_us
        self.collection = COLLECTIONS[topic]
        self.did = f"did:plc:{choose.randrange(20_000):024}"
        number = min(int(choose.paretovariate(1)), 60)
        uri = f"at://did:plc:{number:024}/app.bsky.feed.post/3mvzvfd6qc223"
        self.record: dict[str, object] = {
            "langs": [choose.choice(["en", "en", "pt", "ja", "tlh"])],
            "tags": [f"tag{number}", SCRIPT],
            "embed": {"external": {"uri": f"https://example.com/{number}"}},
            "subject": {"uri": uri},
        }
        if choose.random() < 0.5:
            self.record["facets"] = [
                {"features": [{"$type": "app.bsky.richtext.facet#link", "uri": "javascript:1"}]}
            ]


@contextmanager
def transaction(config: KafkaConfig, name: str) -> Iterator[Producer]:
    producer = Producer(
        {
            "bootstrap.servers": config.bootstrap_servers,
            "transactional.id": config.transactional_id("test", name),
        }
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    yield producer
    if name == "aborted":
        assert producer.flush(60) == 0
        producer.abort_transaction(60)
    else:
        producer.commit_transaction(60)


def write(config: KafkaConfig, name: str, counts: list[MinuteCount], trends: list[Trend]) -> None:
    with transaction(config, name) as producer:
        for message in counts:
            producer.produce(config.topic(MINUTES), message.value, message.key, message.partition)
            producer.poll(0)
        for trend in trends:
            producer.produce(config.topic(TRENDS), trend.value, trend.key, trend.partition)


def count_records(records: list[tuple[str, Record]]) -> tuple[list[MinuteCount], list[Trend]]:
    """Counts records as analytics does, in two partitions."""
    counter, follower = MinuteCounter(COLLECTIONS), TrendFollower()
    counter.assign([(topic, partition) for topic in COLLECTIONS for partition in range(2)])
    follower.assign([0, 1])
    counts: dict[bytes, MinuteCount] = {}
    trends: dict[bytes, Trend] = {}

    def take() -> None:
        for changes in counter.take_changes().values():
            counts.update((count.key, count) for count in changes.counts)
        for changed in follower.take_changes().values():
            trends.update((trend.key, trend) for trend in changed)

    for offset, (topic, record) in enumerate(records):
        partition = hash(record.did) % 2
        if counter.count((topic, partition), offset, record):
            follower.follow(COLLECTIONS[topic], partition, offset, record)
        if counter.is_full:
            take()
    take()
    return list(counts.values()), list(trends.values())


def rows(page: Page, table: str) -> dict[str, str]:
    """Returns what a table shows: number by name."""
    found: dict[str, str] = page.eval_on_selector_all(
        f"#{table} tr",
        "rows => Object.fromEntries(rows.map(row => [...row.cells].map(c => c.textContent)))",
    )
    return found


def is_wider_than_its_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def test_the_page_with_nothing_with_one_record_and_with_a_hundred_thousand(
    config: KafkaConfig, page: Page, tmp_path: Path
) -> None:
    choose = random.Random(20261126)
    now_us = time.time_ns() // 1000

    expect(page.locator("#empty")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator("#state")).to_have_text("live, nothing yet", timeout=TIMEOUT_MS)
    expect(page.locator("#tile-hour")).to_have_text("\u2013")
    page.keyboard.press("ArrowLeft")  # there is no minute to choose

    write(config, "aborted", *count_records([("posts", Record(choose, "posts", now_us))] * 9))
    first = ("likes", Record(choose, "likes", now_us))
    write(config, "committed", *count_records([first]))
    expect(page.locator("#tile-hour")).to_have_text("1", timeout=TIMEOUT_MS)
    expect(page.locator("#tile-accounts")).to_have_text("1")
    expect(page.locator("#empty")).to_be_hidden()
    assert rows(page, "collections") == {"app.bsky.feed.like": "1"}
    assert page.inner_text("#hashtags tbody").strip() == "nothing yet"

    # Within an hour and the range of half an hour, whatever time it is now.
    records = []
    for n in range(100_000):
        topic = choose.choice(["posts", "likes", "likes", "other"])
        ago_us = (24 - n // 4_000) * 60_000_000
        received_us = max(now_us - now_us % 3_600_000_000, now_us - ago_us)
        records.append((topic, Record(choose, topic, received_us)))
    write(config, "committed", *count_records([first, *records]))
    expect(page.locator("#tile-hour")).to_have_text("100,001", timeout=TIMEOUT_MS)
    page.keyboard.press("1")
    expect(page.locator("#ranges [aria-pressed=true]")).to_have_text("30 min")
    expect(page.locator("#readout")).to_contain_text("100,001 records", timeout=TIMEOUT_MS)
    totals = Counter(COLLECTIONS[topic] for topic, _ in [first, *records])
    assert rows(page, "collections") == {name: f"{n:,}" for name, n in totals.items()}
    languages = Counter(str(record.record["langs"]) for _, record in [first, *records])
    assert rows(page, "languages")["Japanese"] == f"{languages[str(['ja'])]:,}"
    assert rows(page, "languages")["other"] == f"{languages[str(['tlh'])]:,}"
    accounts_count = len({record.did for _, record in records})
    shown_count = int(page.inner_text("#tile-accounts").replace(",", ""))
    assert abs(shown_count - accounts_count) < 0.06 * accounts_count

    # What users wrote is text: it makes no element, and no address that is not one of the web.
    posts_count = totals["app.bsky.feed.post"]
    assert rows(page, "hashtags")[f"#{SCRIPT}"] == f"{posts_count:,}"
    assert page.locator("main img").count() == 0
    assert page.title() == "Standpipe"
    assert "javascript:1" in rows(page, "links")
    targets = page.eval_on_selector_all("#links a", "links => links.map(link => link.href)")
    assert "https://example.com/1" in targets
    assert all(target.startswith("https://example.com/") for target in targets)

    _check_keys(page)
    _check_screens(page, tmp_path)


def test_an_address_that_is_taken_is_named(config: KafkaConfig, address: str) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port} .*another port"):
        server.run(config, "127.0.0.1", port, lambda *_: None, lambda: True)


def _check_keys(page: Page) -> None:
    """A minute can be chosen without a mouse; Escape goes back."""
    whole = page.inner_text("#readout")
    page.keyboard.press("End")
    expect(page.locator("#readout")).not_to_have_text(whole)
    last = page.inner_text("#readout")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).not_to_have_text(last)
    assert page.get_attribute("#plot", "aria-valuetext") == page.inner_text("#readout")
    page.keyboard.press("Escape")
    expect(page.locator("#readout")).to_have_text(whole)


def _check_screens(page: Page, folder: Path) -> None:
    """It fits a desk and a phone, in light and dark, and something is drawn."""
    assert page.locator("#bars rect").count() > 0
    for name, width, height in (("desk", 1280, 900), ("phone", 390, 844)):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            assert not is_wider_than_its_window(page), name
            drawn = page.locator("#bars").bounding_box()
            assert drawn is not None
            assert drawn["width"] > width / 2
            picture = page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
            assert picture.startswith(b"\x89PNG")
