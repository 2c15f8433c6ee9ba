"""`schemas/released/`: the contracts as readers may rely on them, a copy of what was released."""

import shutil
from pathlib import Path
from typing import Final

RELEASED: Final = Path("schemas/released")
# All that a registry of topics is loaded from.
_PARTS: Final = ("topics", "json", "examples")
_FORM: Final = "topic.schema.json"


def freeze(project: Path) -> Path:
    """Takes the contracts as they are for released, and forgets what was before.

    Args:
        project: folder that holds `schemas/`.

    Returns:
        The folder that was written.
    """
    target = project / RELEASED
    shutil.rmtree(target, ignore_errors=True)
    for part in _PARTS:
        shutil.copytree(target.parent / part, target / part)
    shutil.copy(target.parent / _FORM, target / _FORM)
    return target
