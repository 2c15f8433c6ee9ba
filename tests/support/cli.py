"""The command line as a user starts it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_COMMAND = (sys.executable, "-c", "from pipelines.cli import main; main()")


def standpipe(
    *arguments: str, stdin: str | bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end.

    Args:
        arguments: without the program's name.
        stdin: what it reads there.
        environment: variables in addition to our own.
    """
    command = [*_COMMAND, *arguments]
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


@contextmanager
def running_standpipe(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yields a command that runs; what is left of it at the end of the block is killed.

    Args:
        arguments: without the program's name.
    """
    with subprocess.Popen(
        [*_COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()
