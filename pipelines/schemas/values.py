"""The values and headers of all topics. Made by `make generated`: do not edit.

A value that is null (a tombstone) has no type: ask for `message.value is None` first.
"""

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, cast

from pipelines.schemas.reading import parse_headers, parse_value


class AdmissionTable(TypedDict):
    """A value of `admissions`.

    Which collections have topics of their own, from which frames on. Key: number, in decimal.

    Attributes:
        number: From 1, without holes. Unit: position in the sequence of tables. Source: stage.
        collections: NSIDs, sorted by their bytes. Those of all others go to records.other and
            latest.other. Source: operator.
        sha256: Hexadecimal SHA-256 of the collections, each with a line feed after it. Source:
            stage.
        next_offsets: For each partition of frames, in order of its number: the offset of the first
            frame that the table is for. null while it is announced and not in force. Source:
            kafka.
        written_us: When this was written, microseconds since 1970 by the clock of who wrote it.
            Source: clock.
    """

    number: int
    collections: list[str]
    sha256: str
    next_offsets: list[int] | None
    written_us: int


def parse_admission_table(value: bytes) -> AdmissionTable:
    """Returns the value of a message of `admissions`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(AdmissionTable, parse_value("admissions", value))


class ChunkRecord(TypedDict):
    """Part of a value of `chunks`.

    Attributes:
        collection: NSID of a collection, at most 317 characters, case-sensitive. Source: signed.
        rkey: Record key within the collection, 1 to 512 characters, case-sensitive. Source:
            signed.
        cid: CID of the record block. Source: signed.
        record: The record; null where record_error says why. Source: signed.
        record_error: Why there is no JSON, or null. Source: stage.
        record_cbor: The record block, where record_error says why there is no JSON; else null.
            Source: signed.
    """

    collection: str
    rkey: str
    cid: str
    record: dict[str, Any] | None
    record_error: (
        Literal[
            "cbor.depth",
            "cbor.data_model",
            "cbor.invalid",
            "json.ambiguous",
            "json.too_large",
        ]
        | None
    )
    record_cbor: str | None


class Chunk(TypedDict):
    """A value of `chunks`.

    Some records of a repository as its server had it, in the order of the paths' bytes. Key: DID.
    It counts only once a manifest in snapshots names it. Every field is always present.

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        rev: Revision of the snapshot's commit. Source: signed.
        index: Which chunk of the snapshot it is, from 0. Unit: position in the snapshot. Source:
            stage.
        records: The records, with rising paths; the paths of the next chunk go on from there.
            Source: signed.
    """

    did: str
    rev: str
    index: int
    records: list[ChunkRecord]


class ChunkHeaders(TypedDict):
    """The headers of `chunks`.

    Attributes:
        did: The repository, as in the key.
        rev: Revision of the snapshot's commit.
    """

    did: str
    rev: str


def parse_chunk(value: bytes) -> Chunk:
    """Returns the value of a message of `chunks`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Chunk, parse_value("chunks", value))


def parse_chunk_headers(headers: Iterable[tuple[str, bytes]]) -> ChunkHeaders:
    """Returns the headers of a message of `chunks`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(ChunkHeaders, parse_headers("chunks", headers))


class CrawlCounts(TypedDict):
    """Part of a value of `crawls`.

    Attributes:
        requested: A request was written. Unit: repositories. Source: stage.
        synchronized: What we have is as new as what is listed. Unit: repositories. Source: stage.
        inactive: The account is not active, here as there. Unit: repositories. Source: stage.
        on_its_way: That revision is known, and its repair was requested when it broke. Unit:
            repositories. Source: stage.
        repeated: Another list of the same crawl had named it before. Unit: repositories. Source:
            stage.
        again: The same list had named it before. Unit: repositories. Source: stage.
        older: Of a sweep: nothing of it was ever seen, and no change of it since the gap is known;
            or it is none of those that are tracked. Unit: repositories. Source: stage.
    """

    requested: int
    synchronized: int
    inactive: int
    on_its_way: int
    repeated: int
    again: int
    older: int


class CrawlAnswer(TypedDict):
    """Part of a value of `crawls`.

    Attributes:
        host: Host of the upstream, as gaps has it. Source: stage.
        next_offset: The offset in gaps after the last gap that it answers. Source: kafka.
        since_us: When the first of those gaps began, by the upstream's clock, microseconds since
            1970; null where nobody knows. Source: upstream.
        listed_us: When reading the list began, microseconds since 1970. Source: clock.
        listings_offset: No message of it in listings is before this offset. Source: kafka.
        missed_did: The last account that was asked for because the list, read to its end, does not
            have it; null where there is none yet. Source: stage.
    """

    host: str
    next_offset: int
    since_us: int | None
    listed_us: int
    listings_offset: int
    missed_did: str | None


class Crawl(TypedDict):
    """A value of `crawls`.

    How far a list of repositories has been read. Key: job, a space, subject.

    Attributes:
        job: What it is read for. backfill: to ask for whatever is missing. sweep: to find what
            changed in a gap of an upstream. Source: operator.
        subject: The list: `repos <base URL>` (listRepos), `<collection> <base URL>`
            (listReposByCollection), `dids sha256:<hash of a file>`; of a sweep also `gaps <host>`:
            the messages of an upstream in the topic gaps. Source: operator.
        state: running: there is more to read. done: it was read to its end. cut: it cannot be read
            on, see problem. Source: stage.
        cursor: What the next page is asked for with, as the host gave it; null for the first page.
            Of a file the position in it; of `gaps <host>` the offset in gaps from which on gaps
            are still to be dealt with. Source: server.
        pages_count: Pages read so far, but for the last one. Unit: pages. Source: stage.
        empty_count: Pages in a row, up to here, without a repository that the list had not named
            before. Unit: pages. Source: stage.
        mark: The cursor of an earlier page, to notice a list that leads in a circle; null where
            there is none. Source: server.
        counts: What became of the repositories so far. Source: stage.
        invalid_count: Entries so far that are no repository. Unit: entries of a list. Source:
            stage.
        problem: Why the list was cut, for a person; else null. Source: stage.
        answer: What a list that a sweep is reading is the answer to, and what reading it on needs;
            null of all others. Source: stage.
        updated_us: When this was written, microseconds since 1970. Source: clock.
    """

    job: Literal["backfill", "sweep"]
    subject: str
    state: Literal["running", "done", "cut"]
    cursor: str | None
    pages_count: int
    empty_count: int
    mark: str | None
    counts: CrawlCounts
    invalid_count: int
    problem: str | None
    answer: CrawlAnswer | None
    updated_us: int


def parse_crawl(value: bytes) -> Crawl:
    """Returns the value of a message of `crawls`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Crawl, parse_value("crawls", value))


