"""The running simulator: one web server on loopback, with an event loop in a thread of its own.

A thread, so that a test or a command that is not asynchronous itself starts and stops it like any
other resource:

    with SimServer(load_network(folder)) as sim:
        subscribe(sim.addresses.relay)
"""

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pipelines.sim.app import build_app, status
from pipelines.sim.ports import CursorHabit, Emission, Network
from pipelines.sim.relay import Relay
from pipelines.sim.state import Faults
from pipelines.web_server import listening

HOST = "127.0.0.1"  # loopback only: what it serves is neither authentic nor current

# Starting binds one socket; stopping gives every subscriber two seconds to say goodbye.
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of the network are.

    Attributes:
        relay: base of the event stream and of com.atproto.sync.*.
        plc: base of the PLC directory.
        did_web: base of the did:web documents, see `pipelines.sim.directory`.
        pds: base of the PDSes that documents name: `{pds}/<host>` stands for `https://<host>`.
    """

    relay: str
    plc: str
    did_web: str
    pds: str


class SimServer:
    """Serves a network, captured or generated, until it is stopped.

    Attributes:
        faults: what is broken; may be changed at any time.
    """

    def __init__(
        self,
        network: Network,
        *,
        port: int = 0,
        rate: float = 0,
        cursor_habit: CursorHabit = CursorHabit.EXCLUSIVE,
        retained_count: int | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Prepares a server that is not running.

        Args:
            network: what to serve.
            port: TCP port; 0 for a free one.
            rate: frames per second from the first subscription on; 0 for as fast as possible.
            cursor_habit: whether a cursor includes the frame it names.
            retained_count: how many emitted frames are kept for cursors; None for no limit.
            faults: what is broken from the start.
        """
        self.faults = faults or Faults()
        self._port = port
        history = network.open_history(Emission(rate, cursor_habit, retained_count))
        self._app = build_app(network, Relay(history), self.faults)
        self._thread = threading.Thread(target=self._run, name="sim", daemon=True)
        self._started: Future[Addresses] = Future()
        self._stop_requested: Future[None] = Future()

    @property
    def addresses(self) -> Addresses:
        """Where the running server listens."""
        return self._started.result(timeout=0)

    def status(self) -> dict[str, Any]:
        """Returns what `/sim/status` answers: numbers of frames, subscribers and requests."""
        return status(self._app)

    def start(self) -> Addresses:
        """Starts the server and returns its addresses; it may be started once.

        Raises:
            ConfigError: the port cannot be listened on.
        """
        self._thread.start()
        return self._started.result(timeout=_START_TIMEOUT_S)

    def stop(self) -> None:
        """Closes every connection and ends the server."""
        if not self._stop_requested.done():
            self._stop_requested.set_result(None)
        self._thread.join(timeout=_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise RuntimeError("the simulator does not stop")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        async with listening(self._app, HOST, self._port) as (host, port):
            base = f"{host}:{port}"
            self._started.set_result(
                Addresses(
                    relay=f"ws://{base}",
                    plc=f"http://{base}",
                    did_web=f"http://{base}/web",
                    pds=f"http://{base}/pds",
                )
            )
            await asyncio.wrap_future(self._stop_requested)
