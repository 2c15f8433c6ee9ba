"""`standpipe inspect`: one thing, decoded, with the result of every check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines.atproto import atjson
from pipelines.atproto.cid import encode_cid
from pipelines.atproto.commit import (
    AuthenticCommit,
    OpenedCommit,
    open_commit,
    prove_commit,
    prove_sync,
)
from pipelines.atproto.errors import DagCborError, ProtocolError
from pipelines.atproto.frames import (
    CommitMessage,
    Message,
    SyncMessage,
    parse_envelope,
    parse_message,
)
from pipelines.atproto.keys import parse_did_key
from pipelines.atproto.syntax import tid_time_us
from pipelines.captures import read_frames
from pipelines.cli.inspect_did import did

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result."""

    name: str
    error: ProtocolError | None
    is_skipped: bool = False

    def __str__(self) -> str:
        if self.is_skipped:
            return f"  skipped  {self.name}"
        return f"  ok       {self.name}" if self.error is None else f"  FAILED   {self.error}"


@click.group()
def command() -> None:
    """Decode one thing and show every check."""


command.add_command(did)


@command.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--n",
    type=click.IntRange(min=0),
    help="FILE is a capture: take its frame N, counted from 0. Otherwise FILE is one frame.",
)
@click.option("--key", "did_key", help="The signing key, did:key:z…, to check the signature with.")
@click.option("--records", is_flag=True, help="Show the records too.")
def frame(file: Any, n: int | None, did_key: str | None, *, records: bool) -> int:
    """Show a frame of the event stream: fields, blocks, commit, tree.

    FILE is one websocket message (- for standard input), or with --n a capture.

    \b
    standpipe inspect frame capture.frames --n 12
    standpipe inspect frame capture.frames --n 12 --key did:key:zQ3sh… --records

    Exit code 0 if every check that could be made holds, 1 otherwise.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    raw = file.read() if n is None else _nth_frame(Path(file.name), n)
    checks: list[Check] = []
    message = _checked(checks, "header and payload", lambda: parse_message(parse_envelope(raw)))
    if message is not None:
        click.echo(f"{message.kind} frame, {len(raw)} bytes")
        for line in _field_lines(message):
            click.echo(line)
        if isinstance(message, CommitMessage | SyncMessage):
            _inspect_blocks(checks, message, did_key, records=records)
    click.echo("checks")
    for check in checks:
        click.echo(str(check))
    return 1 if any(check.error for check in checks) else 0


def _nth_frame(path: Path, n: int) -> bytes:
    found = next(islice(read_frames(path), n, None), None)
    if found is None:
        raise click.BadParameter(f"{path} has no frame {n}", param_hint="--n")
    return found


def _field_lines(message: Message) -> Iterator[str]:
    for field in fields(message):
        value = getattr(message, field.name)
        if field.name == "ops":
            yield f"  ops ({len(value)})"
            for op in value:
                cid, prev = (_shown(part) for part in (op.cid, op.prev))
                yield f"    {op.action} {op.path}  cid {cid}  prev {prev}"
        else:
            yield f"  {field.name} {_shown(value)}"


def _shown(value: object) -> str:
    if not isinstance(value, bytes):
        return "-" if value is None else str(value)
    return encode_cid(value) if len(value) == 36 else f"{len(value)} bytes"


def _inspect_blocks(
    checks: list[Check],
    message: CommitMessage | SyncMessage,
    did_key: str | None,
    *,
    records: bool,
) -> None:
    opened = _checked(
        checks,
        "every block has the hash of its CID, and the root is a commit of this account",
        lambda: open_commit(message.did, message.blocks),
    )
    if opened is None:
        return
    _show_commit(opened)
    commit = opened.commit
    if did_key is None:
        checks.append(Check("signature: give the key with --key", None, is_skipped=True))
    else:
        key = parse_did_key(did_key)
        _checked(checks, "signature", lambda: key.verify(commit.unsigned, commit.signature))
    # As if it were authentic: the line above tells whether it is.
    authentic = AuthenticCommit(opened)
    if isinstance(message, CommitMessage):
        _checked(
            checks,
            "the message says what the commit says, every node that was needed keeps the tree's "
            "rules, and undoing the operations gives the previous root",
            lambda: prove_commit(message, authentic),
        )
        if records:
            _show_records(message, opened)
    else:
        _checked(
            checks,
            "the message says what the commit says",
            lambda: prove_sync(message, authentic),
        )


def _show_commit(opened: OpenedCommit) -> None:
    commit = opened.commit
    click.echo(f"commit {encode_cid(opened.commit_cid)}, {len(opened.blocks)} blocks")
    click.echo(f"  rev {commit.rev} ({tid_time_us(commit.rev)} µs)")
    click.echo(f"  data {encode_cid(commit.data_cid)}")
    click.echo(f"  sig {commit.signature.hex()}")


def _show_records(message: CommitMessage, opened: OpenedCommit) -> None:
    for op in message.ops:
        block = opened.blocks.get(op.cid or b"")
        if block is not None:
            click.echo(f"record {op.path}")
            try:
                click.echo(b"  " + atjson.to_json(block))
            except DagCborError as error:
                click.echo(f"  no JSON form: {error}")


def _checked(checks: list[Check], name: str, call: Callable[[], T]) -> T | None:
    try:
        result = call()
    except ProtocolError as error:
        checks.append(Check(name, error))
        return None
    checks.append(Check(name, None))
    return result
