"""A Kafka message as one line of JSON, with everything in it. Pure.

    {"topic":"atproto.events","partition":0,"offset":7,"timestamp_ms":1790000000412,
     "key":"did:plc:…","headers":{"did":"did:plc:…","kind":"commit"},"value":{…}}

A value that is JSON stands there byte for byte. Other values, of `frames` and `quarantine`, are in
`value_base64`. Headers of a name that repeats are an exception nobody makes: the last one counts.
"""

import base64
from typing import Final

import orjson

from pipelines.kafka.messages import InputMessage

_NULL: Final = b"null"


def encode_line(message: InputMessage, *, is_json: bool) -> bytes:
    r"""Returns a message as a line.

    Args:
        message: any.
        is_json: whether the values of its topic are JSON.

    Returns:
        A JSON object and `\n`. Keys and headers are text in every topic of ours; bytes that are
        no UTF-8 are shown as U+FFFD.
    """
    envelope = orjson.dumps(
        {
            "topic": message.topic,
            "partition": message.partition,
            "offset": message.offset,
            "timestamp_ms": message.timestamp_ms,
            "key": None if message.key is None else message.key.decode(errors="replace"),
            "headers": {name: value.decode(errors="replace") for name, value in message.headers},
        }
    )
    if message.value is None:
        name, value = b"value", _NULL
    elif is_json:
        name, value = b"value", message.value
    else:
        name, value = b"value_base64", b'"' + base64.b64encode(message.value) + b'"'
    return b'%b,"%b":%b}\n' % (envelope[:-1], name, value)
