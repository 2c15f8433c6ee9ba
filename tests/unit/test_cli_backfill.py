"""`standpipe backfill`: which repositories are meant, and what it says in the end."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipelines.cli import _run
from pipelines.cli.backfill import _json, _named, _text
from pipelines.crawl.backfill import Tally
from pipelines.crawl.candidates import Judgment
from pipelines.crawl.rate import Rate
from pipelines.errors import ConfigError


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--full-network"],
        ["--collection", "app.bsky.feed.post"],
        ["--hosts", "pds.example", "--full-network", "--relay", "relay.example"],
        ["--hosts", "pds.example", "--relay", "relay.example"],
        ["--hosts", "pds.example", "--collection", "app.bsky.feed.post"],
    ],
    ids=" ".join,
)
def test_whoever_does_not_say_which_repositories_is_shown_the_choices(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["backfill", *arguments]) == 2
    assert "standpipe backfill --full-network --relay URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--collection", "posts", "--relay", "relay.example"], "app.bsky.feed.post"),
        (["--hosts", "ftp://pds.example"], "wss://relay.example"),
        (["--hosts", "pds.example", "--pds-url", "nowhere"], "http(s)://host"),
    ],
)
def test_what_is_no_host_or_collection_is_named_with_the_remedy(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["backfill", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_hosts_are_named_or_stand_in_files(tmp_path: Path) -> None:
    path = tmp_path / "hosts.txt"
    path.write_text("# ours\npds.example\n\n  other.example:3000  \npds.example\n")
    assert _named(["first.example", str(path)]) == [
        "first.example",
        "pds.example",
        "other.example:3000",
    ]
    path.write_text("# nobody\n")
    with pytest.raises(ConfigError, match="there are 0 hosts"):
        _named([str(path)])
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read the hosts"):
        _named([str(path)])


def test_the_summary_has_every_count() -> None:
    tally = Tally(
        counts=Counter({Judgment.REQUESTED: 1_200, Judgment.ON_ITS_WAY: 3}),
        invalid_count=2,
        lists_count=4,
        before_count=1,
        done_count=2,
        problems={"repos https://pds.example": "it is away"},
    )
    assert not tally.is_complete
    assert _text(tally) == (
        "1,203 repositories listed (1,200 requested, 3 on its way); 2 of 4 lists read, 1 before"
    )
    summary = json.loads(_json(tally))
    assert {str(judgment) for judgment in Judgment} <= summary.keys()
    assert (summary["listed"], summary["requested"], summary["invalid"]) == (1_203, 1_200, 2)
    assert summary["problems"] == {"repos https://pds.example": "it is away"}
    assert _text(Tally()) == "0 repositories listed (none); 0 of 0 lists read"


def test_progress_tells_rate_and_rest() -> None:
    rate = Rate(
        listed_count=3_000,
        requested_count=2_900,
        read_lists_count=2,
        lists_count=9,
        left_count=12_000,
        elapsed_s=10.0,
    )
    assert str(rate) == (
        "3,000 repositories, 300/s, 2,900 asked for, 2 of 9 lists read, 40 s left"
    )
    assert rate.fields() == {
        "listed": 3_000,
        "per_s": 300,
        "requested": 2_900,
        "lists_read": 2,
        "lists": 9,
        "left_s": 40,
    }


@pytest.mark.parametrize(("left_count", "elapsed_s"), [(None, 10.0), (12_000, 0.0)])
def test_what_is_left_is_said_only_where_it_can_be_told(
    left_count: int | None, elapsed_s: float
) -> None:
    rate = Rate(3_000, 2_900, 2, 9, left_count, elapsed_s)
    assert rate.left_s is None
    assert "left" not in str(rate)
