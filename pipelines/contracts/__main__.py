"""Writes the files that are made from `schemas/`; run it in the project's folder."""

import click

from pipelines.contracts.generated import generated_files
from pipelines.kafka.topics import registry

for _path, _content in generated_files(registry()).items():
    if not _path.is_file() or _path.read_text(encoding="utf-8") != _content:
        _path.parent.mkdir(parents=True, exist_ok=True)
        _path.write_text(_content, encoding="utf-8")
        click.echo(f"written: {_path}")