class Cursor(TypedDict):
    """A value of `cursors`.

    How far one upstream has been copied into frames. Key: host.

    Attributes:
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        seq: Highest sequence number with everything up to it in frames; 0 before the first one.
            Source: upstream.
        generation: How often the bridge has been started for this host, from 1. A newer generation
            may repeat or skip sequence numbers. Unit: starts of the bridge. Source: stage.
        time: The upstream's `time` of the event with that number, as it stood there; null where it
            had none. Source: upstream.
        updated_us: When this was written, microseconds since 1970 by the bridge's clock. Source:
            clock.
    """

    host: str
    seq: int
    generation: int
    time: str | None
    updated_us: int


def parse_cursor(value: bytes) -> Cursor:
    """Returns the value of a message of `cursors`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Cursor, parse_value("cursors", value))


class Epoch(TypedDict):
    """A value of `epochs`.

    What one transaction of the bridge added to frames. Key: host. Every frame of this host with a
    sequence number up to seq_hi is below next_offsets.

    Attributes:
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        generation: How often the bridge has been started for this host, from 1. A newer generation
            may repeat or skip sequence numbers. Unit: starts of the bridge. Source: stage.
        seq_lo: Lowest sequence number of the transaction. Source: upstream.
        seq_hi: Highest sequence number of the transaction. Source: upstream.
        time: The upstream's `time` of the event seq_hi, as it stood there; null where it had none.
            Source: upstream.
        received_us: When the bridge received the frame seq_hi, microseconds since 1970 by the
            bridge's clock. Source: clock.
        next_offsets: For each partition of frames, in order of its number: the offset after the
            last frame of this host up to seq_hi, or a later one. Source: kafka.
    """

    host: str
    generation: int
    seq_lo: int
    seq_hi: int
    time: str | None
    received_us: int
    next_offsets: list[int]


def parse_epoch(value: bytes) -> Epoch:
    """Returns the value of a message of `epochs`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Epoch, parse_value("epochs", value))


class EventOp(TypedDict):
    """Part of a value of `events`.

    Attributes:
        operation: What happened to the record. Source: signed.
        collection: NSID of a collection, at most 317 characters, case-sensitive. Source: signed.
        rkey: Record key within the collection, 1 to 512 characters, case-sensitive. Source:
            signed.
        cid: CID of the record block afterwards; null for a delete. Source: signed.
        prev: CID of the record block before; null for a create. Equal to `cid` for an update that
            changed nothing. Source: signed.
        record: The record afterwards; null where one of the next three says why. Source: signed.
        record_error: Why there is no JSON although there is a record, or null. Source: stage.
        record_cbor: The record block, where record_error says why there is no JSON; else null.
            Source: signed.
        record_from: Index of the earlier operation of this commit that has the same record CID and
            holds its record (or record_error and record_cbor), so that one block named by 200
            operations is written once; else null. Unit: index in ops. Source: stage.
    """

    operation: Literal["create", "update", "delete"]
    collection: str
    rkey: str
    cid: str | None
    prev: str | None
    record: dict[str, Any] | None
    record_error: (
        Literal[
            "cbor.depth",
            "cbor.data_model",
            "cbor.invalid",
            "json.ambiguous",
            "json.too_large",
        ]
        | None
    )
    record_cbor: str | None
    record_from: int | None


class CommitEvent(TypedDict):
    """A value of `events`: commit event.

    A proven commit: signed by the repository's key, its operations agree with its tree, and
    undoing them leads to prev_data.

    Attributes:
        kind: Always `commit`. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: When the upstream says the event happened, RFC 3339. A claim, from a clock that
            nobody checked. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        rev: Revision of the signed commit. Source: signed.
        since: Claimed revision of the commit before; null for a first commit. Not signed: true
            only once the chain is. Source: upstream.
        commit: CID of the signed commit block. Source: signed.
        data: CID of the root of the repository's Merkle search tree, from the signed commit.
            Source: signed.
        prev_data: Root of the tree before, to which undoing the operations leads; null for a first
            commit, where it leads to the empty tree. Source: signed.
        commit_block: The signed commit block (DAG-CBOR), whose SHA-256 is in `commit`. Source:
            signed.
        ops: The operations, in the frame's order; no path occurs twice. Source: signed.
    """

    kind: Literal["commit"]
    did: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    rev: str
    since: str | None
    commit: str
    data: str
    prev_data: str | None
    commit_block: str
    ops: list[EventOp]


class SyncEvent(TypedDict):
    """A value of `events`: sync event.

    A proven statement of a repository's current revision, without operations: the reader has to
    fetch the repository if it has another root.

    Attributes:
        kind: Always `sync`. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: When the upstream says the event happened, RFC 3339. A claim, from a clock that
            nobody checked. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        rev: Revision of the signed commit. Source: signed.
        commit: CID of the signed commit block. Source: signed.
        data: CID of the root of the repository's Merkle search tree, from the signed commit.
            Source: signed.
        commit_block: The signed commit block (DAG-CBOR), whose SHA-256 is in `commit`. Source:
            signed.
    """

    kind: Literal["sync"]
    did: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    rev: str
    commit: str
    data: str
    commit_block: str


class IdentityEvent(TypedDict):
    """A value of `events`: identity event.

    A hint that the account's DID document changed. Nobody signed it.

    Attributes:
        kind: Always `identity`. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: upstream.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: When the upstream says the event happened, RFC 3339. A claim, from a clock that
            nobody checked. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        handle: The handle that the upstream names, unverified, or null where it names none.
            Source: upstream.
    """

    kind: Literal["identity"]
    did: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    handle: str | None


class AccountEvent(TypedDict):
    """A value of `events`: account event.

    The account's hosting status as the upstream states it. Nobody signed it.

    Attributes:
        kind: Always `account`. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: upstream.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: When the upstream says the event happened, RFC 3339. A claim, from a clock that
            nobody checked. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        active: Whether the repository may be shown. Source: upstream.
        status: Why not (deleted, deactivated, takendown, suspended, …: an open set), or null. May
            be set although active. Source: upstream.
    """

    kind: Literal["account"]
    did: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    active: bool
    status: str | None


