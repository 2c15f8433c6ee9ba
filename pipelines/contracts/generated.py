"""The files that are made from `schemas/`, with what should be in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pipelines.contracts.clickhouse import render_clickhouse, render_clickhouse_config
from pipelines.contracts.connect import render_connect_sink
from pipelines.contracts.flink import render_flink
from pipelines.contracts.python import render_package, render_types
from pipelines.contracts.reference import render_reference
from pipelines.kafka.topics import Registry

EXAMPLES: Final = Path("deploy/examples")


def generated_files(known: Registry) -> Mapping[Path, str]:
    """Returns the content of each file by its path from the project's folder."""
    return {
        Path("pipelines/schemas/__init__.py"): render_package(known),
        Path("pipelines/schemas/values.py"): render_types(known),
        Path("schemas/REFERENCE.md"): render_reference(known),
        EXAMPLES / "clickhouse.sql": render_clickhouse(known),
        EXAMPLES / "clickhouse-kafka.xml": render_clickhouse_config(),
        EXAMPLES / "flink.sql": render_flink(known),
        EXAMPLES / "connect-s3.json": render_connect_sink(known),
    }
