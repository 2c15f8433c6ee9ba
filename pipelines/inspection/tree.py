"""A Merkle search tree as a picture in text, whether it is whole, partial or broken.

    root bafyreid…wk7u7i  layer 2, 1 entry
    ├─ node bafyreic…5hwfpa  layer 1, 2 entries
    │  ├─ com.example.note/00001  bafyreib…3nmjqe
    │  ├─ stub bafyreie…2ylmza
    │  └─ com.example.note/00005  bafyreif…y5n3wq  created
    ├─ com.example.note/00007  bafyreig…t4k2du
    └─ stub bafyreih…77oyya

A stub is a subtree whose block is not there. A node that breaks a rule is named with the reason,
and nothing below it is looked at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipelines.atproto.cid import encode_cid
from pipelines.atproto.errors import ProtocolError
from pipelines.atproto.mst import EMPTY_ROOT_CID
from pipelines.atproto.mst.node import Node, check_place, check_root, parse_node

_SHOWN_START, _SHOWN_END = 8, 6


@dataclass(slots=True)
class Survey:
    """What was found in a tree.

    Attributes:
        lines: the picture, at most as many lines as were asked for.
        cut_count: further lines that it would have.
        node_count: nodes that are there, good or bad.
        stub_count: nodes that are not.
        records: path (undecodable bytes replaced) and CID of every record that a good node names.
        order: CIDs of nodes and records in pre-order, as a streamable CAR has them.
        problems: why nodes are bad, in pre-order.
    """

    lines: list[str] = field(default_factory=list)
    cut_count: int = 0
    node_count: int = 0
    stub_count: int = 0
    records: list[tuple[str, bytes]] = field(default_factory=list)
    order: list[bytes] = field(default_factory=list)
    problems: list[ProtocolError] = field(default_factory=list)

    def picture(self) -> Iterator[str]:
        """Yields the lines of the picture, and how many were cut off."""
        yield from self.lines
        if self.cut_count:
            yield f"… {self.cut_count} lines more"


def survey_tree(
    blocks: Mapping[bytes, bytes], root: bytes, *, marks: Mapping[str, str], max_lines: int
) -> Survey:
    """Looks at every node of a tree that is there.

    Args:
        blocks: raw CID → block, hashes already checked.
        root: CID of the root node.
        marks: path → a word that is put behind its line.
        max_lines: of the picture.
    """
    surveyor = _Surveyor(blocks, marks, max_lines)
    surveyor.see_root(root)
    return surveyor.survey


class _Surveyor:
    def __init__(
        self, blocks: Mapping[bytes, bytes], marks: Mapping[str, str], max_lines: int
    ) -> None:
        self.survey = Survey()
        self._blocks = blocks
        self._marks = marks
        self._max_lines = max_lines

    def see_root(self, cid: bytes) -> None:
        node, layer = self._open(cid, None, None, None, "root", "")
        if node is not None:
            self._see_below(node, layer, None, None, "")

    def _see_below(
        self, node: Node, layer: int, low: bytes | None, high: bytes | None, indent: str
    ) -> None:
        """Looks at a good node's entries and subtrees, which is as deep as the tree has layers."""
        keys = node.keys
        for index in range(len(keys) + 1):
            key = keys[index] if index < len(keys) else None
            child = node.child(index)
            is_last = key is None
            if isinstance(child, bytes):
                branch, inner_indent = _branch(indent, is_last=is_last)
                end = high if key is None else key
                inner, _ = self._open(child, layer - 1, low, end, "node", branch)
                if inner is not None:
                    self._see_below(inner, layer - 1, low, end, inner_indent)
            if key is not None:
                has_more = index + 1 < len(keys) or node.child(index + 1) is not None
                branch, _ = _branch(indent, is_last=not has_more)
                self._see_record(key, node.entries[index]["v"], branch)
                low = key

    def _open(
        self,
        cid: bytes,
        layer: int | None,
        low: bytes | None,
        high: bytes | None,
        what: str,
        branch: str,
    ) -> tuple[Node | None, int]:
        """Returns a node, if it is there and good, and its layer."""
        name = short_cid(cid)
        block = self._blocks.get(cid)
        self.survey.order.append(cid)
        if block is None:
            self.survey.stub_count += 1
            self._draw(f"{branch}stub {name}")
            return None, 0
        self.survey.node_count += 1
        try:
            node = parse_node(block, cid)
            if layer is not None:
                check_place(node, layer, low, high)
            elif cid != EMPTY_ROOT_CID:
                layer = check_root(node)
        except ProtocolError as error:
            self.survey.problems.append(error)
            self._draw(f"{branch}BAD {what} {name}  {error}")
            return None, 0
        count = len(node.keys)
        entries = "1 entry" if count == 1 else f"{count} entries"
        self._draw(f"{branch}{what} {name}  layer {layer or 0}, {entries}")
        return node, layer or 0

    def _see_record(self, key: bytes, cid: bytes, branch: str) -> None:
        path = key.decode("utf-8", "replace")
        self.survey.records.append((path, cid))
        self.survey.order.append(cid)
        mark = self._marks.get(path)
        self._draw(f"{branch}{path}  {short_cid(cid)}" + (f"  {mark}" if mark else ""))

    def _draw(self, line: str) -> None:
        if len(self.survey.lines) < self._max_lines:
            self.survey.lines.append(line)
        else:
            self.survey.cut_count += 1


def _branch(indent: str, *, is_last: bool) -> tuple[str, str]:
    """Returns the beginning of an item's line, and the indentation of what is below it."""
    return (f"{indent}└─ ", f"{indent}   ") if is_last else (f"{indent}├─ ", f"{indent}│  ")


def short_cid(cid: bytes) -> str:
    """Returns enough of a CID's text to tell it from others nearby."""
    text = encode_cid(cid)
    return f"{text[:_SHOWN_START]}…{text[-_SHOWN_END:]}"