class RefusedEvent(TypedDict):
    """A value of `events`: refused event.

    An authentic commit or sync (its signature is good) whose content was refused: the repository
    is suspect until it is fetched again. The frame is in quarantine.

    Attributes:
        kind: Always `refused`. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: When the upstream says the event happened, RFC 3339. A claim, from a clock that
            nobody checked. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        refused_kind: What the frame was. Source: upstream.
        rev: Revision of the signed commit. Source: signed.
        commit: CID of the signed commit block. Source: signed.
        data: CID of the root of the repository's Merkle search tree, from the signed commit.
            Source: signed.
        reason: Why it was refused, the stable name that q.reason has in quarantine. Source: stage.
        detail: One sentence for a person; its wording may change. Source: stage.
    """

    kind: Literal["refused"]
    did: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    refused_kind: Literal["commit", "sync"]
    rev: str
    commit: str
    data: str
    reason: str
    detail: str


class UnresolvedEvent(TypedDict):
    """A value of `events`: unresolved event.

    A commit or sync that was given up because nobody could say for half a day which key its
    account signs with. Whether the account made it is not known: the repository may have changed.
    The frame is in quarantine, unless it was not kept that long.

    Attributes:
        kind: Always `unresolved`. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: upstream.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: Always null: nothing in the frame is proven. Source: stage.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        reason: Why it was given up, the stable name that q.reason has in quarantine. Source:
            stage.
        detail: One sentence for a person; its wording may change. Source: stage.
    """

    kind: Literal["unresolved"]
    did: str
    seq: int
    host: str
    time: None
    received_us: int
    frame_partition: int
    frame_offset: int
    reason: str
    detail: str


Event: TypeAlias = (
    CommitEvent | SyncEvent | IdentityEvent | AccountEvent | RefusedEvent | UnresolvedEvent
)


class EventHeaders(TypedDict):
    """The headers of `events`.

    Attributes:
        did: The repository or account, as in the key.
        kind: commit, sync, identity, account, refused or unresolved, as in the value.
        rev: Revision of the signed commit, for commit, sync and refused.
    """

    did: str
    kind: str
    rev: NotRequired[str]


def parse_event(value: bytes) -> Event:
    """Returns the value of a message of `events`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Event, parse_value("events", value))


def parse_event_headers(headers: Iterable[tuple[str, bytes]]) -> EventHeaders:
    """Returns the headers of a message of `events`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(EventHeaders, parse_headers("events", headers))


class FrameHeaders(TypedDict):
    """The headers of `frames`.

    Attributes:
        host: Host (and port, where it is not the default) of the upstream that brought it first.
        seq: The upstream's sequence number, 1 to 2^53-1; increasing per host, with gaps.
        kind: What the frame's own header says it is, one of commit, sync, identity, account,
            unknown.
        received_us: When the bridge received it, in microseconds since 1970 by the bridge's clock.
        upstream: Always `pds`, where the upstream is a server of accounts, which speaks for its
            own accounts alone; absent for a relay.
    """

    host: str
    seq: int
    kind: str
    received_us: int
    upstream: NotRequired[str]


def parse_frame_headers(headers: Iterable[tuple[str, bytes]]) -> FrameHeaders:
    """Returns the headers of a message of `frames`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(FrameHeaders, parse_headers("frames", headers))


class Gap(TypedDict):
    """A value of `gaps`.

    Events of one upstream may be missing between two of its events. Key: host.

    Attributes:
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        generation: How often the bridge has been started for this host, from 1. A newer generation
            may repeat or skip sequence numbers. Unit: starts of the bridge. Source: stage.
        reason: How we know. outdated_cursor: the upstream said that it no longer has what
            followed. jump: it did not say so, but numbers and times jump, or the numbers by a
            million. cursor_given_up: a person had the bridge start anew, as where an upstream was
            reset; then the numbers before and after have nothing to do with each other. Source:
            stage.
        from_seq: The last event before the gap that was taken in. Unit: sequence number. Source:
            upstream.
        from_time: The upstream's `time` of that event; null where it had none, or where nobody
            knows. Source: upstream.
        to_seq: The first event after the gap. Unit: sequence number. Source: upstream.
        to_time: The upstream's `time` of that event; null where it had none. Source: upstream.
        received_us: When the bridge received the first event after the gap, microseconds since
            1970 by the bridge's clock. Source: clock.
        next_offsets: For each partition of frames, in order of its number: no frame of this host
            after the gap is before this offset. Source: kafka.
    """

    host: str
    generation: int
    reason: Literal["cursor_given_up", "outdated_cursor", "jump"]
    from_seq: int
    from_time: str | None
    to_seq: int
    to_time: str | None
    received_us: int
    next_offsets: list[int]


def parse_gap(value: bytes) -> Gap:
    """Returns the value of a message of `gaps`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Gap, parse_value("gaps", value))


class Identity(TypedDict):
    """A value of `identities`.

    What is known of an account's identity. Key: DID. Of several messages the one with the highest
    as_of_us counts, of equal ones the later.

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: stage.
        signing_key: The public key that the account's commits are signed with, as did:key; null
            where it has no usable one. Source: server.
        pds: Origin of the account's server, or null where it names none. Source: server.
        handle: The handle that the account claims, in lower case and not proven, or null where it
            claims none. Source: server.
        reason: Why there is no signing key, the stable name that q.reason has in quarantine; null
            if there is one. Source: stage.
        origin: What this was made from. document: the DID document. operation: an operation in the
            directory's export. Source: stage.
        source: Who said it: base URL of the directory or host. Source: operator.
        as_of_us: The moment whose state this is, microseconds since 1970: when the directory
            received the operation, or by our own clock when the document was asked for. Source:
            server.
        seq: Sequence number of the operation in the directory's export, or null. Unit: sequence
            number. Source: server.
        fetched_us: When it was learned, microseconds since 1970 by the clock of the machine that
            learned it. Source: clock.
        stale: Whether the account announced a change since: who needs the key asks again. Source:
            upstream.
    """

    did: str
    signing_key: str | None
    pds: str | None
    handle: str | None
    reason: str | None
    origin: Literal["document", "operation"]
    source: str
    as_of_us: int
    seq: int | None
    fetched_us: int
    stale: bool


class IdentityHeaders(TypedDict):
    """The headers of `identities`.

    Attributes:
        did: The account, as in the key.
    """

    did: str


def parse_identity(value: bytes) -> Identity:
    """Returns the value of a message of `identities`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Identity, parse_value("identities", value))


def parse_identity_headers(headers: Iterable[tuple[str, bytes]]) -> IdentityHeaders:
    """Returns the headers of a message of `identities`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(IdentityHeaders, parse_headers("identities", headers))


