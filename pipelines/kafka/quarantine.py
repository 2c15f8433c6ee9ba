"""The headers that say why a message is in quarantine.

Key, value and headers of the message stay as they were; these come after them.
"""

from importlib.metadata import version

from pipelines.atproto.errors import Reason
from pipelines.kafka.messages import Headers, InputMessage

_VERSION = version("standpipe").encode()


def quarantine_headers(
    reason: Reason, stage: str, detail: str, source: InputMessage | None = None
) -> Headers:
    """Returns the headers to add to a quarantined message.

    Args:
        reason: the stable reason.
        stage: which stage refused it.
        detail: one sentence for a person.
        source: the message itself, if it comes from a topic and not from a socket.
    """
    headers = [
        ("q.reason", reason.encode()),
        ("q.stage", stage.encode()),
        ("q.detail", detail.encode("utf-8", "replace")),
    ]
    if source is not None:
        headers += [
            ("q.topic", source.topic.encode()),
            ("q.partition", str(source.partition).encode()),
            ("q.offset", str(source.offset).encode()),
        ]
    return [*headers, ("q.attempts", b"1"), ("q.version", _VERSION)]
