"""A message in Kafka around what is inspected."""

from pipelines.inspection.report import Fact, Section, section
from pipelines.kafka.messages import InputMessage


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
    """Returns when the bridge received the frame of a message, if that stands in a header."""
    for name, value in message.headers if message is not None else ():
        if name == "received_us" and value.isdigit():
            return int(value)
    return None


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.hex()
