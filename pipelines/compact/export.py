"""A repository as a CAR, made again from what the topics hold: `standpipe repo DID --export car`.

    commit block    as the account signed it, from `repos`
    nodes           in no topic: the paths and CIDs determine them
    records         made again from the JSON in `latest.*`, or from their CBOR where there is none

Every block is checked against its CID, so the result is the signed repository or there is none.
The blocks come in streamable order: commit, root, then each node's entries in order, each record
before the subtree behind it.

Bodies and nodes lie on disk, in a store that lives for one export; memory is that of the store
(`pipelines.rocks`), and of the nodes on the way down.

Source: draft-holmgren-at-repository "Block Ordering"; atproto.com/specs/repository "CAR File
Serialization". spec: C-10, C-11.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipelines.atproto import mst
from pipelines.atproto.car import write_car_chunks
from pipelines.atproto.cid import cid_of, encode_cid, parse_cid
from pipelines.atproto.errors import DagCborError
from pipelines.atproto.syntax import Did
from pipelines.compact.outputs import record_address, record_headers
from pipelines.compact.provenance import block_of, parse_latest
from pipelines.compact.state import Head
from pipelines.kafka.messages import InputMessage
from pipelines.rocks import open_rocks

_FORMAT = 1
_BODY, _NODE = b"b", b"n"


class ExportError(Exception):
    """A repository cannot be made again from the topics; the message says why and what helps."""


class ExportStore:
    """Bodies of one repository's records and the nodes of its tree, on disk."""

    def __init__(self, folder: Path) -> None:
        """Makes an empty store.

        Args:
            folder: where it is to be; removed by the caller.
        """
        self._db, _ = open_rocks(folder, _FORMAT, dict)

    def close(self) -> None:
        """Closes the store."""
        self._db.close()

    def take(self, message: InputMessage) -> None:
        """Keeps the body in a message of `latest.*`, by its CID: two topics may have a record."""
        assert message.key is not None
        cid = record_headers(message.headers).cid
        if cid is not None and message.value is not None:
            _, path = record_address(message.key)
            self._db.put(_body_key(path.encode(), parse_cid(cid)), message.value)

    def pieces(
        self,
        did: Did,
        head: Head,
        records: Iterable[tuple[str, bytes]],
        on_record: Callable[[], None],
    ) -> Iterator[bytes]:
        """Makes the CAR.

        Args:
            did: the repository.
            head: its commit, whose root the records have: they were audited.
            records: path and raw CID, in the order of the paths' bytes.
            on_record: called with each record that is done.

        Yields:
            Bytes that make up the file.

        Raises:
            ExportError: a record's body is not in the topics.
        """
        root = mst.root_of(records, lambda cid, block: self._db.put(_NODE + cid, block))
        assert encode_cid(root) == head.signed.data
        blocks = self._blocks(did, head, root, on_record)
        return write_car_chunks(parse_cid(head.signed.commit), blocks)

    def _blocks(
        self, did: Did, head: Head, root: bytes, on_record: Callable[[], None]
    ) -> Iterator[tuple[bytes, bytes]]:
        yield parse_cid(head.signed.commit), base64.b64decode(head.block)
        walk = mst.traverse(root)
        wanted = next(walk, None)
        while wanted is not None:
            cid, key = wanted
            if key is None:
                block = self._db.get(_NODE + cid)
                assert block is not None
            else:
                block = self._body(did, key, cid)
                on_record()
            yield cid, block
            try:
                wanted = walk.send(block)
            except StopIteration:
                wanted = None

    def _body(self, did: Did, key: bytes, cid: bytes) -> bytes:
        uri = f"at://{did}/{key.decode()}"
        value = self._db.get(_body_key(key, cid))
        if value is None:
            raise ExportError(
                f"{uri} has no body in latest.*: it was written while they were read; try again"
            )
        body = parse_latest(value).body
        try:
            block = block_of(body)
        except DagCborError as error:
            raise _changed(uri, str(error)) from None
        if block is None:
            raise ExportError(
                f"{uri} stands in latest.* without its body ({body.record_error}): nothing was "
                f"exported. `standpipe audit {uri}` names the frame that has it, as long as "
                "frames are kept; the account's PDS serves the whole repository"
            )
        if cid_of(block) != cid:
            raise _changed(uri, f"it is that of {encode_cid(cid_of(block))}")
        return block


def _body_key(path: bytes, cid: bytes) -> bytes:
    # No path holds a NUL, so no path's key is another's.
    return _BODY + path + b"\0" + cid


def _changed(uri: str, detail: str) -> ExportError:
    return ExportError(
        f"{uri} has another body in latest.* than its CID says ({detail}): somebody else wrote "
        "there. `standpipe audit --against-pds --repair` with its DID has the repository fetched "
        "again"
    )
