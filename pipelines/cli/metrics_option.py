"""The option of stages that serves their metrics."""

import functools
from collections.abc import Callable
from typing import Any

import click

from pipelines.metrics.endpoint import Address, samples_of_this_process, serving


class _AddressType(click.ParamType):
    """`[HOST:]PORT`."""

    name = "address"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdecimal() and int(port) < 65_536):
            self.fail(f"{value!r} is not like 9464 or 0.0.0.0:9464", param, ctx)
        return Address(host.strip("[]") or "127.0.0.1", int(port))


ADDRESS = _AddressType()


def metrics_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option that says where the process serves its metrics, and serves them there."""

    @click.option(
        "--metrics",
        "address",
        type=ADDRESS,
        default=None,
        metavar="[HOST:]PORT",
        help="Serve metrics for Prometheus here, at /metrics; the host is 127.0.0.1 unless it is "
        "named. Default: nowhere.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, address: Address | None, **kwargs: Any) -> Any:
        if address is None:
            return function(*args, **kwargs)
        with serving(address, samples_of_this_process):
            return function(*args, **kwargs)

    return wrapper
