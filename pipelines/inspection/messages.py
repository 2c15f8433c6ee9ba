"""A message in Kafka around what is inspected."""

import re

from pipelines.inspection.report import Fact, Section, section
from pipelines.kafka.messages import InputMessage

# Whoever writes into the topic decides what is in a header; this is as much as 64 bits hold.
_match_time = re.compile(rb"[0-9]{1,18}").fullmatch


def message_section(message: InputMessage) -> Section:
    """Describes a message: where it is, and what stands beside its value."""
    facts = section(
        "",
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=message.timestamp_ms,
        key=None if message.key is None else _text(message.key),
    ).facts
    headers = tuple(Fact(f"header {name}", _text(value)) for name, value in message.headers)
    return Section("Kafka message", facts + headers)


def received_us(message: InputMessage | None) -> int | None:
    """Returns when the bridge received the frame of a message, if that stands in a header.

    Microseconds since the epoch; None as well if what stands there can be no time.
    """
    for name, value in message.headers if message is not None else ():
        if name == "received_us" and _match_time(value):
            return int(value)
    return None


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.hex()
