"""Options that several commands share."""

import functools
import re
import time
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import (
    AtUri,
    Did,
    Nsid,
    parse_at_uri,
    parse_datetime,
    parse_did,
    parse_nsid,
)
from pipelines.config import (
    DEFAULT_BOOTSTRAP_SERVERS,
    DEFAULT_TOPIC_PREFIX,
    ENVIRONMENT_PREFIX,
    KafkaConfig,
)


class _DidType(click.ParamType):
    """A DID."""

    name = "did"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Did:
        try:
            return parse_did(value)
        except ProtocolError as error:
            self.fail(
                f"{error.detail}; write it like did:plc:ewvi7nxzyoun6zhxrhs64oiz", param, ctx
            )


class _DidOrRecordType(click.ParamType):
    """A DID, or the at-uri of a record."""

    name = "did or at-uri"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Did | AtUri:
        if not str(value).startswith("at://"):
            return DID.convert(value, param, ctx)
        try:
            return parse_at_uri(value)
        except ProtocolError as error:
            self.fail(
                f"{error.detail}; write it like at://did:plc:…/app.bsky.feed.post/3l…", param, ctx
            )


_AGE_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_match_age = re.compile(r"(\d{1,9})([smhd])").fullmatch


class _TimeType(click.ParamType):
    """A moment, in milliseconds since 1970: written out, or as how long ago it was."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        age = _match_age(str(value))
        if age is not None:
            return time.time_ns() // 1_000_000 - int(age[1]) * _AGE_UNITS_S[age[2]] * 1_000
        try:
            return parse_datetime(value) // 1_000
        except ProtocolError:
            self.fail(
                f"{value!r} is not a time: write it like 2026-01-31T12:00:00Z, or like 90m, 2h "
                "or 3d for so long ago",
                param,
                ctx,
            )


class _NsidType(click.ParamType):
    """The name of a collection."""

    name = "nsid"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Nsid:
        try:
            return parse_nsid(value)
        except ProtocolError as error:
            self.fail(f"{error.detail}; write it like app.bsky.feed.post", param, ctx)


DID = _DidType()
DID_OR_RECORD = _DidOrRecordType()
NSID = _NsidType()
TIME = _TimeType()


def is_default(ctx: click.Context, parameter: str) -> bool:
    """Returns whether nobody has set a parameter: no flag, no environment, no settings file."""
    return ctx.get_parameter_source(parameter) is ParameterSource.DEFAULT


def topic_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which topics a deployment has.

    The decorated function gets them as `topic_prefix` and `admitted`.
    """
    for option in (
        click.option(
            "--admit",
            "admitted",
            envvar=f"{ENVIRONMENT_PREFIX}_ADMIT",
            type=NSID,
            multiple=True,
            metavar="NSID",
            help="A collection whose records have topics of their own; repeat it for each. The "
            "same for all processes of a deployment. Default: those that schemas/ lists.",
        ),
        click.option(
            "--topic-prefix",
            envvar=f"{ENVIRONMENT_PREFIX}_TOPIC_PREFIX",
            default=DEFAULT_TOPIC_PREFIX,
            show_default=True,
            metavar="NAME",
            help="First part of every topic, group and transactional id.",
        ),
    ):
        function = option(function)
    return function


def kafka_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which cluster and topics to use.

    The decorated function gets them as one argument `kafka`, a `KafkaConfig`.
    """

    @click.option(
        "--bootstrap-servers",
        envvar=f"{ENVIRONMENT_PREFIX}_BOOTSTRAP_SERVERS",
        default=DEFAULT_BOOTSTRAP_SERVERS,
        show_default=True,
        metavar="HOST:PORT[,…]",
        help="The Kafka cluster.",
    )
    @topic_options
    @click.pass_context
    @functools.wraps(function)
    def wrapper(
        ctx: click.Context,
        /,
        *args: Any,
        bootstrap_servers: str,
        topic_prefix: str,
        admitted: tuple[Nsid, ...],
        **kwargs: Any,
    ) -> Any:
        settings = ctx.find_root().obj or {}
        options = {str(key): str(value) for key, value in settings.items()}
        table = tuple(sorted(set(admitted))) or None
        kafka = KafkaConfig(bootstrap_servers, topic_prefix, options, table)
        return ctx.invoke(function, *args, kafka=kafka, **kwargs)

    return wrapper