class LatestRecord(TypedDict):
    """A value of `latest`.

    The latest record at one at-uri. Key: at-uri. A null value says that the record is gone. Every
    field is always present.

    Attributes:
        uri: The record's address, at://<did>/<collection>/<rkey>; also the message key. Source:
            signed.
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        collection: NSID of a collection, at most 317 characters, case-sensitive. Source: signed.
        rkey: Record key within the collection, 1 to 512 characters, case-sensitive. Source:
            signed.
        cid: CID of the record block. Source: signed.
        rev: Revision of the commit that wrote the record; of a record from a snapshot, the
            snapshot's. Source: signed.
        host: Host of the upstream the frame came from, or host that was asked for the repository,
            with its port where that is not the default. Source: stage.
        seq: The upstream's sequence number of the frame; null for a record from a snapshot.
            Source: upstream.
        time: When the upstream says the event happened; null for a record from a snapshot. Source:
            upstream.
        received_us: When the bridge received the frame, or the repository was fetched,
            microseconds since 1970 by our clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from;
            null for a record from a snapshot. Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition; null for a record from a snapshot.
            Unit: offset. Source: kafka.
        snapshot_offset: Offset in the topic snapshots, same partition, of the snapshot that the
            record comes from; null for one from a frame. Unit: offset. Source: kafka.
        record: The record; null where record_error says why. Source: signed.
        record_error: Why there is no JSON, or null. Source: stage.
        record_cbor: The record block, where record_error says why there is no JSON; else null.
            Also null for a large record that one commit named so often that its messages would not
            fit into a transaction (json.too_large). Source: signed.
    """

    uri: str
    did: str
    collection: str
    rkey: str
    cid: str
    rev: str
    host: str
    seq: int | None
    time: str | None
    received_us: int
    frame_partition: int | None
    frame_offset: int | None
    snapshot_offset: int | None
    record: dict[str, Any] | None
    record_error: (
        Literal[
            "cbor.depth",
            "cbor.data_model",
            "cbor.invalid",
            "json.ambiguous",
            "json.too_large",
        ]
        | None
    )
    record_cbor: str | None


class LatestRecordHeaders(TypedDict):
    """The headers of `latest`.

    Attributes:
        did: The repository.
        collection: NSID of the collection; what tells messages in latest.other apart.
        operation: create, update, delete or move. delete and move come with a null, as the record
            is gone, or is in another topic of latest since its collection got a topic of its own,
            or lost it.
        rev: Revision of the commit that the change came with; for the records of a deleted
            account, the last revision before the deletion.
        live: Whether the change came with the event stream (true), and not from a repair or a
            backfill (false).
        cid: CID of the record; absent with a null.
        prev: CID of the record before; absent where there was none.
    """

    did: str
    collection: str
    operation: str
    rev: str
    live: str
    cid: NotRequired[str]
    prev: NotRequired[str]


def parse_latest_record(value: bytes) -> LatestRecord:
    """Returns the value of a message of `latest`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(LatestRecord, parse_value("latest", value))


def parse_latest_record_headers(headers: Iterable[tuple[str, bytes]]) -> LatestRecordHeaders:
    """Returns the headers of a message of `latest`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(LatestRecordHeaders, parse_headers("latest", headers))


class Listing(TypedDict):
    """A value of `listings`.

    Repositories that an upstream listed, of some pages. Key: host.

    Attributes:
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        listed_us: When reading the list began, microseconds since 1970: all messages of one sweep
            of an upstream have the same. Source: clock.
        fingerprints: Base64 of fingerprints in the list's order, one after another: of each DID
            the first 9 bytes of its SHA-256. Source: server.
    """

    host: str
    listed_us: int
    fingerprints: str


def parse_listing(value: bytes) -> Listing:
    """Returns the value of a message of `listings`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Listing, parse_value("listings", value))


class Minute(TypedDict):
    """A value of `minutes`.

    How many records of one collection and language one minute brought, in an interval of offsets
    of one partition. Key: `<minute>/<collection>/<language>/<partition>/<first_offset>`.

    Attributes:
        minute: Start of the minute in which the bridge received the frames, by the bridge's clock,
            UTC. Source: clock.
        collection: NSID of the collection where it has a record topic of its own, else `other`.
            The topic counted is records.<collection>. Source: signed.
        language: Two-letter code (ISO 639-1) of the language that the record says it is in; `mul`
            for several; `other` for what is no such code; `und` where the record says nothing, as
            those of most collections and every delete. Source: signed.
        partition: Partition of the record topic; also of this message. Unit: partition number.
            Source: kafka.
        first_offset: Offset of the first record that is counted here. Unit: offset. Source: kafka.
        next_offset: Offset after the last record that is counted here. Unit: offset. Source:
            kafka.
        creates: Records created. Unit: records. Source: stage.
        updates: Records updated. Unit: records. Source: stage.
        deletes: Records deleted. Unit: records. Source: stage.
    """

    minute: str
    collection: str
    language: str
    partition: int
    first_offset: int
    next_offset: int
    creates: int
    updates: int
    deletes: int


def parse_minute(value: bytes) -> Minute:
    """Returns the value of a message of `minutes`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Minute, parse_value("minutes", value))


class Override(TypedDict):
    """A value of `overrides`.

    What the operator says of an account, which counts instead of upstream's word. Key: DID. A null
    lifts it. Every field is always present.

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: operator.
        status: What counts of the account. active: it may be shown, whatever upstream says.
            deleted: its records go at once. Else they are hidden, or go where compact purges.
            Source: operator.
        reason: Why, for people. Source: operator.
        decided_us: When the operator said so, microseconds since 1970 by the clock of the
            command's machine. Source: clock.
    """

    did: str
    status: Literal["active", "deactivated", "deleted", "suspended", "takendown"]
    reason: str
    decided_us: int


class OverrideHeaders(TypedDict):
    """The headers of `overrides`.

    Attributes:
        did: The account, as in the key.
    """

    did: str


def parse_override(value: bytes) -> Override:
    """Returns the value of a message of `overrides`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Override, parse_value("overrides", value))


def parse_override_headers(headers: Iterable[tuple[str, bytes]]) -> OverrideHeaders:
    """Returns the headers of a message of `overrides`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(OverrideHeaders, parse_headers("overrides", headers))


class Parked(TypedDict):
    """A value of `parked`.

    A frame that waits for its account's identity. Key: `<did>/<offset of the frame>`. A null means
    that it waits no longer.

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: upstream.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        kind: What the frame's own header says it is. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame. Unit: partition
            number. Source: kafka.
        frame_offset: Offset of the frame in its partition. Unit: offset. Source: kafka.
        parked_us: Since when it waits, microseconds since 1970 by the worker's clock. Source:
            clock.
        detail: Why it could not be judged, for a person; null if it waits because an earlier frame
            of the account does. Source: stage.
    """

    did: str
    seq: int
    host: str
    kind: Literal["commit", "sync", "identity", "account", "unknown"]
    received_us: int
    frame_partition: int
    frame_offset: int
    parked_us: int
    detail: str | None


