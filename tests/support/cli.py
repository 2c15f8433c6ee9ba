"""The command line as a user starts it: a process of its own."""

import os
import subprocess
import sys


def standpipe(
    *arguments: str, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end.

    Args:
        arguments: without the program's name.
        stdin: what it reads there.
        environment: variables in addition to our own.
    """
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
