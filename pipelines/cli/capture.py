"""`standpipe capture`: records the frames of a relay into a file, byte for byte."""

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipelines.atproto.errors import FrameError
from pipelines.atproto.frames import Kind, parse_envelope
from pipelines.captures import MAX_MESSAGE_BYTES, CaptureWriter
from pipelines.relay import connect_error, subscribe_url

_CONNECT_TIMEOUT_S = 20.0
_CLOSE_TIMEOUT_S = 2.0  # what the relay gets to answer the closing handshake
# Pings keep a quiet stream apart from a dead one. spec: F-17
_PING_INTERVAL_S = 30.0


@dataclass(slots=True)
class _Recording:
    """What was recorded so far.

    Attributes:
        url: of the stream.
        path: the capture file.
        limit: frames to record, or None.
        frame_count: frames recorded.
        byte_count: their bytes.
        last_seq: the last sequence number that could be read.
    """

    url: str
    path: Path
    limit: int | None
    frame_count: int = 0
    byte_count: int = 0
    last_seq: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether as many frames are recorded as were asked for."""
        return self.limit is not None and self.frame_count >= self.limit

    @property
    def how_to_continue(self) -> str:
        """Which options record what comes after."""
        cursor = "" if self.last_seq is None else f" --cursor {self.last_seq}"
        return f"continue with --append{cursor}"

    def __str__(self) -> str:
        if self.frame_count == 0:
            return "no frames"
        frames = "1 frame" if self.frame_count == 1 else f"{self.frame_count} frames"
        seq = "no sequence number" if self.last_seq is None else f"last seq {self.last_seq}"
        return f"{frames}, {self.byte_count} bytes, {seq} → {self.path}"


@click.command(name="capture")
@click.option(
    "--relay",
    required=True,
    metavar="URL",
    help="The relay or PDS: wss://host, https://host, host, or ws://host:port.",
)
@click.option(
    "--out",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where the frames go: [4-byte big-endian length][frame]…",
)
@click.option("--append", is_flag=True, help="Continue an existing file after its last frame.")
@click.option(
    "--cursor",
    type=click.IntRange(min=0),
    metavar="N",
    help="Sequence number to continue after; 0 for the oldest the relay has. Default: new ones.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
@click.option(
    "--seconds",
    type=click.IntRange(min=1),
    metavar="S",
    help="Stop after S seconds.",
)
def command(
    *,
    relay: str,
    path: Path,
    append: bool,
    cursor: int | None,
    limit: int | None,
    seconds: int | None,
) -> None:
    """Records frames from a relay into a file until Ctrl-C, a limit, or the end of the stream."""
    recording = _Recording(subscribe_url(relay, cursor), path, limit)
    try:
        asyncio.run(_run(recording, append=append, seconds=seconds))
    finally:
        click.echo(f"recorded {recording}")


async def _run(recording: _Recording, *, append: bool, seconds: int | None) -> None:
    """Records until the recording is complete, the time is over, or a signal asks to stop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    tasks = (
        asyncio.create_task(_record(recording, append=append)),
        asyncio.create_task(stopping.wait()),
    )
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def _record(recording: _Recording, *, append: bool) -> None:
    """Records until the recording is complete; an end of the stream before that is an error."""
    async with aiohttp.ClientSession() as session:
        socket = await _connect(session, recording.url)
        async with socket:
            with CaptureWriter(recording.path, append=append) as writer:
                if writer.cut_bytes:
                    click.echo(
                        f"{recording.path} ended inside a frame: cut off {writer.cut_bytes} bytes "
                        f"after {writer.resumed_count} whole frames",
                        err=True,
                    )
                await _keep_all(socket, writer, recording)


async def _connect(
    session: aiohttp.ClientSession, url: str
) -> aiohttp.ClientWebSocketResponse[Literal[True]]:
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            return await session.ws_connect(
                url,
                max_msg_size=MAX_MESSAGE_BYTES + 1,  # the first size that is refused
                heartbeat=_PING_INTERVAL_S,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT_S),
            )
    except (aiohttp.ClientError, OSError) as error:
        raise click.ClickException(f"{url}: {connect_error(error)}") from None


async def _keep_all(
    socket: aiohttp.ClientWebSocketResponse[Literal[True]],
    writer: CaptureWriter,
    recording: _Recording,
) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        line = progress.add_task("", total=recording.limit, state=recording)
        async for message in socket:
            _keep(message, writer, recording)
            progress.update(line, completed=recording.frame_count)
            if recording.is_complete:
                return
    raise click.ClickException(
        f"the relay closed the connection (code {socket.close_code}): {recording.how_to_continue}"
    )


def _keep(message: aiohttp.WSMessage, writer: CaptureWriter, recording: _Recording) -> None:
    if message.type is aiohttp.WSMsgType.ERROR:
        raise click.ClickException(
            f"the stream broke ({message.data}): {recording.how_to_continue}"
        )
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise click.ClickException(
            "the host sent text, an event stream is binary: check that it is a relay or PDS"
        )
    frame: bytes = message.data
    writer.append(frame)
    recording.frame_count += 1
    recording.byte_count += len(frame)
    try:
        envelope = parse_envelope(frame)
    except FrameError:
        return  # a capture keeps garbage too
    if envelope.kind is Kind.ERROR:
        name, text = envelope.payload.get("error"), envelope.payload.get("message")
        raise click.ClickException(f"the relay ended the stream: {name} ({text})")
    if envelope.seq is not None:
        recording.last_seq = envelope.seq
