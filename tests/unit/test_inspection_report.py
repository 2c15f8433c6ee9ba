"""A list of checks: which part of a call an error belongs to, and what comes before and behind."""

import pytest

from pipelines.atproto.cid import cid_of, encode_cid
from pipelines.atproto.errors import CarError, MstError, ProtocolError, Reason
from pipelines.cli.inspect_view import show_report
from pipelines.inspection.report import (
    Check,
    Checklist,
    Failed,
    NotReached,
    Passed,
    Report,
    Step,
    record_view,
    shown,
)

_STEPS = (
    Step.of("first", Reason.CAR_HEADER, Reason.CAR_TRUNCATED),
    Step.of("second", Reason.CAR_HEADER, "mst"),
    Step.of("third", "cid"),
)


def _results(error: ProtocolError) -> tuple[Check, ...]:
    def call() -> None:
        raise error

    checks = Checklist()
    assert checks.run(_STEPS, call) is None
    return checks.results


def test_a_call_that_returns_passes_every_step() -> None:
    checks = Checklist()
    assert checks.run(_STEPS, lambda: 7) == 7
    assert checks.results == (Passed("first"), Passed("second"), Passed("third"))


def test_an_error_fails_the_first_step_that_has_its_reason() -> None:
    assert _results(CarError(Reason.CAR_HEADER, "bad")) == (
        Failed("first", Reason.CAR_HEADER, "bad", None),
        NotReached("second", "after 'first'"),
        NotReached("third", "after 'first'"),
    )


def test_an_area_stands_for_all_its_reasons() -> None:
    error = MstError(Reason.MST_LAYER, "bad", path="a/b")
    assert _results(error) == (
        Passed("first"),
        Failed("second", Reason.MST_LAYER, "bad", "a/b"),
        NotReached("third", "after 'second'"),
    )


def test_an_error_that_is_no_matter_of_the_data_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        Checklist().run(_STEPS, lambda: 1 // 0)


@pytest.mark.parametrize(
    ("checks", "is_good"),
    [
        ((), True),
        ((Passed("a"), NotReached("b", "no key")), True),
        ((Passed("a"), Failed("b", Reason.CAR_HEADER, "bad", None)), False),
    ],
)
def test_a_report_is_good_unless_a_check_failed(checks: tuple[Check, ...], is_good: bool) -> None:
    assert Report("something", (), checks).is_good is is_good


def test_bytes_are_shown_as_cid_or_by_their_size() -> None:
    cid = cid_of(b"")
    assert [shown(value) for value in (cid, b"abc", "text", 5, True, None, (1, 2))] == [
        encode_cid(cid), "3 bytes", "text", 5, True, None, "(1, 2)"
    ]  # fmt: skip


def test_a_record_without_json_says_why() -> None:
    view = record_view("a/b", cid_of(b"\x01"), b"\x01")
    assert view.json is None
    assert view.why_no_json is not None
    assert view.why_no_json.startswith("cbor.data_model")
    assert record_view(None, cid_of(b"\xa0"), b"\xa0").json == b"{}"


def test_what_a_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("a frame \x1b[2J", (), (Failed("a", Reason.CAR_HEADER, "\x9b", None),))
    assert show_report(report, as_json=False) == 1
    printed = capsys.readouterr().out
    assert "a frame \\x1b[2J" in printed
    assert printed.replace("\n", "").isprintable()
