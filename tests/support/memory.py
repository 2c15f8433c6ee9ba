"""What processes take of memory, as the kernel counts it."""

import re
from pathlib import Path

_KIB = 1024


def own_bytes(pid: int) -> int:
    """Returns the memory of a process that no file stands behind, so that nobody can take it."""
    return _field(pid, "RssAnon")


def peak_bytes(pid: int) -> int:
    """Returns the most that a process ever had in RAM (RSS), files that it maps included."""
    return _field(pid, "VmHWM")


def _field(pid: int, name: str) -> int:
    """Returns a field of the kernel's in bytes; OSError for a process that is no more."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f"process {pid} has ended")
    return int(found[1]) * _KIB
