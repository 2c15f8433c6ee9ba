"""A PostgreSQL server of the tests' own: the machine's programs, in a folder that goes with it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from support.kafka import wait_until

# PostgreSQL refuses to run as root; this user is on every machine.
_USER = "nobody"
_DEBIAN = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """Returns the folder of the server's programs; None where it is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(_DEBIAN.glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "postgres").exists() else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Runs a server while the block runs; yields how to connect.

    Args:
        programs: what `find_programs` found.
    """
    account = pwd.getpwnam(_USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # Not below pytest's own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="standpipe-postgres-"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    user = account.pw_uid if os.geteuid() == 0 else None
    data = folder / "data"
    try:
        subprocess.run(
            [
                *(programs / "initdb", "--pgdata", data, "--username", "standpipe"),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            ],
            user=user,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-F"],
                user=user,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            conninfo = f"host={folder} user=standpipe dbname=postgres"
            wait_until(lambda: _answers(conninfo), "PostgreSQL to answer", 60)
            yield conninfo
        finally:
            server.send_signal(signal.SIGINT)  # ends all connections
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True
