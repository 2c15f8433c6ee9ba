"""Options of commands that look up identities; apart, so that others need not load a client."""

import functools
from collections.abc import Callable
from typing import Any

import click

from pipelines.identity.resolver import DEFAULT_PLC_PER_S, DEFAULT_PLC_URL, Resolver

plc_url_option = click.option(
    "--plc-url", default=DEFAULT_PLC_URL, show_default=True, help="The directory of did:plc."
)


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
