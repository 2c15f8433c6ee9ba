"""Reads the upstream, message by message, and connects again when a connection ends.

Every message is judged (`pipelines.bridge.intake`) and what is to be published is handed over. A
new connection starts at the last sequence number that was taken in, not the last one that was
committed: what lies between is in the queue, and if the process dies the next one starts at the
committed one. A start from a moment looks for its cursor first (`pipelines.bridge.timeseek`).

spec: F-01, F-02, F-14, F-17, F-21 to F-27
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from pipelines import logs
from pipelines.atproto.frames import ErrorMessage, InfoMessage
from pipelines.bridge.backoff import Backoff, Pause
from pipelines.bridge.busy import BusyAccounts
from pipelines.bridge.handover import Handover
from pipelines.bridge.intake import (
    Duplicate,
    Entry,
    Intake,
    Notice,
    Publish,
    Quarantine,
    Resent,
    Skip,
)
from pipelines.bridge.progress import Received
from pipelines.bridge.socket import (
    Socket,
    SocketEnd,
    SocketMessage,
    create_session,
    first_event,
    open_socket,
    receive,
)
from pipelines.bridge.timeseek import Search
from pipelines.bridge.upstream import Origin
from pipelines.bridge.vitals import Vitals, age_s
from pipelines.relay import connect_error, is_retryable, retry_after_s, subscribe_url

# How often a full queue is looked at. At full speed the publisher makes room for a batch in about
# this time.
ROOM_POLL_S = 0.02
# A reconnect brings back one message at most. So many say that the upstream's numbers went back.
RESENT_WARNING_COUNT = 1_000
# An upstream chooses the texts of its notices; they go into the log.
MAX_NOTICE_LENGTH = 200

# Of those that send as much as nobody does, a minute.
LOGGED_ACCOUNTS_COUNT = 10
# Of a connection; one that has more to say would fill our log with it.
LOGGED_NOTICES_COUNT = 10

_log = logs.get_logger("bridge")


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a connection ended, or why there was none.

    Attributes:
        event: for the log.
        detail: for a person.
        pause: how to wait before the next one.
        retry_after_s: what the upstream asked for, if it did.
        connected_s: how long the connection lasted; 0 if there was none.
    """

    event: str
    detail: str
    pause: Pause = Pause.BACK_OFF
    retry_after_s: float | None = None
    connected_s: float = 0.0


