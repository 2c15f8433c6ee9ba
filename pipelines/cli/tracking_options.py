"""The options that say which repositories are tracked."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import MAX_DID_LENGTH, Did, Nsid, parse_did
from pipelines.cli.options import NSID
from pipelines.compact.tracking import Tracked
from pipelines.config import ENVIRONMENT_PREFIX
from pipelines.errors import ConfigError

# Some 150 MB in each process that has them. Who wants more of the network's accounts tracks all.
MAX_DIDS_COUNT: Final = 1_000_000

_DIDS = "--track-dids"
_COLLECTION = "--track-collection"


class Tracking(NamedTuple):
    """What was given.

    Attributes:
        dids: the file with DIDs, or None.
        collections: the collections.
    """

    dids: Path | None
    collections: tuple[Nsid, ...]

    def tracked(self) -> Tracked:
        """Returns which repositories that are.

        Raises:
            ConfigError: the file cannot be read, or has something else than DIDs.
        """
        dids = None if self.dids is None else _dids_in(self.dids)
        return Tracked(dids, frozenset(self.collections))

    def arguments(self) -> tuple[str, ...]:
        """Returns the same as a child process takes it."""
        dids = () if self.dids is None else (_DIDS, str(self.dids.absolute()))
        return (*dids, *(part for nsid in self.collections for part in (_COLLECTION, nsid)))


def tracking_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the decorated function gets them as one argument `tracking`."""

    @click.option(
        _DIDS,
        "track_dids",
        envvar=f"{ENVIRONMENT_PREFIX}_TRACK_DIDS",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Keep the state of these accounts, and not of all: a file with a DID in each line, "
        "as `standpipe backfill --dids` takes it. What is kept already is kept on.",
    )
    @click.option(
        _COLLECTION,
        "track_collections",
        envvar=f"{ENVIRONMENT_PREFIX}_TRACK_COLLECTION",
        type=NSID,
        multiple=True,
        metavar="NSID",
        help="Keep the state of accounts that have records in this collection, from their next "
        "one there on; may be repeated, and go with the other option.",
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any, track_dids: Path | None, track_collections: tuple[Nsid, ...], **kwargs: Any
    ) -> Any:
        return function(*args, tracking=Tracking(track_dids, track_collections), **kwargs)

    return wrapper


def _dids_in(path: Path) -> frozenset[Did]:
    dids = set()
    try:
        with path.open("rb") as file:
            number = 0
            # A line without end is taken in pieces, each of them no DID.
            while line := file.readline(2 * MAX_DID_LENGTH):
                number += 1
                text = line.decode("ascii", "replace").strip()
                if not text or text.startswith("#"):
                    continue
                dids.add(parse_did(text))
                if len(dids) > MAX_DIDS_COUNT:
                    raise ConfigError(
                        f"{path} has more than {MAX_DIDS_COUNT:,} accounts: track all of them, or "
                        f"those of a collection ({_COLLECTION})"
                    )
    except OSError as error:
        raise ConfigError(f"cannot read the DIDs in {path}: {error.strerror}") from None
    except ProtocolError as error:
        raise ConfigError(f"{path}, line {number}: {error.detail}") from None
    if not dids:
        raise ConfigError(f"{path} has no DID: without {_DIDS} all accounts are tracked")
    return frozenset(dids)