class ParkedHeaders(TypedDict):
    """The headers of `parked`.

    Attributes:
        did: The account, as in the key.
    """

    did: str


def parse_parked(value: bytes) -> Parked:
    """Returns the value of a message of `parked`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Parked, parse_value("parked", value))


def parse_parked_headers(headers: Iterable[tuple[str, bytes]]) -> ParkedHeaders:
    """Returns the headers of a message of `parked`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(ParkedHeaders, parse_headers("parked", headers))


# The headers of `quarantine`:
#     host: As in frames.
#     seq: As in frames.
#     kind: As in frames.
#     received_us: As in frames.
#     upstream: As in frames.
#     q.reason: Why, a stable name such as `signature.invalid`; REASONS.md has them all.
#     q.stage: The stage that refused it.
#     q.detail: One sentence for a person; its wording may change.
#     q.topic: Physical name of the topic it was read from; absent where it came from the socket.
#     q.partition: Partition it was read from; absent likewise.
#     q.offset: Offset it was read from; absent likewise.
#     q.attempts: How often it has been judged, from 1; more after it was put in again.
#     q.version: Version of standpipe that refused it.
QuarantineHeaders = TypedDict(
    "QuarantineHeaders",
    {
        "host": NotRequired[str],
        "seq": NotRequired[int],
        "kind": NotRequired[str],
        "received_us": NotRequired[int],
        "upstream": NotRequired[str],
        "q.reason": str,
        "q.stage": str,
        "q.detail": str,
        "q.topic": NotRequired[str],
        "q.partition": NotRequired[int],
        "q.offset": NotRequired[int],
        "q.attempts": int,
        "q.version": str,
    },
)


def parse_quarantine_headers(headers: Iterable[tuple[str, bytes]]) -> QuarantineHeaders:
    """Returns the headers of a message of `quarantine`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(QuarantineHeaders, parse_headers("quarantine", headers))


class Record(TypedDict):
    """A value of `records`.

    One operation of a proven commit. Key: at-uri. Every field is always present.

    Attributes:
        uri: The record's address, at://<did>/<collection>/<rkey>; also the message key. Source:
            signed.
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        collection: NSID of a collection, at most 317 characters, case-sensitive. Source: signed.
        rkey: Record key within the collection, 1 to 512 characters, case-sensitive. Source:
            signed.
        operation: What the commit did to the record. Source: signed.
        cid: CID of the record block afterwards; null for a delete. Source: signed.
        prev: CID of the record block before; null for a create. Equal to `cid` for an update that
            changed nothing. Source: signed.
        rev: Revision of the commit. Source: signed.
        seq: The upstream's sequence number of the frame. Increases per host, with gaps. Source:
            upstream.
        host: Host of the upstream the frame came from, with its port where that is not the
            default. Source: stage.
        time: When the upstream says the event happened, RFC 3339. A claim, from a clock that
            nobody checked. Source: upstream.
        received_us: When the bridge received the frame, microseconds since 1970 by the bridge's
            clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame this was proven from.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition. Unit: offset. Source: kafka.
        record: The record afterwards; null for a delete, and where record_error says why. Source:
            signed.
        record_error: Why there is no JSON although there is a record, or null. Source: stage.
        record_cbor: The record block: where record_error says why there is no JSON (null if it
            would not fit either), or always, if explode was told so with --record-cbor; else null.
            Source: signed.
    """

    uri: str
    did: str
    collection: str
    rkey: str
    operation: Literal["create", "update", "delete"]
    cid: str | None
    prev: str | None
    rev: str
    seq: int
    host: str
    time: str
    received_us: int
    frame_partition: int
    frame_offset: int
    record: dict[str, Any] | None
    record_error: (
        Literal[
            "cbor.depth",
            "cbor.data_model",
            "cbor.invalid",
            "json.ambiguous",
            "json.too_large",
        ]
        | None
    )
    record_cbor: str | None


class RecordHeaders(TypedDict):
    """The headers of `records`.

    Attributes:
        did: The repository.
        kind: Always `record`.
        collection: NSID of the collection; what tells messages in records.other apart.
        operation: create, update or delete, as in the value.
        rev: Revision of the commit.
    """

    did: str
    kind: str
    collection: str
    operation: str
    rev: str


def parse_record(value: bytes) -> Record:
    """Returns the value of a message of `records`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Record, parse_value("records", value))


def parse_record_headers(headers: Iterable[tuple[str, bytes]]) -> RecordHeaders:
    """Returns the headers of a message of `records`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(RecordHeaders, parse_headers("records", headers))


class Repair(TypedDict):
    """A value of `repairs`.

    What is asked for of a repository and not done. Key: DID. A null means that nothing is. Every
    field is always present.

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: stage.
        cause: Why the repository was asked for. desynchronized: something is missing. backfill: it
            was never followed. audit: what we hold is not what the account signed. redrive:
            somebody asked for it. sweep: a gap in an upstream's stream may hide something.
            reactivation: the account is active again. deletion: whether the account is really
            gone. Source: stage.
        reason: What broke, as in repos; null where nothing did. Source: stage.
        min_rev: Revision that the repository has to have reached: an older one is a stale copy.
            Null if any will do. Source: signed.
        host: Server to ask first; null for the one in the DID document. Source: stage.
        requested_us: When it became necessary, microseconds since 1970: that of the oldest request
            that is not answered. Source: clock.
        request_offset: Offset of the newest request in the topic resyncs, same partition. Unit:
            offset. Source: kafka.
        attempts: How often it was tried in vain. Unit: attempts. Source: stage.
        not_before_us: When to try again at the earliest, microseconds since 1970 by the worker's
            clock. Source: clock.
        last_error: Why the last try was in vain, for a person; null before the first. Source:
            stage.
    """

    did: str
    cause: Literal[
        "desynchronized",
        "backfill",
        "audit",
        "redrive",
        "sweep",
        "reactivation",
        "deletion",
    ]
    reason: str | None
    min_rev: str | None
    host: str | None
    requested_us: int
    request_offset: int
    attempts: int
    not_before_us: int
    last_error: str | None


class RepairHeaders(TypedDict):
    """The headers of `repairs`.

    Attributes:
        did: The repository, as in the key.
    """

    did: str


def parse_repair(value: bytes) -> Repair:
    """Returns the value of a message of `repairs`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Repair, parse_value("repairs", value))


