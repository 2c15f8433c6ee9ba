"""What the topics say when a bridge starts: where it left off.

The end of `cursors` is its true one, behind transactions that are still open. What
`read_committed` readers see would not do: bridges of several upstreams share the one partition,
and while another one's transaction is open, our own last cursor may lie behind it, committed and
not yet readable.
"""

from pipelines.bridge.messages import StoredCursor, parse_cursor
from pipelines.config import KafkaConfig
from pipelines.errors import ConfigError
from pipelines.kafka.reading import read_between, readable_log_ends


def load_cursor(kafka: KafkaConfig, host: str) -> StoredCursor | None:
    """Reads the last cursor of an upstream.

    To be called after the transactional id was taken over: then no earlier bridge of this host
    can write another one.

    Args:
        kafka: the cluster.
        host: the upstream, which is the key.

    Returns:
        The host's last cursor; None if it has none, or if it was withdrawn with a null.

    Raises:
        BrokerUnavailableError: the broker does not answer.
        ConfigError: the cursor cannot be understood.
    """
    topic = kafka.topic("cursors")
    ends = readable_log_ends(kafka, [(topic, 0)])
    key = host.encode()
    value: bytes | None = None
    for message in read_between(kafka, dict.fromkeys(ends, 0), ends):
        if message.key == key:
            value = message.value
    if value is None:
        return None
    try:
        return parse_cursor(value)
    except ValueError as error:
        raise ConfigError(
            f"the cursor of {host} in {topic} cannot be understood ({error}): a newer standpipe "
            "may have written it; update, or use another --topic-prefix"
        ) from None
