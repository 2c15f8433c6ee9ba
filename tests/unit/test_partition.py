"""The partitioner agrees with the Java client, byte for byte."""

import aiokafka.partitioner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.kafka.partition import murmur2, partition_for

# Printed by the Java client (kafka-clients 4.3.0) with a class of a few lines:
#     int h = Utils.murmur2(text.getBytes(StandardCharsets.UTF_8));
#     (h & 0xffffffffL), Utils.toPositive(h) % 4, Utils.toPositive(h) % 7
JAVA = [
    ("", 275646681, 1, 2),
    ("a", 2731586172, 0, 5),
    ("ab", 316155434, 2, 0),
    ("abc", 479470107, 3, 4),
    ("abcd", 2971317748, 0, 5),
    ("abcde", 461995741, 1, 4),
    ("abcdef", 1870650108, 0, 5),
    ("abcdefg", 3948500121, 1, 4),
    ("abcdefgh", 3339539933, 1, 0),
    ("\x00", 375494588, 0, 0),
    ("\x7f", 21296028, 0, 5),
    ("é", 186971271, 3, 4),
    ("üß", 827245033, 1, 6),
    ("日本語", 1431860170, 2, 6),
    ("🔥", 1969003129, 1, 2),
    ("café 🚒", 323116303, 3, 6),
    ("relay.example.com", 4000227371, 3, 5),
    ("localhost:2470", 1505362417, 1, 6),
    ("did:plc:ewvi7nxzyoun6zhxrhs64oiz", 3849604559, 3, 1),
    ("did:plc:z72i7hdynmk6r22z27h6tvur", 1865559584, 0, 0),
    ("did:plc:44ybard66vv44zksje25o7dz", 1917622127, 3, 1),
    ("did:plc:alice234567alice234567aa", 1053962701, 1, 1),
    ("did:plc:ewvi7nxzyoun6zhxrhs64oi", 908372063, 3, 4),
    ("did:web:example.com", 23196487, 3, 6),
    ("did:web:localhost%3A2582", 1676738942, 2, 4),
    ("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.like/3mptbyplj5d2a", 2140972442, 2, 0),
]


@pytest.mark.parametrize(("text", "java_hash", "of_4", "of_7"), JAVA, ids=[row[0] for row in JAVA])
def test_hash_and_partition_are_those_of_the_java_client(
    text: str, java_hash: int, of_4: int, of_7: int
) -> None:
    assert murmur2(text.encode()) == java_hash
    assert partition_for(text, 4) == of_4
    assert partition_for(text, 7) == of_7


@given(st.binary(max_size=100))
def test_hash_is_that_of_aiokafka_on_any_bytes(data: bytes) -> None:
    assert murmur2(data) == aiokafka.partitioner.murmur2(data) & 0xFFFFFFFF


@given(st.text(max_size=60), st.integers(1, 64))
def test_partition_is_the_one_a_foreign_producer_would_choose(key: str, count: int) -> None:
    choose = aiokafka.partitioner.DefaultPartitioner()
    partitions = list(range(count))
    assert partition_for(key, count) == choose(key.encode(), partitions, partitions)


def test_one_partition_takes_everything() -> None:
    assert {partition_for(text, 1) for text, *_ in JAVA} == {0}
