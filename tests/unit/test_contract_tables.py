"""Tables for SQL engines: ClickHouse takes them and our examples; all read what is committed."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clickhouse import ClickHouse, ClickHouseError

from pipelines.contracts.columns import Table, tables
from pipelines.kafka.topics import registry

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "deploy/examples"
CLICKHOUSE = (EXAMPLES / "clickhouse.sql").read_text(encoding="utf-8")
FLINK = (EXAMPLES / "flink.sql").read_text(encoding="utf-8")
TABLES = {table.spec.name: table for table in tables(registry())}
# The engine's own columns, which a table without it does not have.
POSITION = "`_key` String, `_topic` String, `_partition` UInt64, `_offset` UInt64"
QUEUE = re.compile(r"\n\)\nENGINE = Kafka\nSETTINGS\n(.+?);\n", re.DOTALL)


def statements() -> Iterator[str]:
    """The statements, with queues that take inserts instead of Kafka's messages."""
    without_words = re.sub(r"^--.*\n", "", CLICKHOUSE, flags=re.MULTILINE)
    text = QUEUE.sub(rf",\n    {POSITION}\n)\nENGINE = Null;\n", without_words)
    yield from filter(None, (statement.strip() for statement in re.split(r";\n", text)))


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    engine = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    for statement in statements():
        engine.query(statement)
    yield engine
    engine.close()


def format_settings(name: str) -> str:
    """What the queue of a table says about its format."""
    _, _, rest = CLICKHOUSE.partition(f"\nCREATE TABLE atproto.{name}_queue\n")
    found = QUEUE.search(rest)
    assert found is not None
    settings = [line.strip().rstrip(",") for line in found[1].splitlines()]
    assert "kafka_format = 'JSONEachRow'" in settings
    return ", ".join(setting for setting in settings if setting.startswith("input_format_"))


def insert(engine: ClickHouse, name: str, values: list[dict[str, Any]], **position: Any) -> None:
    lines = [
        json.dumps(
            {"_key": f"key {offset}", "_topic": "t", "_partition": 0, "_offset": offset}
            | position
            | value
        )
        for offset, value in enumerate(values)
    ]
    engine.query(
        f"INSERT INTO atproto.{name}_queue SETTINGS {format_settings(name)} FORMAT JSONEachRow "
        + "\n".join(lines)
    )


def rows(engine: ClickHouse, query: str) -> list[dict[str, Any]]:
    settings = "output_format_json_quote_64bit_integers = 0"
    output = engine.query(f"{query} SETTINGS {settings}")
    return [json.loads(line) for line in output.splitlines()]


def examples_of(name: str) -> list[dict[str, Any]]:
    folder = registry().specs[name].versions[-1].examples
    return [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
    ]


def assert_same(found: object, wanted: object, path: str) -> None:
    """Compares what came out with what went in: objects may be text, and a null an empty list."""
    if isinstance(found, str) and isinstance(wanted, dict | list):
        assert json.loads(found) == wanted, path
    elif isinstance(found, dict) and isinstance(wanted, dict):
        assert found.keys() >= wanted.keys(), path
        for key in found:
            assert_same(found[key], wanted.get(key), f"{path}.{key}")
    elif isinstance(found, list) and isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{path}[{index}]")
    elif isinstance(found, list):
        assert wanted is None, path
        assert found == [], path
    else:
        assert found == wanted, path


@pytest.mark.parametrize("name", TABLES)
def test_clickhouse_takes_every_example_and_gives_it_back(
    clickhouse: ClickHouse, name: str
) -> None:
    values = examples_of(name)
    insert(clickhouse, name, values, _topic="examples")
    columns = ", ".join(f"`{column.name}`" for column in TABLES[name].columns)
    query = f"SELECT {columns} FROM atproto.{name} WHERE kafka_topic = 'examples'"
    found = rows(clickhouse, f"{query} ORDER BY kafka_offset")
    assert len(found) == len(values)
    for row, value in zip(found, values, strict=True):
        assert_same(row, value, name)


def test_clickhouse_gives_back_what_went_in_and_nothing_else(clickhouse: ClickHouse) -> None:
    # The comparison above is one that can fail.
    value = examples_of("gaps")[0]
    with pytest.raises(AssertionError, match=r"gaps\.host"):
        assert_same({**value, "host": "other.example"}, value, "gaps")
    with pytest.raises(AssertionError, match=r"a\[0\]"):
        assert_same({"a": [1, 2]}, {"a": [3, 2]}, "")
    with pytest.raises(ClickHouseError, match=r"Cannot parse|expected"):
        insert(clickhouse, "gaps", [{**value, "from_seq": "no number"}])


