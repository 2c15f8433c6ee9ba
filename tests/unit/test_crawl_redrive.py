"""What quarantined messages are worth today, over a recorded network."""

from pathlib import Path

import pytest
from support.recordings import load_recording

from pipelines.atproto.keys import VerifyingKey
from pipelines.atproto.syntax import Did, make_tid
from pipelines.crawl import redrive as redrive_module
from pipelines.crawl.candidates import Known
from pipelines.crawl.redrive import Finding, Judged, Redrive, judge
from pipelines.errors import ConfigError, IdentityUnavailableError
from pipelines.repair.requests import Cause, Request
from pipelines.verdict import Proven, Refused, Skipped, Unsigned, judge_frame

RECEIVED_US = 1_795_360_000_000_000  # after the recording
DID, OTHER_DID = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), Did("did:web:example.com")
OLD, NEW = make_tid(RECEIVED_US - 1, 0), make_tid(RECEIVED_US, 0)


def test_each_recorded_frame_is_worth_what_its_verdict_says(capture_folder: Path) -> None:
    recording = load_recording(capture_folder)
    findings = set()
    for frame in recording.frames:
        verdict = judge_frame(frame, recording.keys, RECEIVED_US)
        judged = judge(frame, recording.keys, RECEIVED_US)
        match verdict:
            case Proven(verified):
                commit = verified.commit
                assert judged == Judged(Finding.ACCEPTED, commit.did, commit.rev)
            case Unsigned(message):
                assert judged == Judged(Finding.ACCEPTED, message.did)
            case Refused(authentic=opened) if opened is not None:
                assert judged == Judged(Finding.SUSPECT, opened.commit.did, opened.commit.rev)
            case Refused():
                assert judged == Judged(Finding.REFUSED)
            case Skipped():
                assert judged == Judged(Finding.ACCEPTED)
        findings.add(judged.finding)
    assert {Finding.ACCEPTED, Finding.SUSPECT} <= findings
    assert judge(b"no frame", recording.keys, RECEIVED_US) == Judged(Finding.REFUSED)


class _Nobody:
    """A directory that is away."""

    def current_key(self, did: Did) -> VerifyingKey:
        raise IdentityUnavailableError(did)

    def refreshed_key(self, did: Did, since_us: int | None) -> VerifyingKey | None:  # noqa: ARG002 - the port's
        raise IdentityUnavailableError(did)

    def key_at(self, did: Did, time_us: int) -> VerifyingKey | None:  # noqa: ARG002 - the port's
        raise IdentityUnavailableError(did)


def test_without_a_key_nothing_is_known(capture_folder: Path) -> None:
    recording = load_recording(capture_folder)
    frame = next(
        frame
        for frame in recording.frames
        if isinstance(judge_frame(frame, recording.keys, RECEIVED_US), Proven)
    )
    assert judge(frame, _Nobody(), RECEIVED_US) == Judged(Finding.NOT_KNOWN)


def test_an_account_is_asked_for_once_up_to_its_newest_revision() -> None:
    redrive = Redrive()
    redrive.add("signature.invalid", Judged(Finding.ACCEPTED, DID))
    redrive.add("mst.key_order", Judged(Finding.SUSPECT, DID, NEW))
    redrive.add("signature.invalid", Judged(Finding.ACCEPTED, DID, OLD))
    redrive.add("signature.invalid", Judged(Finding.REFUSED))
    redrive.add("signature.invalid", Judged(Finding.ACCEPTED, OTHER_DID))
    assert redrive.dids == (DID, OTHER_DID)
    assert redrive.counts == {
        "signature.invalid": {Finding.ACCEPTED: 3, Finding.REFUSED: 1},
        "mst.key_order": {Finding.SUSPECT: 1},
    }
    wanted = Request(DID, Cause.REDRIVE, "signature.invalid", NEW, None, 17)
    assert redrive.request(DID, None, 17) == wanted
    here = Known(is_synchronized=True, rev=NEW, active=True, status=None, host="relay.example")
    assert redrive.request(DID, here, 17) is None
    assert redrive.request(DID, here._replace(rev=OLD), 17) == wanted
    assert redrive.request(DID, here._replace(is_synchronized=False), 17) == wanted
    # Of an account's status no revision tells whether it was seen.
    assert redrive.request(OTHER_DID, here, 17) is not None


def test_more_accounts_than_there_is_room_for_are_a_wrong_selection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redrive_module, "MAX_ACCOUNTS_COUNT", 1)
    redrive = Redrive()
    redrive.add("signature.invalid", Judged(Finding.ACCEPTED, DID))
    redrive.add("signature.invalid", Judged(Finding.ACCEPTED, DID, NEW))
    with pytest.raises(ConfigError, match="--since"):
        redrive.add("signature.invalid", Judged(Finding.ACCEPTED, OTHER_DID))
