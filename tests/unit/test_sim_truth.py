"""What is told of a generated network, as values, as JSON and as lines of a file."""

from pathlib import Path

import orjson
import pytest
from support.network import LIVELY, TROUBLED, make_events
from support.oracle import cid_of

from pipelines.atproto.cid import encode_cid
from pipelines.errors import ConfigError
from pipelines.sim.events import Event
from pipelines.sim.mix import Settings
from pipelines.sim.truth import Truth, TruthLog, event_lines

EVENTS = make_events(Settings(accounts_count=12, seed=2, mix=LIVELY), 1_500)
TROUBLED_EVENTS = make_events(
    Settings(accounts_count=12, seed=2, hosts_count=3, mix=LIVELY, trouble=TROUBLED), 1_500
)


@pytest.mark.parametrize("events", [EVENTS, TROUBLED_EVENTS], ids=["calm", "troubled"])
def test_lines_are_enough_to_know_the_end(events: list[Event]) -> None:
    """A reader of the file alone arrives where `Truth` is."""
    truth = Truth([])
    truth.apply(events)
    last: dict[str, dict[str, object]] = {}
    records: dict[str, dict[str, str]] = {}
    for event, raw in ((each, raw) for each in events for raw in event_lines(each)):
        assert raw.endswith(b"\n")
        line = orjson.loads(raw)
        if line["seq"] is not None:
            assert (line["seq"], line["kind"]) == (event.seq, event.kind)
            assert line["signing_key"] == event.state.identity.signing_key.did_key()
        paths = records.setdefault(line["did"], {})
        for op in line["ops"]:
            assert paths.get(op["path"]) == op["prev"]
            if op["action"] == "delete":
                assert op["cid"] is None
                del paths[op["path"]]
            else:
                assert op["action"] == ("create" if op["prev"] is None else "update")
                paths[op["path"]] = op["cid"]
        if line["status"] == "deleted":
            paths.clear()
        names = ["handle", "host", "signing_key", "is_active", "status"]
        names += ["rev", "commit_cid", "data_cid"]
        last[line["did"]] = {name: line[name] for name in names}
    for did, fields in last.items():
        expected = fields | {"records_count": len(records[did])}
        assert truth.summary()["accounts"][did] == expected
        in_order = dict(sorted(records[did].items()))
        assert truth.details(did) == expected | {"records": in_order}
        cids = truth.account(did).cids()
        assert {path: encode_cid(cid) for path, cid in cids.items()} == records[did]
    assert truth.summary()["accounts"].keys() == last.keys()


def test_what_is_given_out_stays_as_it_was() -> None:
    truth = Truth([])
    truth.apply(EVENTS[:500])
    early = truth.accounts()
    sizes = {did: len(account.records) for did, account in early.items()}
    truth.apply(EVENTS[500:])
    assert {did: len(account.records) for did, account in early.items()} == sizes
    assert truth.accounts() != early


def test_accounts_may_exist_before_the_first_event() -> None:
    state = EVENTS[3].state
    truth = Truth([(state, {"com.example.note/1": b"a record"})])
    assert truth.states() == [state]
    assert truth.account(state.did).cids() == {"com.example.note/1": cid_of(b"a record")}
    assert truth.summary()["seq"] == 0


def test_of_others_nothing_is_known() -> None:
    truth = Truth([])
    assert truth.state("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa") is None
    assert truth.details("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa") is None
    with pytest.raises(KeyError):
        truth.account("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/truth.jsonl: No such file.*another file"):
        TruthLog(tmp_path / "nowhere" / "truth.jsonl")
