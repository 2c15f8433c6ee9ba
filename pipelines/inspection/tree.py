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
from pipelines.atproto.errors import MstError, ProtocolError, Reason
from pipelines.atproto.mst.node import (
    ABOVE_ALL_KEYS,
    BELOW_ALL_KEYS,
    EMPTY_NODE,
    Wire,
    children,
    parse_node,
)

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
        self._seen: set[bytes] = set()

    def see_root(self, cid: bytes) -> None:
        place = BELOW_ALL_KEYS, ABOVE_ALL_KEYS
        self._see_below(self._open(cid, None, *place, "root", ""), *place, "")

    def _see_below(
        self, node: tuple[list[bytes], Wire, int] | None, low: bytes, high: bytes, indent: str
    ) -> None:
        """Looks at a good node's entries and subtrees, which is as deep as the tree has layers."""
        if node is None:
            return
        keys, wire, layer = node
        links = children(wire)
        for index, child in enumerate(links):
            key = keys[index] if index < len(keys) else None
            if isinstance(child, bytes):
                branch, inner_indent = _branch(indent, is_last=key is None)
                end = high if key is None else key
                inner = self._open(child, layer - 1, low, end, "node", branch)
                self._see_below(inner, low, end, inner_indent)
            if key is not None:
                has_more = index + 1 < len(keys) or links[index + 1] is not None
                branch, _ = _branch(indent, is_last=not has_more)
                self._see_record(key, wire["e"][index]["v"], branch)
                low = key

    def _open(
        self, cid: bytes, layer: int | None, low: bytes, high: bytes, what: str, branch: str
    ) -> tuple[list[bytes], Wire, int] | None:
        """Returns a node with its keys and layer, if it is there and good."""
        name = short_cid(cid)
        block = self._blocks.get(cid)
        self.survey.order.append(cid)
        if block is None:
            self.survey.stub_count += 1
            self._draw(f"{branch}stub {name}")
            return None
        if cid in self._seen:
            # Not read again: a large node that hangs everywhere would be as often. spec: B-45
            error = MstError(Reason.MST_RECURRENCE, "a node occurs twice in one tree")
            self._see_problem(error, branch, what, name)
            return None
        self._seen.add(cid)
        self.survey.node_count += 1
        if layer is None and block == EMPTY_NODE:
            self._draw(f"{branch}{what} {name}  layer 0, 0 entries")
            return None
        try:
            keys, wire, layer = parse_node(block, layer, low, high)
        except ProtocolError as error:
            self._see_problem(error, branch, what, name)
            return None
        entries = "1 entry" if len(keys) == 1 else f"{len(keys)} entries"
        self._draw(f"{branch}{what} {name}  layer {layer}, {entries}")
        return keys, wire, layer

    def _see_problem(self, error: ProtocolError, branch: str, what: str, name: str) -> None:
        self.survey.problems.append(error)
        self._draw(f"{branch}BAD {what} {name}  {error}")

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
