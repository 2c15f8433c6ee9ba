"""Content identifiers in raw and text form."""

import pytest
from multiformats import CID
from support.repo import refusal

from pipelines.atproto import cid
from pipelines.atproto.errors import CidError, Reason

_EMPTY_NODE = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
_BLOB = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"
_DAG_PB = "bafybeihjqixpy7ciaj5fikp5xwmi2avsxdsov3upmlbsxuicdxhzelqf3y"
_V0 = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"


def test_the_cid_of_a_block_is_prefix_and_hash() -> None:
    """Spec: A-40, B-28."""
    raw = cid.cid_of(bytes.fromhex("a2616580616cf6"))
    digest = "9dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdbe2759289f647677b"
    assert raw.hex() == "01711220" + digest
    assert cid.encode_cid(raw) == _EMPTY_NODE


@pytest.mark.parametrize("text", [_EMPTY_NODE, _BLOB], ids=["object", "blob"])
def test_text_and_raw_form_lead_to_each_other(text: str) -> None:
    """Spec: A-42."""
    raw = cid.parse_cid(text)
    assert len(raw) == cid.CID_BYTES
    assert raw == bytes(CID.decode(text))
    assert cid.encode_cid(raw) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(_EMPTY_NODE[:-1], id="a character short"),
        pytest.param(_EMPTY_NODE + "a", id="a character long"),
        pytest.param(_EMPTY_NODE.upper(), id="upper case"),
        pytest.param("B" + _EMPTY_NODE[1:].upper(), id="upper case multibase"),
        pytest.param(_EMPTY_NODE[:20] + "A" + _EMPTY_NODE[21:], id="mixed case"),
        pytest.param(_EMPTY_NODE[:-1] + "n", id="trailing bits set"),
        pytest.param(_EMPTY_NODE[:-1] + "=", id="padding"),
        pytest.param(_EMPTY_NODE[:-1] + "1", id="not base32"),
        pytest.param(_EMPTY_NODE[:-1] + "é", id="not ASCII"),
        pytest.param(_EMPTY_NODE[:-1] + "\n", id="newline"),
        pytest.param(" " + _EMPTY_NODE[:-1], id="leading space"),
        pytest.param(_V0, id="version 0"),
        pytest.param(_DAG_PB, id="another codec"),
        pytest.param(str(CID.decode(_EMPTY_NODE).set(base="base58btc")), id="base58"),
        pytest.param("z" * 59, id="base58 of the right length"),
        pytest.param("b" * 59, id="another version"),
    ],
)
def test_only_the_one_text_form_is_taken(text: str) -> None:
    """Spec: A-40, A-42, A-46."""
    error = refusal(lambda: cid.parse_cid(text))
    assert isinstance(error, CidError)
    assert error.reason is Reason.CID_INVALID


@pytest.mark.parametrize("value", [None, 59, b"b" * 59, ["b"] * 59])
def test_what_is_no_text_is_no_cid(value: object) -> None:
    assert refusal(lambda: cid.parse_cid(value)).reason is Reason.CID_INVALID


def test_a_refused_text_is_quoted_in_part_only() -> None:
    assert len(refusal(lambda: cid.parse_cid("x" * 1_000_000)).detail) < 200


def test_only_36_bytes_with_the_prefix_of_objects_are_the_cid_of_an_object() -> None:
    """Spec: A-43: the check for links of commits and trees."""
    raw = cid.parse_cid(_EMPTY_NODE)
    assert cid.is_dag_cbor_cid(raw)
    for other in (
        raw[:-1],
        raw + b"\x00",
        cid.parse_cid(_BLOB),
        b"\x00" + raw[1:],
        b"\x02" + raw[1:],
        raw[:3] + b"\x1f" + raw[4:],
        raw[:3] + b"\x21" + raw[4:],
        _EMPTY_NODE,
        None,
        bytearray(raw),
    ):
        assert not cid.is_dag_cbor_cid(other)
