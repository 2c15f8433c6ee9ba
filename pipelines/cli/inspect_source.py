"""Where `standpipe inspect` gets its bytes: a file, standard input, or a message in Kafka."""

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click

from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.keys import VerifyingKey, parse_did_key
from pipelines.cli.options import kafka_options
from pipelines.config import KafkaConfig
from pipelines.kafka.messages import InputMessage
from pipelines.kafka.reading import read_message

# A repository of a million small records. What is inspected is held in memory as a whole, twice;
# `pipelines.atproto.repo` proves larger ones without.
MAX_SOURCE_BYTES = 512 * 1024 * 1024

_match_message = re.compile(r"([A-Za-z0-9._-]+):([0-9]{1,10}):([0-9]{1,19})").fullmatch


class Source(NamedTuple):
    """What is to be inspected.

    Attributes:
        raw: the bytes.
        message: the message in Kafka, if it is one.
    """

    raw: bytes
    message: InputMessage | None


class _KeyType(click.ParamType):
    """A public key as `did:key:z…`."""

    name = "did:key"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> VerifyingKey:
        try:
            return parse_did_key(value)
        except ProtocolError as error:
            self.fail(f"{error.detail}; `standpipe inspect key` tells more", param, ctx)


KEY = _KeyType()


def source_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument SOURCE and Kafka's options; the function gets a `Source`."""

    @click.argument("where", metavar="SOURCE")
    @kafka_options
    @functools.wraps(function)
    def wrapper(*args: Any, where: str, kafka: KafkaConfig, **kwargs: Any) -> Any:
        return function(*args, source=read_source(where, kafka), **kwargs)

    return wrapper


def read_source(where: str, kafka: KafkaConfig) -> Source:
    """Reads what an argument names.

    Args:
        where: `-`, a file, or `topic:partition:offset`; a file of that name comes first. The
            topic may be given without its prefix.
        kafka: the cluster, for a message.

    Raises:
        click.ClickException: there is no such thing.
        BrokerUnavailableError: the broker does not answer.
    """
    if where == "-":
        return Source(_read(sys.stdin.buffer, "standard input"), None)
    path = Path(where)
    match = None if path.exists() else _match_message(where)
    if match is None:
        try:
            with path.open("rb") as file:
                return Source(_read(file, where), None)
        except OSError as error:
            raise click.BadParameter(
                f"cannot read {where}: {error.strerror}; give a file, - for standard input, or a "
                "message as topic:partition:offset",
                param_hint="SOURCE",
            ) from None
    topic, partition, offset = match[1], int(match[2]), int(match[3])
    if not topic.startswith(kafka.topic("")):
        topic = kafka.topic(topic)
    message = read_message(kafka, topic, partition, offset)
    if message is None:
        raise click.ClickException(
            f"no message can be read at {topic}:{partition}:{offset}: it is not there yet or not "
            "any more, was aborted, or is the mark of a transaction's end; try a neighbouring "
            "offset, or another topic (`standpipe topics plan` lists them)"
        )
    if message.value is None:
        raise click.ClickException(
            f"{topic}:{partition}:{offset} is a tombstone: it says that what its key names is gone"
        )
    return Source(message.value, message)


def _read(file: BinaryIO, name: str) -> bytes:
    raw = file.read(MAX_SOURCE_BYTES + 1)
    if len(raw) > MAX_SOURCE_BYTES:
        raise click.ClickException(f"{name} is larger than {MAX_SOURCE_BYTES} bytes")
    return raw
