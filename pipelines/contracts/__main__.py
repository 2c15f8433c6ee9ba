"""Writes the files that are made from `schemas/`; run it in the project's folder.

With `--freeze` it writes `schemas/released/` instead: what readers may rely on from now on.
"""

from pathlib import Path

import click

from pipelines.contracts.frozen import freeze
from pipelines.contracts.generated import generated_files
from pipelines.kafka.topics import registry


@click.command()
@click.option("--freeze", "is_freezing", is_flag=True, help="Write schemas/released/ instead.")
def _write(*, is_freezing: bool) -> None:
    """Write what is made from schemas/, where it is not so yet."""
    if is_freezing:
        click.echo(f"written: {freeze(Path())}")
        return
    for path, content in generated_files(registry()).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            click.echo(f"written: {path}")


_write()