def parse_repair_headers(headers: Iterable[tuple[str, bytes]]) -> RepairHeaders:
    """Returns the headers of a message of `repairs`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(RepairHeaders, parse_headers("repairs", headers))


class RepositoryWaiting(TypedDict):
    """Part of a value of `repos`.

    Attributes:
        rev: Revision of the signed commit; null where nobody could prove one. Source: signed.
        events_offset: Offset of the message in the partition of the same number in the topic
            events. Unit: offset. Source: kafka.
    """

    rev: str | None
    events_offset: int


class RepositoryApplying(TypedDict):
    """Part of a value of `repos`.

    Attributes:
        rev: Revision of the snapshot's commit. Source: signed.
        commit: CID of that commit's block. Source: signed.
        data: Root of that commit's Merkle search tree. Source: signed.
        commit_block: That commit's signed block (DAG-CBOR). Source: signed.
        records_count: Records in the snapshot. Unit: records. Source: stage.
        chunks_count: Chunks that hold them. Unit: chunks. Source: stage.
        chunks_sha256: SHA-256 over the chunks' values, one after the other. Source: stage.
        snapshot_offset: Offset of the manifest in the topic snapshots. Unit: offset. Source:
            kafka.
        first_chunk_offset: Offset in the topic chunks from which on the chunks lie. Unit: offset.
            Source: kafka.
        end_chunk_offset: Offset up to which they lie, itself not included. Unit: offset. Source:
            kafka.
        next_chunk_offset: Offset from which on chunks have still to be applied. Unit: offset.
            Source: kafka.
        next_chunk_index: Which chunk of the snapshot comes there, from 0. Unit: position in the
            snapshot. Source: stage.
        after_path: Path of the record up to which everything is applied; null if nothing is yet.
            Source: signed.
        partial: Whether records were changed, for this snapshot or one that was lost. Source:
            stage.
        merged: Whether all records are applied, so that only `waiting` is left. Source: stage.
        lost: Whether chunks were lost half-way: latest.* then stays as it is until another
            snapshot comes. Source: stage.
        host: Host that was asked for the repository, with its port where that is not the default.
            Source: stage.
        fetched_us: When the repository was fetched, microseconds since 1970. Source: clock.
        cause: Why the repository was asked for. desynchronized: something is missing. backfill: it
            was never followed. audit: what we hold is not what the account signed. redrive:
            somebody asked for it. sweep: a gap in an upstream's stream may hide something.
            reactivation: the account is active again. deletion: whether the account is really
            gone. Source: stage.
    """

    rev: str
    commit: str
    data: str
    commit_block: str
    records_count: int
    chunks_count: int
    chunks_sha256: str
    snapshot_offset: int
    first_chunk_offset: int
    end_chunk_offset: int
    next_chunk_offset: int
    next_chunk_index: int
    after_path: str | None
    partial: bool
    merged: bool
    lost: bool
    host: str
    fetched_us: int
    cause: Literal[
        "desynchronized",
        "backfill",
        "audit",
        "redrive",
        "sweep",
        "reactivation",
        "deletion",
    ]


class Repository(TypedDict):
    """A value of `repos`.

    What is known of one repository. Key: DID. Every field is always present; host to
    snapshot_offset lead to what changed it last: an event, an answer of a server that was asked
    for the repository, or the operator (host: operator, and no position).

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        active: Whether the repository may be shown: by the operator's override if there is one,
            else as in upstream_active. Source: stage.
        status: Why it may not be shown, by the override if there is one, else as in
            upstream_status; or null. Source: stage.
        account_host: Who said that: the upstream of the #account, or the host that was asked for
            the repository; null if nobody did. Source: stage.
        account_seq: Sequence number of that #account; null if it was not one. Unit: sequence
            number. Source: upstream.
        account_time: When it was said, by the upstream's clock or, of a host that was asked, by
            ours; or null. Source: upstream.
        account_received_us: When it was received, or the host was asked, by our clock,
            microseconds since 1970; or null. Between what hosts were asked for and what the
            upstream said this decides. Source: clock.
        upstream_active: Whether the repository may be shown by the account's last #account or what
            its server said last; true if there was neither. Source: upstream.
        upstream_status: Why it may not be shown by upstream's word (deleted, deactivated,
            takendown, suspended, …: an open set), or null. May be set although active. Source:
            upstream.
        override_status: What the operator says of the account, which counts instead (active,
            deactivated, deleted, suspended, takendown); null if there is no override. Source:
            operator.
        override_reason: Why the operator says so, for people; or null. Source: operator.
        override_us: When the operator said so, microseconds since 1970 by the clock of the
            command's machine; or null. Source: clock.
        sync: unknown: no commit seen, or none since the account was deleted. synchronized:
            latest.* has exactly the records of the newest commit seen. desynchronized: something
            is missing; latest.* stays at the commit below until it is repaired. applying: it is
            being repaired; latest.* is on its way from the commit below to the one in `applying`.
            Source: stage.
        reason: Why it is desynchronized, or was when it began to be repaired; else null.
            history.unknown: it was not followed from its first commit. chain.since,
            chain.prev_data: a commit does not follow the one we hold, by revision or by root.
            chain.restarted: a first commit for a repository that had one. sync.data: a #sync with
            another root. account.inactive: something signed came of an account that upstream says
            is not active, whose server is asked. identity.unavailable: nobody could tell whether
            the account made a commit. Else the reason for which an authentic commit was refused,
            as in q.reason. Source: stage.
        desynchronized_us: Since when it is so: received_us of what broke it; else null. Unit:
            microseconds since 1970-01-01T00:00:00Z. Source: clock.
        requested_us: When the repository was last asked for, to repair what is missing, by
            received_us of what made it necessary; null if nothing is missing, or nobody repairs.
            Unit: microseconds since 1970-01-01T00:00:00Z. Source: clock.
        rev: Revision of the commit whose records latest.* holds, or held when it began to be
            repaired; null if it holds none. Source: signed.
        commit: CID of that commit's block, or null. Source: signed.
        data: Root of that commit's Merkle search tree, or null: the records of this repository in
            latest.* have exactly this root, except while they are being repaired. Source: signed.
        commit_block: That commit's signed block (DAG-CBOR), or null. Source: signed.
        seen_rev: Revision of the newest commit that the account is known to have signed; the same
            as rev if synchronized; null if there is none. Source: signed.
        seen_commit: CID of that commit's block, or null. Source: signed.
        seen_data: Root of that commit's Merkle search tree, or null. Source: signed.
        waiting: What came while something was missing, and is judged once the repository is
            repaired; 256 at most, else the oldest is forgotten. Source: stage.
        applying: The snapshot that the records are being brought to, and how far that is; null if
            none is. Source: stage.
        deletion_us: Since when the account counts as deleted and its records wait for a
            confirmation, by received_us of its #account: they are still in latest.*, and nobody
            may show them. Null if none wait. Unit: microseconds since 1970-01-01T00:00:00Z.
            Source: clock.
        deleted_rev: Last revision that went with a deletion of the account: records up to it are
            gone or going. Null if there was no deletion. Source: signed.
        purging: Whether some of those records still wait for their tombstones. Source: stage.
        host: Host of the upstream of the event, or host that was asked, with its port where that
            is not the default; operator where an override, or its end, changed this. Source:
            stage.
        seq: The upstream's sequence number of the frame; null without one. Source: upstream.
        time: The upstream's `time` of an event, as it stood there, or null where there was none.
            Source: upstream.
        received_us: When the frame was received or the server asked, microseconds since 1970 by
            our clock. Source: clock.
        frame_partition: Partition of the topic frames that holds the frame; null without one.
            Unit: partition number. Source: kafka.
        frame_offset: Offset of that frame in its partition; null without one. Unit: offset.
            Source: kafka.
        snapshot_offset: Offset in the topic snapshots, same partition, of what the server said;
            null for an event. Unit: offset. Source: kafka.
    """

    did: str
    active: bool
    status: str | None
    account_host: str | None
    account_seq: int | None
    account_time: str | None
    account_received_us: int | None
    upstream_active: bool
    upstream_status: str | None
    override_status: Literal["active", "deactivated", "deleted", "suspended", "takendown"] | None
    override_reason: str | None
    override_us: int | None
    sync: Literal["unknown", "synchronized", "desynchronized", "applying"]
    reason: str | None
    desynchronized_us: int | None
    requested_us: int | None
    rev: str | None
    commit: str | None
    data: str | None
    commit_block: str | None
    seen_rev: str | None
    seen_commit: str | None
    seen_data: str | None
    waiting: list[RepositoryWaiting]
    applying: RepositoryApplying | None
    deletion_us: int | None
    deleted_rev: str | None
    purging: bool
    host: str
    seq: int | None
    time: str | None
    received_us: int
    frame_partition: int | None
    frame_offset: int | None
    snapshot_offset: int | None


class RepositoryHeaders(TypedDict):
    """The headers of `repos`.

    Attributes:
        did: The repository, as in the key.
        sync: unknown, synchronized, desynchronized or applying, as in the value.
        active: true or false, as in the value.
    """

    did: str
    sync: str
    active: str


def parse_repository(value: bytes) -> Repository:
    """Returns the value of a message of `repos`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Repository, parse_value("repos", value))


