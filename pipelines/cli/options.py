"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.syntax import Did, parse_did
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


DID = _DidType()


def is_default(ctx: click.Context, parameter: str) -> bool:
    """Returns whether nobody has set a parameter: no flag, no environment, no settings file."""
    return ctx.get_parameter_source(parameter) is ParameterSource.DEFAULT


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
    @click.option(
        "--topic-prefix",
        envvar=f"{ENVIRONMENT_PREFIX}_TOPIC_PREFIX",
        default=DEFAULT_TOPIC_PREFIX,
        show_default=True,
        metavar="NAME",
        help="First part of every topic, group and transactional id.",
    )
    @click.pass_context
    @functools.wraps(function)
    def wrapper(
        ctx: click.Context, /, *args: Any, bootstrap_servers: str, topic_prefix: str, **kwargs: Any
    ) -> Any:
        settings = ctx.find_root().obj or {}
        options = {str(key): str(value) for key, value in settings.items()}
        kafka = KafkaConfig(bootstrap_servers, topic_prefix, options)
        return ctx.invoke(function, *args, kafka=kafka, **kwargs)

    return wrapper
