"""Whole repositories as a server would export them, with anything in them replaceable."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from support import oracle, wire
from support.oracle import Tree, cid_of, dag_cbor
from support.repo import SIGNER, Signer, commit_fields, sign_commit


@dataclass(frozen=True)
class Export:
    """A signed repository and all its blocks.

    Attributes:
        commit: block of the signed commit object.
        root: of the tree.
        nodes: CID → block, of the tree.
        records: path → CID.
        bodies: CID → block, of the records.
    """

    commit: bytes
    root: bytes
    nodes: Mapping[bytes, bytes]
    records: Mapping[str, bytes]
    bodies: Mapping[bytes, bytes] = field(repr=False)

    def ordered(self) -> list[bytes]:
        """Returns the blocks as a streamable CAR has them, a record once for each of its paths."""
        return [self.commit, *self._below(self.root)]

    def _below(self, cid: bytes) -> Iterator[bytes]:
        node = oracle.decode_node(self.nodes[cid])
        yield self.nodes[cid]
        for record_cid, child in zip([None, *node.values], node.children, strict=True):
            if record_cid is not None:
                yield self.bodies[record_cid]
            if child is not None:
                yield from self._below(child)

    def car(self, blocks: Iterable[bytes] | None = None) -> bytes:
        """Returns the CAR; its blocks are those of `ordered` by default."""
        return wire.car(cid_of(self.commit), self.ordered() if blocks is None else blocks)

    def contents(self) -> list[tuple[str, bytes, bytes]]:
        """Returns path, CID and body of every record, in the order of the paths."""
        return [(path, cid, self.bodies[cid]) for path, cid in sorted(self.records.items())]


def export(values: Mapping[str, Any], signer: Signer = SIGNER, **fields: Any) -> Export:
    """Makes a repository.

    Args:
        values: path → record.
        signer: who signs it.
        **fields: other fields of the commit object.
    """
    bodies = {path: dag_cbor(value) for path, value in values.items()}
    records = {path: cid_of(body) for path, body in bodies.items()}
    tree = oracle.build(records)
    return export_tree(
        tree, records, {cid_of(body): body for body in bodies.values()}, signer, **fields
    )


def export_tree(
    tree: Tree,
    records: Mapping[str, bytes],
    bodies: Mapping[bytes, bytes],
    signer: Signer = SIGNER,
    **fields: Any,
) -> Export:
    """Signs a tree, whatever it is."""
    commit = sign_commit(commit_fields(tree.root) | fields, signer)
    return Export(commit, tree.root, tree.nodes, records, bodies)
