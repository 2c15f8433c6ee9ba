"""From a message of `events` to what Jetstream's readers know. Pure.

    commit      one message for each operation: did, time_us, kind, commit {rev, operation,
                collection, rkey, record, cid}; record and cid are absent from a delete
    identity    did, time_us, kind, identity {did, handle, seq, time}; handle may be absent
    account     did, time_us, kind, account {active, did, seq, status, time}; status may be absent
    others      nothing: Jetstream has no words for a sync or for what was refused

`time_us` is when the bridge received the frame (`received_us`): a fact in the topic, so each
message has the same one whenever and by whomever it is sent. All operations of a commit share it,
and what is received at once may. A record that has no faithful JSON (`record_error`) is absent
and its `cid` is there; readers that cannot do without do well to skip it, as `@skyware/jetstream`
does. Account and identity events come whatever collections are wanted, as in Jetstream: only they
tell that an account is gone.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from pipelines.kafka.messages import InputMessage
from pipelines.serving.jetstream_options import Wanted

_SENT_KINDS: Final = frozenset({b"commit", b"identity", b"account"})

_OF_IDENTITY: Final = ("did", "handle", "seq", "time")
_OF_ACCOUNT: Final = ("active", "did", "seq", "status", "time")


def encode_event(message: InputMessage, wanted: Wanted) -> list[bytes]:
    """Returns what is sent for a message of `events`.

    Args:
        message: as the topic's contract says.
        wanted: by whom it is sent for.

    Returns:
        JSON texts in UTF-8, in the order of the operations; most often one or none.
    """
    kind = next((value for name, value in message.headers if name == "kind"), None)
    if kind not in _SENT_KINDS or not wanted.takes_account((message.key or b"").decode()):
        return []
    texts = map(orjson.dumps, _messages(orjson.loads(message.value or b""), wanted))
    return [text for text in texts if not 0 < wanted.max_bytes < len(text)]


def _messages(event: Mapping[str, Any], wanted: Wanted) -> Iterator[dict[str, Any]]:
    kind = event["kind"]
    head = {"did": event["did"], "time_us": event["received_us"], "kind": kind}
    if kind == "commit":
        for op in event["ops"]:
            if wanted.takes_collection(op["collection"]):
                yield head | {"commit": _operation(op, event)}
    elif kind == "identity":
        yield head | {"identity": _present(event, _OF_IDENTITY)}
    else:
        yield head | {"account": _present(event, _OF_ACCOUNT)}


def _operation(op: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    # One block that several operations name is in the event once.
    holder = op if op["record_from"] is None else event["ops"][op["record_from"]]
    found = {
        "rev": event["rev"],
        "operation": op["operation"],
        "collection": op["collection"],
        "rkey": op["rkey"],
        "record": holder["record"],
        "cid": op["cid"],
    }
    return _present(found, tuple(found))


def _present(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if values[name] is not None}
