"""A repository made again from JSON: for any records it is the one that was signed."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from property import strategies
from support.exports import export
from support.reexport import export_again


# Each example makes a store on disk.
@settings(max_examples=40, deadline=None)
@given(values=st.dictionaries(strategies.paths, strategies.records, max_size=16))
def test_any_repository_is_made_again_byte_for_byte(values: dict[str, Any]) -> None:
    """Spec: C-10, A-24."""
    made = export(values)
    bodies = {path: block for path, _, block in made.contents()}
    with tempfile.TemporaryDirectory() as folder:
        assert export_again(Path(folder), made.commit, bodies) == made.car()
