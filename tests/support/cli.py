"""The command line as a user starts it: a process of its own."""

import os
import subprocess
import sys


def standpipe(
    *arguments: str, stdin: str | bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end.

    Args:
        arguments: without the program's name.
        stdin: what it reads there.
        environment: variables in addition to our own.
    """
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]
    result = subprocess.run(
        command,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    output, errors = (stream.decode() for stream in (result.stdout, result.stderr))
    return subprocess.CompletedProcess(command, result.returncode, output, errors)
