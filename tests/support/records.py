"""Record messages as explode writes them, and what counting them has to give."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from pipelines.analytics.languages import language_of
from pipelines.analytics.mentions import Kind, mentions_of
from pipelines.analytics.minutes import Cell, Operations
from pipelines.analytics.trends import HOUR_US, HourTrend
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import OutputMessage
from pipelines.kafka.partition import partition_for
from pipelines.kafka.reading import read_to_end
from pipelines.kafka.topics import registry
from pipelines.kafka.transaction import Transaction, TransactionalProducer

_EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples" / "records" / "v1"
# Retention would delete messages of old records in the middle of a test.
START_US = time.time_ns() // 1000 - 600_000_000
_LANGUAGES: Sequence[object] = (
    ["en"], ["en"], ["pt-BR"], ["ja"], ["en", "de"], ["tlh"], [], None, "en", [7]
)  # fmt: skip


def record_examples() -> dict[str, dict[str, Any]]:
    """Returns the example values of the contract, by the name of their file."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(_EXAMPLES.glob("*.json"))}


def generate_records(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields record messages of many accounts over some minutes, in order of their arrival."""
    choose = random.Random(seed)
    examples = list(record_examples().values())
    received_us = START_US
    for n in range(count):
        value = dict(choose.choice(examples))
        received_us += choose.randrange(2 * 240_000_000 // count)
        value["received_us"] = received_us
        value["did"] = f"did:plc:{choose.randrange(200):024}"
        value["uri"] = f"at://{value['did']}/{value['collection']}/{n}"
        if value["record"] is not None:
            langs = choose.choice(_LANGUAGES)
            value["record"] = value["record"] | ({} if langs is None else {"langs": langs})
            value["record"] |= _mentions(choose)
        yield value


def _mentions(choose: random.Random) -> dict[str, Any]:
    """Returns members of posts and likes that mention few things often, and others seldom."""
    number = min(int(choose.paretovariate(1)), 50)
    uri = f"at://did:plc:{number:024}/app.bsky.feed.post/3mvzvfd6qc223"
    external = {"uri": f"https://example.com/{number}"}
    return {
        "subject": {
            "uri": uri,
            "cid": "bafyreien2ooiz7fitt3ixc4zdrk6rwqu5kbxh7rjlvzgcolpnxqwrmjqai",
        },
        "tags": [f"Tag{number}", "all"],
        "embed": {"$type": "app.bsky.embed.external", "external": external},
    }


def record_message(kafka: KafkaConfig, value: dict[str, Any], partitions: int) -> OutputMessage:
    """Returns the message that explode writes for a record."""
    return OutputMessage(
        kafka.topic(registry().topic_for_collection(value["collection"])),
        partition_for(value["did"], partitions),
        value["uri"].encode(),
        json.dumps(value).encode(),
        [("collection", value["collection"].encode())],
        value["received_us"] // 1000,
    )


class RecordWriter:
    """Writes record messages in transactions, as explode does."""

    def __init__(self, kafka: KafkaConfig, partitions: int) -> None:
        self._kafka = kafka
        self._partitions = partitions
        self._producer = TransactionalProducer(kafka, kafka.transactional_id("test", "0"), bool)
        self._producer.start()

    def write(self, values: Iterable[dict[str, Any]]) -> None:
        """Writes all in one transaction."""
        messages = [record_message(self._kafka, value, self._partitions) for value in values]

        def body(transaction: Transaction) -> None:
            for message in messages:
                transaction.produce(message)

        self._producer.run(body)


def abort_records(kafka: KafkaConfig, values: Iterable[dict[str, Any]], partitions: int) -> None:
    """Writes all in one transaction, which is then aborted."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "transactional.id": kafka.transactional_id("test", "aborting"),
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for message in (record_message(kafka, value, partitions) for value in values):
        producer.produce(message.topic, message.value, message.key, message.partition)
    assert producer.flush(20) == 0
    producer.abort_transaction(20)


def true_counts(kafka: KafkaConfig) -> dict[Cell, Operations]:
    """Counts the record topics in the obvious way."""
    records = registry().specs["records"]
    counts: dict[Cell, Counter[str]] = {}
    for message in read_to_end(kafka, [kafka.topic(topic) for topic in records.topics]):
        value = json.loads(message.value or b"")
        is_listed = value["collection"] in records.collections
        cell = Cell(
            value["received_us"] // 60_000_000 * 60_000_000,
            value["collection"] if is_listed else "other",
            language_of(value["record"]),
        )
        counts.setdefault(cell, Counter())[value["operation"]] += 1
    return {
        cell: Operations(count["create"], count["update"], count["delete"])
        for cell, count in counts.items()
    }


class TrueTrend(NamedTuple):
    """What an hour was about, counted with all memory that it takes."""

    records_count: int
    accounts: frozenset[str]
    mentions: dict[Kind, Counter[str]]


def true_trends(kafka: KafkaConfig) -> dict[int, TrueTrend]:
    """Follows the record topics in the obvious way; by start of the hour."""
    by_hour: dict[int, list[dict[str, Any]]] = {}
    topics = [kafka.topic(topic) for topic in registry().specs["records"].topics]
    for message in read_to_end(kafka, topics):
        value = json.loads(message.value or b"")
        by_hour.setdefault(value["received_us"] // HOUR_US * HOUR_US, []).append(value)
    return {
        hour_us: TrueTrend(
            len(values),
            frozenset(value["did"] for value in values),
            {
                kind: Counter(
                    item
                    for value in values
                    if value["operation"] == "create"
                    for item in mentions_of(value["collection"], value["record"]).get(kind, ())
                )
                for kind in Kind
            },
        )
        for hour_us, values in by_hour.items()
    }


def assert_trends_are_true(found: dict[int, HourTrend], truth: dict[int, TrueTrend]) -> None:
    """With fewer different items than slots, every bound is the number itself."""
    assert found.keys() == truth.keys()
    for hour_us, trend in found.items():
        true = truth[hour_us]
        assert trend.records_count == true.records_count
        assert abs(trend.accounts_count - len(true.accounts)) <= 0.05 * len(true.accounts)
        for kind, listing in trend.listings.items():
            listed = {mention.item: mention.low for mention in listing.mentions}
            assert listed == true.mentions[kind]
            assert all(mention.low == mention.high for mention in listing.mentions)
    # Just after the full hour there are two of them, and in one of them may be a few records only.
    busiest = max(found.values(), key=lambda trend: trend.records_count)
    assert all(len(listing.mentions) >= 10 for listing in busiest.listings.values())