def parse_repository_headers(headers: Iterable[tuple[str, bytes]]) -> RepositoryHeaders:
    """Returns the headers of a message of `repos`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(RepositoryHeaders, parse_headers("repos", headers))


class Resync(TypedDict):
    """A value of `resyncs`.

    Asks for a repository as its server has it now. Key: DID. Every field is always present.

    Attributes:
        did: DID of the repository or account, at most 2,048 characters. Source: stage.
        cause: Why the repository was asked for. desynchronized: something is missing. backfill: it
            was never followed. audit: what we hold is not what the account signed. redrive:
            somebody asked for it. sweep: a gap in an upstream's stream may hide something.
            reactivation: the account is active again. deletion: whether the account is really
            gone. Source: stage.
        reason: What broke, as in repos; null where nothing did. Source: stage.
        min_rev: Revision that the repository has to have reached: an older one is a stale copy.
            Null if any will do. Source: signed.
        host: Server to ask first; null for the one in the DID document. Source: stage.
        requested_us: When it became necessary, microseconds since 1970: received_us of the event,
            or the time of day where somebody asked. Source: clock.
    """

    did: str
    cause: Literal[
        "desynchronized",
        "backfill",
        "audit",
        "redrive",
        "sweep",
        "reactivation",
        "deletion",
    ]
    reason: str | None
    min_rev: str | None
    host: str | None
    requested_us: int


class ResyncHeaders(TypedDict):
    """The headers of `resyncs`.

    Attributes:
        did: The repository, as in the key.
        cause: Why it is asked for, as in the value.
    """

    did: str
    cause: str


def parse_resync(value: bytes) -> Resync:
    """Returns the value of a message of `resyncs`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Resync, parse_value("resyncs", value))


def parse_resync_headers(headers: Iterable[tuple[str, bytes]]) -> ResyncHeaders:
    """Returns the headers of a message of `resyncs`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(ResyncHeaders, parse_headers("resyncs", headers))


class SnapshotAnswer(TypedDict):
    """A value of `snapshots`: snapshot answer.

    The answer to a request in resyncs: a manifest of the chunks that hold the repository, written
    after them, or that there is none. Key: DID. Every field of a kind is always present.

    Attributes:
        kind: Always `snapshot`: the repository, proven against its signature. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: signed.
        rev: Revision of its commit. Source: signed.
        commit: CID of the commit block. Source: signed.
        data: Root of its Merkle search tree: the records in the chunks have exactly this root.
            Source: signed.
        commit_block: The signed commit block (DAG-CBOR). Source: signed.
        records_count: Records in all chunks. Unit: records. Source: stage.
        chunks_count: Chunks; 0 for an empty repository. Unit: chunks. Source: stage.
        chunks_sha256: SHA-256 over the chunks' values, one after the other. Source: stage.
        first_chunk_offset: Offset in the topic chunks, same partition, from which on the chunks
            lie; earlier ones of the repository belong to a snapshot that was not finished. Unit:
            offset. Source: kafka.
        end_chunk_offset: Offset up to which they lie, itself not included. Unit: offset. Source:
            kafka.
        host: Host that was asked for the repository, with its port where that is not the default.
            Source: stage.
        fetched_us: When the answer came, microseconds since 1970 by the clock of who asked.
            Source: clock.
        cause: Why the repository was asked for. desynchronized: something is missing. backfill: it
            was never followed. audit: what we hold is not what the account signed. redrive:
            somebody asked for it. sweep: a gap in an upstream's stream may hide something.
            reactivation: the account is active again. deletion: whether the account is really
            gone. Source: stage.
    """

    kind: Literal["snapshot"]
    did: str
    rev: str
    commit: str
    data: str
    commit_block: str
    records_count: int
    chunks_count: int
    chunks_sha256: str
    first_chunk_offset: int
    end_chunk_offset: int
    host: str
    fetched_us: int
    cause: Literal[
        "desynchronized",
        "backfill",
        "audit",
        "redrive",
        "sweep",
        "reactivation",
        "deletion",
    ]


class AbsentAnswer(TypedDict):
    """A value of `snapshots`: absent answer.

    The answer to a request in resyncs: a manifest of the chunks that hold the repository, written
    after them, or that there is none. Key: DID. Every field of a kind is always present.

    Attributes:
        kind: Always `absent`: the server has no repository to give, and says why. Source: stage.
        did: DID of the repository or account, at most 2,048 characters. Source: stage.
        error: Name of the server's error. Source: server.
        status: What that makes of the account; null where the server merely does not know the
            repository. Source: server.
        host: Host that was asked for the repository, with its port where that is not the default.
            Source: stage.
        fetched_us: When the answer came, microseconds since 1970 by the clock of who asked.
            Source: clock.
        cause: Why the repository was asked for. desynchronized: something is missing. backfill: it
            was never followed. audit: what we hold is not what the account signed. redrive:
            somebody asked for it. sweep: a gap in an upstream's stream may hide something.
            reactivation: the account is active again. deletion: whether the account is really
            gone. Source: stage.
    """

    kind: Literal["absent"]
    did: str
    error: Literal["RepoNotFound", "RepoTakendown", "RepoSuspended", "RepoDeactivated"]
    status: Literal["deleted", "takendown", "suspended", "deactivated"] | None
    host: str
    fetched_us: int
    cause: Literal[
        "desynchronized",
        "backfill",
        "audit",
        "redrive",
        "sweep",
        "reactivation",
        "deletion",
    ]


ServerAnswer: TypeAlias = SnapshotAnswer | AbsentAnswer


class ServerAnswerHeaders(TypedDict):
    """The headers of `snapshots`.

    Attributes:
        did: The repository, as in the key.
        kind: snapshot or absent, as in the value.
    """

    did: str
    kind: str


def parse_server_answer(value: bytes) -> ServerAnswer:
    """Returns the value of a message of `snapshots`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(ServerAnswer, parse_value("snapshots", value))