def test_a_message_that_comes_again_counts_once(clickhouse: ClickHouse) -> None:
    value = examples_of("records")[0] | {"did": "did:plc:again"}
    for offset in (7, 8, 7):
        insert(clickhouse, "records", [value], _offset=offset, _key="again")
    query = "SELECT kafka_offset FROM atproto.records FINAL WHERE message_key = 'again'"
    assert sorted(row["kafka_offset"] for row in rows(clickhouse, query)) == [7, 8]


def test_of_state_the_last_message_of_a_key_counts(clickhouse: ClickHouse) -> None:
    value = examples_of("repos")[0]
    for offset, host in ((1, "old.example"), (3, "new.example"), (2, "late.example")):
        insert(clickhouse, "repos", [value | {"host": host}], _offset=offset, _key="did:plc:last")
    query = "SELECT host FROM atproto.repos FINAL WHERE message_key = 'did:plc:last'"
    assert rows(clickhouse, query) == [{"host": "new.example"}]


def test_what_a_later_version_adds_is_passed_over(clickhouse: ClickHouse) -> None:
    value = examples_of("gaps")[0] | {"added_later": {"a": [1]}}
    insert(clickhouse, "gaps", [value], _key="later")
    found = rows(clickhouse, "SELECT host FROM atproto.gaps WHERE message_key = 'later'")
    assert found == [{"host": value["host"]}]


def test_records_can_be_asked_for_their_fields(clickhouse: ClickHouse) -> None:
    value = examples_of("records")[0] | {"record": {"text": "hé", "big": 2**63 - 1}}
    insert(clickhouse, "records", [value], _key="asked")
    query = (
        "SELECT JSONExtractString(record, 'text') AS text, JSONExtractInt(record, 'big') AS big "
        "FROM atproto.records WHERE message_key = 'asked'"
    )
    assert rows(clickhouse, query) == [{"text": "hé", "big": 2**63 - 1}]


# --- what no engine runs here


def test_everything_reads_what_is_committed() -> None:
    config = ET.fromstring((EXAMPLES / "clickhouse-kafka.xml").read_text(encoding="utf-8"))
    assert config.findtext("kafka/consumer/isolation_level") == "read_committed"
    sources = re.findall(r"'connector' = '(?:upsert-)?kafka',\n(.*?)\n\);", FLINK, re.DOTALL)
    assert len(sources) == len(TABLES)
    for options in sources:
        assert "'properties.isolation.level' = 'read_committed'" in options
    sink = json.loads((EXAMPLES / "connect-s3.json").read_text(encoding="utf-8"))
    assert sink["config"]["consumer.override.isolation.level"] == "read_committed"


def test_every_topic_is_read_by_each() -> None:
    physical = {f"atproto.{topic}" for topic, spec in registry().topics.items() if spec.versions}
    read = re.findall(r"kafka_topic_list = '(.+?)'", CLICKHOUSE, re.DOTALL)
    assert {topic.strip() for topics in read for topic in topics.split(",")} == physical
    read = re.findall(r"'topic' = '(.+?)'", FLINK)
    assert {topic for topics in read for topic in topics.split(";")} == physical
    sink = json.loads((EXAMPLES / "connect-s3.json").read_text(encoding="utf-8"))
    records = {f"atproto.{topic}" for topic in registry().specs["records"].topics}
    assert set(sink["config"]["topics"].split(",")) == records


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.spec.name)
def test_flink_has_a_column_for_every_field(table: Table) -> None:
    [section] = re.findall(rf"\n-- {table.spec.name}\n(.*?)\n\);", FLINK, re.DOTALL)
    columns = re.findall(r"^    `(\w+)` (?:[A-Z]|<)", section, re.MULTILINE)
    assert columns == [column.name for column in table.columns]
    for opening, closing in ("()", "<>"):
        words = re.sub(r"'(?:[^']|'')*'", "", section)
        assert words.count(opening) - (opening == "(") == words.count(closing)
    is_state = "'connector' = 'upsert-kafka'" in section
    assert is_state == ("PRIMARY KEY (message_key) NOT ENFORCED" in section) == table.is_state


def test_no_field_is_called_like_a_column_of_ours() -> None:
    for table in TABLES.values():
        names = {column.name for column in table.columns}
        assert len(names) == len(table.columns)
        assert not any(name.startswith(("kafka_", "message_")) for name in names)
