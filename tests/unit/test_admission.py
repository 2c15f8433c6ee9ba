"""The tables of admitted collections: which is for a frame, who may work, what the topic says."""

import json
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.admissions import PACKAGED, in_force

from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.admission import (
    Admissions,
    Table,
    admissions_of,
    digest_of,
    encode_table,
    parse_table,
)
from pipelines.kafka.admitting import check_agreement, configured
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.topics import registry, validator

EXAMPLES = sorted(
    (Path(__file__).parents[2] / "schemas" / "examples" / "admissions" / "v1").glob("*.json")
)
NOTE, TASK = "com.example.note", "com.example.task"


def message(offset: int, key: bytes, value: bytes | None) -> InputMessage:
    return InputMessage("admissions", 0, offset, 0, key, value, [])


def topic_of(*tables: Table | int) -> list[InputMessage]:
    """Returns the topic's messages: tables, and numbers of those that were withdrawn."""
    return [
        message(offset, b"%d" % table, None)
        if isinstance(table, int)
        else message(offset, table.key, encode_table(table, 5))
        for offset, table in enumerate(tables)
    ]


# ---- which table is for a frame ----------------------------------------------------------------


def test_a_frame_goes_by_the_newest_table_that_begins_at_it_or_before() -> None:
    admissions = in_force(([NOTE], [0, 0]), ([NOTE, TASK], [10, 20]), ([TASK], [10, 30]))
    assert admissions.admits(NOTE, 0, 9)
    assert not admissions.admits(TASK, 0, 9)
    assert admissions.admits(TASK, 0, 10)
    assert not admissions.admits(NOTE, 0, 10)  # two changes between the same frames
    assert [admissions.admits(NOTE, 1, offset) for offset in (19, 20, 29, 30)] == [
        *(True, True, True, False)
    ]
    assert [admissions.admits(TASK, 1, offset) for offset in (19, 20, 29, 30)] == [
        *(False, True, True, True)
    ]
    assert admissions.ever == (NOTE, TASK)


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abc")), st.integers(0, 8)), min_size=1, max_size=6
    ),
    st.integers(0, 60),
)
def test_the_table_of_a_frame_is_that_which_was_in_force_when_it_came(
    changes: list[tuple[set[str], int]], offset: int
) -> None:
    """The tables as one who watches has them: each with all frames until the next."""
    tables, start = [], 0
    expected: set[str] = set()
    for number, (collections, frames_count) in enumerate(changes):
        start += frames_count if number else 0
        tables.append((collections, [start]))
        if offset >= start:
            expected = collections
    admissions = in_force(*tables)
    assert {nsid for nsid in "abc" if admissions.admits(nsid, 0, offset)} == expected


# ---- the topic ---------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_sorted_lines_whatever_their_order() -> None:
    lines = b"com.example.note\ncom.example.task\n"
    assert digest_of([TASK, NOTE]) == digest_of((NOTE, TASK)) == sha256(lines).hexdigest()
    assert digest_of(["a.b.c", "d"]) != digest_of(["a.b.cd"])


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_is_understood_and_written_like_that(file: Path) -> None:
    fields = json.loads(file.read_text())
    table = parse_table(file.read_bytes())
    assert orjson.loads(encode_table(table, fields["written_us"])) == fields
    assert table.key == str(fields["number"]).encode()


def test_tables_are_read_back_as_they_were_written() -> None:
    first, second = Table(1, (NOTE,), (0, 0)), Table(2, (NOTE, TASK), (7, 9))
    announced = second._replace(next_offsets=None)
    check = validator("admissions", 1)
    for table in (first, second, announced):
        check.validate(json.loads(encode_table(table, 5)))
    assert admissions_of([]) == Admissions()
    assert admissions_of(topic_of(first)) == Admissions((first,))
    assert admissions_of(topic_of(first, announced)) == Admissions((first,), announced)
    assert admissions_of(topic_of(first, announced, 2)) == Admissions((first,))
    assert admissions_of(topic_of(first, announced, second)) == Admissions((first, second))


@pytest.mark.parametrize(
    "tables",
    [
        [Table(2, (NOTE,), (0,))],
        [Table(1, (NOTE,), None), Table(2, (NOTE,), (0,))],
        [Table(1, (NOTE,), (0,)), Table(3, (NOTE,), None)],
    ],
    ids=["no first", "announced below another", "a hole"],
)
def test_tables_that_cannot_be_all_are_refused(tables: list[Table]) -> None:
    with pytest.raises(ValueError, match="table"):
        admissions_of(topic_of(*tables))


@pytest.mark.parametrize(
    "change",
    [{"collections": [NOTE]}, {"sha256": "0" * 64}, {"number": 0}, {"next_offsets": 7}],
    ids=str,
)
def test_a_table_that_was_damaged_is_not_taken(change: dict[str, object]) -> None:
    fields = orjson.loads(encode_table(Table(1, (NOTE, TASK), (0,)), 5)) | change
    with pytest.raises((ValueError, TypeError)):
        parse_table(orjson.dumps(fields))


# ---- who may work ------------------------------------------------------------------------------


def test_the_same_collections_agree_in_any_order() -> None:
    check_agreement(in_force(([NOTE, TASK], [0])), [TASK, NOTE])
    check_agreement(PACKAGED, configured(KafkaConfig()).admitted_collections)


def test_another_table_is_refused_with_the_difference_and_what_to_do() -> None:
    admissions = in_force(([NOTE], [0]), ([NOTE, "com.example.gone"], [5]))
    with pytest.raises(ConfigError) as caught:
        check_agreement(admissions, [NOTE, TASK])
    [problem] = caught.value.problems
    assert "number 2 (+com.example.task -com.example.gone)" in problem
    assert "--admit" in problem
    assert "`standpipe topics apply`" in problem


def test_nobody_works_while_a_table_is_announced_even_with_the_old_one() -> None:
    admissions = Admissions(in_force(([NOTE], [0])).tables, Table(2, (TASK,), None))
    for collections in ([NOTE], [TASK]):
        with pytest.raises(ConfigError, match="being changed to number 2: finish that"):
            check_agreement(admissions, collections)


def test_the_configured_table_replaces_the_packaged_one_in_both_families() -> None:
    known = configured(KafkaConfig(admitted=(NOTE,)))
    assert known.admitted_collections == (NOTE,)
    assert known.topic_for_collection(NOTE, "latest") == f"latest.{NOTE}"
    assert known.topic_for_collection("app.bsky.feed.post") == "records.other"
    families = {topic for topic in known.topics if topic.startswith(("records.", "latest."))}
    assert families == {"records.other", f"records.{NOTE}", "latest.other", f"latest.{NOTE}"}
    others = known.topics.keys() - families
    assert others == {name for name, spec in registry().specs.items() if not spec.is_family}
