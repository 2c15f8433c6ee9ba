"""Options of commands that look up identities; apart, so that others need not load a client."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from pipelines.identity.keyring import KeyRing
from pipelines.identity.offline import OfflineKeys
from pipelines.identity.resolver import DEFAULT_PLC_PER_S, DEFAULT_PLC_URL, Resolver

plc_url_option = click.option(
    "--plc-url", default=DEFAULT_PLC_URL, show_default=True, help="The directory of did:plc."
)
pds_url_option = click.option(
    "--pds-url",
    default=None,
    metavar="URL",
    help="Development: ask URL/NAME instead of the server NAME itself.",
)

identities_option = click.option(
    "--identities",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take keys from this file, as `standpipe verify` does, and ask nobody.",
)


@contextlib.contextmanager
def keys_of(
    identities: Path | None, resolver: Resolver, max_keys: int
) -> Iterator[KeyRing | OfflineKeys]:
    """Yields where to look up keys.

    Args:
        identities: what `identities_option` says.
        resolver: asked if there is no file; closed with the block.
        max_keys: how many of its keys are kept in memory.
    """
    with contextlib.closing(KeyRing(resolver, max_keys=max_keys)) as ring:
        yield ring if identities is None else OfflineKeys.load(identities)


def resolver_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say who is asked for identities, and how.

    The decorated function gets them as one argument `resolver`, a `Resolver` that it has to close.
    """

    @plc_url_option
    @click.option(
        "--plc-rate",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_PLC_PER_S,
        show_default=True,
        metavar="R",
        help="Requests a second that this process sends to the directory at most.",
    )
    @click.option(
        "--did-web-url",
        default=None,
        help="Development: ask this URL for every did:web document instead of the host itself.",
    )
    @click.option(
        "--allow-loopback",
        is_flag=True,
        help="Development: did:web hosts may be on this machine, at any port.",
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        plc_url: str,
        plc_rate: float,
        did_web_url: str | None,
        allow_loopback: bool,
        **kwargs: Any,
    ) -> Any:
        resolver = Resolver(
            plc_url,
            plc_per_s=plc_rate,
            did_web_base=did_web_url,
            allow_loopback=allow_loopback,
        )
        return function(*args, resolver=resolver, **kwargs)

    return wrapper