class Reader:
    """The reader of one upstream.

    Attributes:
        received: what came so far.
    """

    def __init__(
        self,
        relay: str,
        origin: Origin,
        intake: Intake,
        handover: Handover,
        backoff: Backoff,
        *,
        is_proven: bool,
        clock_us: Callable[[], int],
        received: Received,
        start_us: int | None = None,
        last_time: str | None = None,
    ) -> None:
        """Wires the reader.

        Args:
            relay: address of the upstream, as `pipelines.relay.subscribe_url` takes it.
            origin: its name.
            intake: judges the messages; knows where to start.
            handover: takes what is to be published.
            backoff: how long to wait between connections.
            is_proven: whether this address has been that of an event stream before. If not, an
                answer that no event stream gives is taken for a wrong address.
            clock_us: the time of day in microseconds since the epoch.
            received: counts, to be continued.
            start_us: a moment, microseconds since the epoch, to look for in the stream and to
                start at; None to start where the intake says.
            last_time: the upstream's clock at the last event that we have, as it stands there.
        """
        self._relay = relay
        self._origin = origin
        self._host = origin.host
        self._intake = intake
        self._handover = handover
        self._backoff = backoff
        self._is_proven = is_proven
        self._clock_us = clock_us
        self._search = None if start_us is None else Search(start_us)
        self._vitals = Vitals(age_s(clock_us(), last_time) or 0.0)
        self._busy = BusyAccounts()
        self._connection_resent_count = 0
        self._connection_has_news = False
        self._connection_notices_count = 0
        self.received = received

    async def run(self) -> None:
        """Reads until it is cancelled."""
        async with create_session() as session:
            if self._search is not None:
                await self._find_start(session, self._search)
            while True:
                # What waits in the queue goes first; a connection that nobody reads would only
                # be cut off as too slow.
                await self._wait_for_room()
                await self._pause_after(await self._follow(session))

    def examine(self) -> None:
        """Looks at what came lately; to be called all the time."""
        self._name_busy_accounts()
        self._vitals.advance(time.monotonic())
        known, found = self.received.finding, self._vitals.finding
        self.received.finding = found
        if found is None:
            if known is not None:
                _log.info("blindness_over", host=self._host, trouble=known.trouble)
        elif known is None or known.trouble is not found.trouble:
            self.received.found_us = self._clock_us()
            _log.warning(
                "upstream_blind",
                host=self._host,
                trouble=found.trouble,
                detail=found.detail,
                remedy="events may be missing or late; look at the upstream, or name another one",
            )

    def _name_busy_accounts(self) -> None:
        found = self._busy.advance(self._clock_us())
        if found is None:
            return
        self.received.busy_accounts_count = len(found)
        for did in sorted(found, key=lambda did: -found[did])[:LOGGED_ACCOUNTS_COUNT]:
            _log.warning("account_busy", host=self._host, did=did, events_a_minute=found[did])

    async def _pause_after(self, ending: _Ending) -> None:
        pause_s = self._backoff.next_pause_s(
            ending.pause, connected_s=ending.connected_s, retry_after_s=ending.retry_after_s
        )
        _log.warning(
            ending.event,
            host=self._host,
            detail=ending.detail,
            cursor=self._intake.cursor,
            retry_s=round(pause_s, 1),
        )
        self.received.disconnected_by = ending.detail
        await asyncio.sleep(pause_s)

    async def _find_start(self, session: aiohttp.ClientSession, search: Search) -> None:
        """Asks the upstream until the search is at its end, and starts at what was found."""
        while (cursor := search.next_cursor) is not None:
            try:
                sighting = await first_event(session, subscribe_url(self._relay, cursor))
            except (aiohttp.ClientError, OSError) as error:
                await self._pause_after(self._not_connected(error))
            else:
                self._prove()
                search.answer(sighting)
        _log.info("start_found", host=self._host, cursor=search.found)
        self._intake.cursor = search.found

    async def _follow(self, session: aiohttp.ClientSession) -> _Ending:
        """Makes one connection and reads it to its end."""
        url = subscribe_url(self._relay, self._intake.cursor)
        try:
            socket = await open_socket(session, url)
        except (aiohttp.ClientError, OSError) as error:
            return self._not_connected(error)
        self._prove()
        self._connection_resent_count = 0
        self._connection_has_news = False
        self._connection_notices_count = 0
        self._intake.begin_connection()
        self.received.connections_count += 1
        self.received.disconnected_by = None
        _log.info("connected", host=self._host, cursor=self._intake.cursor)
        started_s = time.monotonic()
        self._vitals.begin_connection(started_s)
        async with socket:
            ending = await self._read(socket)
        self._vitals.end_connection()
        return replace(ending, connected_s=time.monotonic() - started_s)

    def _prove(self) -> None:
        """Takes note that there is an event stream at the address."""
        self._is_proven = True
        self.received.misaddressed_us = None

    def _not_connected(self, error: Exception) -> _Ending:
        detail = connect_error(error)
        if is_retryable(error):
            return _Ending("connect_failed", detail, retry_after_s=retry_after_s(error))
        if not self._is_proven and self.received.misaddressed_us is None:
            self.received.misaddressed_us = self._clock_us()
        return _Ending("connect_refused", detail, Pause.LONG, retry_after_s(error))

    async def _read(self, socket: Socket) -> _Ending:
        while True:
            if self._handover.is_full:
                self._vitals.hold_up()
                await self._wait_for_room()
            received = await receive(socket)
            if isinstance(received, SocketEnd):
                return _Ending("disconnected", received.detail)
            ending = self._take_in(received)
            if ending is not None:
                return ending

    def _take_in(self, message: SocketMessage) -> _Ending | None:
        """Judges a message and does what is to be done; says if it ends the connection."""
        now_us = self._clock_us()
        self.received.messages_count += 1
        self.received.last_received_us = now_us
        decision = self._intake.judge(message.data, is_text=message.is_text, received_us=now_us)
        match decision:
            case Publish():
                self.received.count(decision.sighting)
                self._busy.count(decision.did)
                self._vitals.observe(time.monotonic(), now_us, decision.time)
                self._hand_over(decision)
            case Duplicate():
                self.received.count(decision.sighting)
                self.received.duplicates_count += 1
                self._vitals.observe(time.monotonic(), now_us, decision.time)
                self._hand_over(decision)
            case Quarantine():
                self._hand_over(decision)
            case Skip():
                self.received.skipped_count += 1
                if decision.seq is not None:
                    self._hand_over(decision)
            case Resent():
                self._count_resent()
            case Notice():
                return self._heed(decision.message)
        garbage = self._intake.garbage
        return None if garbage is None else _Ending("garbled", f"{garbage}; see the quarantine")

    def _hand_over(self, entry: Entry) -> None:
        self._connection_has_news = True
        self._handover.put(self._origin, entry)

    def _count_resent(self) -> None:
        self.received.resent_count += 1
        self._connection_resent_count += 1
        if self._connection_resent_count == RESENT_WARNING_COUNT:
            _log.warning("sequence_behind_cursor", host=self._host, remedy=self._reset_remedy())

    def _heed(self, notice: InfoMessage | ErrorMessage) -> _Ending | None:
        name = notice.name[:MAX_NOTICE_LENGTH]
        text = (notice.text or "")[:MAX_NOTICE_LENGTH]
        if isinstance(notice, InfoMessage):
            # One that the cursor is outdated makes the intake find a gap before the next event.
            self._connection_notices_count += 1
            if self._connection_notices_count <= LOGGED_NOTICES_COUNT:
                _log.info("upstream_info", host=self._host, name=name, detail=text)
            return None
        if name == "ConsumerTooSlow":
            # We were slow, it is not in trouble. But only if that gets us on. spec: F-27
            pause = Pause.AT_ONCE if self._connection_has_news else Pause.BACK_OFF
            return _Ending("too_slow", text, pause)
        if name == "FutureCursor":
            # Nothing is reset by itself: only a person knows what happened. spec: F-25
            return _Ending("cursor_in_future", self._reset_remedy(), Pause.LONG)
        return _Ending("upstream_error", f"{name}: {text}")

    def _reset_remedy(self) -> str:
        return (
            f"the upstream's sequence numbers are behind our cursor {self._intake.cursor}: it was "
            "reset, or is another one now. Nothing of it is taken in until it is ahead again. To "
            f"accept a reset, start again with --give-up-cursor {self._intake.cursor} "
            "--cursor oldest; it will be noted as a gap"
        )

    async def _wait_for_room(self) -> None:
        # A thread makes room. Waking the loop for each batch would cost more than looking.
        while self._handover.is_full:  # noqa: ASYNC110 - see above
            await asyncio.sleep(ROOM_POLL_S)