def parse_server_answer_headers(headers: Iterable[tuple[str, bytes]]) -> ServerAnswerHeaders:
    """Returns the headers of a message of `snapshots`.

    Args:
        headers: of a message.

    Raises:
        MessageError: something else stands there.
    """
    return cast(ServerAnswerHeaders, parse_headers("snapshots", headers))


class Status(TypedDict):
    """A value of `status`.

    What one stage process says about itself. Key: `<stage>.<slot>`.

    Attributes:
        stage: Name of the stage: bridge, explode, … Source: stage.
        slot: Stable name of the process among those of its stage. Source: operator.
        machine: Name of the machine it runs on. Source: operator.
        pid: Its process id there. Source: stage.
        started_us: When it started, microseconds since 1970 by its own clock. Source: clock.
        updated_us: When this was written, microseconds since 1970 by its own clock. Source: clock.
        state: What it is doing. starting: not connected yet. restoring: reading its state back.
            running. waiting: for what `detail` says. stopped: it was asked to end. failed: it
            ended by itself, `detail` says why. Source: stage.
        detail: What it waits for or why it failed, for a person; null in other states. Source:
            stage.
        counters: Numbers by name: counts since `started_us`, or what is now. Which ones depends on
            the stage; new ones may appear. Unit: as the name says. Source: stage.
        groups: Counts by the name of a group and of its member, such as `refused` by reason; of a
            bridge also numbers by upstream, such as `seq`. Source: stage.
    """

    stage: str
    slot: str
    machine: str
    pid: int
    started_us: int
    updated_us: int
    state: Literal["starting", "restoring", "running", "waiting", "stopped", "failed"]
    detail: str | None
    counters: dict[str, int]
    groups: dict[str, dict[str, int]]


def parse_status(value: bytes) -> Status:
    """Returns the value of a message of `status`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Status, parse_value("status", value))


class TrendMention(TypedDict):
    """Part of a value of `trends`.

    Attributes:
        item: What users wrote, at most 640 bytes of UTF-8: anything may stand there. Source:
            signed.
        low: Records that mention it: at least so many. Unit: records. Source: stage.
        high: Records that mention it: at most so many. Unit: records. Source: stage.
    """

    item: str
    low: int
    high: int


class Trend(TypedDict):
    """A value of `trends`.

    What one hour was about, as far as one life of a process counted the records of one partition
    number. Key: `<hour>/<partition>/<collection>/<first_offset>`.

    Attributes:
        hour: Start of the hour in which the bridge received the frames, by the bridge's clock,
            UTC. Source: clock.
        partition: Partition of the record topics; also of this message. Unit: partition number.
            Source: kafka.
        collection: Of the first record counted: NSID of the collection where it has a record topic
            of its own, else `other`. With first_offset it names this message among those of the
            hour and partition. Source: signed.
        first_offset: Offset of that record in its topic. Unit: offset. Source: kafka.
        records: Records counted, of any collection, created, updated or deleted. Unit: records.
            Source: stage.
        accounts: Distinct accounts whose records these are, estimated from the sketch (standard
            error 1.6 %). An account is in one partition; messages of the same partition may share
            accounts. Source: stage.
        accounts_sketch: HyperLogLog sketch of the accounts' DIDs (UTF-8), 2^12 registers: the
            compact serialisation of Apache DataSketches, base64 (RFC 4648, section 4). Union of
            the sketches counts accounts over messages. Source: stage.
        links: Web addresses in the text or the card of created posts, as they stand there. Source:
            signed.
        links_unlisted_high: An address that is not listed was mentioned so often at most. Unit:
            records. Source: stage.
        hashtags: Hashtags of created posts, in lower case, without `#`. Source: signed.
        hashtags_unlisted_high: A hashtag that is not listed was mentioned so often at most. Unit:
            records. Source: stage.
        posts: At-uris of the posts that created likes and reposts are about. Source: signed.
        posts_unlisted_high: A post that is not listed was mentioned so often at most. Unit:
            records. Source: stage.
    """

    hour: str
    partition: int
    collection: str
    first_offset: int
    records: int
    accounts: int
    accounts_sketch: str
    links: list[TrendMention]
    links_unlisted_high: int
    hashtags: list[TrendMention]
    hashtags_unlisted_high: int
    posts: list[TrendMention]
    posts_unlisted_high: int


def parse_trend(value: bytes) -> Trend:
    """Returns the value of a message of `trends`.

    Args:
        value: JSON; not null.

    Raises:
        MessageError: something else stands there.
    """
    return cast(Trend, parse_value("trends", value))
