"""The status as a screen of several widths, as plain lines, and as JSON."""

import json

import pytest
from rich.console import Console
from support.beats import NOW_US, beat

from pipelines.kafka.beat import State
from pipelines.kafka.lag import Lag
from pipelines.status.history import History
from pipelines.status.overview import Overview, look
from pipelines.status.plain import as_json, lines, summary
from pipelines.status.screen import SHOWN_MEMBERS_COUNT, screen
from pipelines.status.text import count_text, duration_text, rate_text

TITLE = "Standpipe  atproto.* at 127.0.0.1:9092"


@pytest.fixture
def overview() -> Overview:
    history = History()
    for age_s, count in ((4, 1_000), (0, 123_456)):
        history.add(
            beat(
                "bridge",
                "relay.example",
                age_s=age_s,
                counters={"received": count, "frames": count, "last_received_us": NOW_US},
            )
        )
    groups = {
        "proven": {"commit": 120_000},
        "refused": {"commit.rev_mismatch": 3, "frame.op": 4},
        "parked": {"frames": 1_250, "accounts": 40},
        "repos": {"synchronized": 198, "desynchronized": 2},
        "last_minute": {f"app.bsky.feed.n{n}": 100 - n for n in range(20)},
        "last_minute_languages": {"en": 70, "pt": 5},
        "written": {"records": 130_222},
    }
    history.add(beat("explode", "0", counters={"partitions": 2}, groups=groups))
    history.add(beat("explode", "1", age_s=34, pid=4711))
    return look(history, {"explode": Lag(1_234, is_exact=False, seconds=3.4)}, NOW_US)


def drawn(overview: Overview, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(screen(overview, TITLE, width))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal_and_nothing_that_matters_is_cut(
    overview: Overview, width: int
) -> None:
    shown = drawn(overview, width)
    assert max(map(len, shown)) <= width
    text = "\n".join(shown)
    for needed in ("bridge", "explode", "123,456", "~1,234", "3.4 s", "silent", "34 s"):
        assert needed in text
    assert "1 problem" in text


def test_the_screen_in_full(overview: Overview) -> None:
    shown = [line.rstrip() for line in drawn(overview, 100)]
    assert shown[0] == f"{TITLE:<77}1 problem  14:13:20 UTC"
    text = "\n".join(shown)
    assert "frames 123,456   30,614/s   proven 120,000   refused 7   records 130,222" in text
    assert "commit.rev_mismatch 3" in text
    assert "parked       frames 1,250 · accounts 40" in text
    assert "synchronized 198 · desynchronized 2" in text
    assert "languages    en 70 · pt 5" in text


def test_a_long_group_is_summed_up(overview: Overview) -> None:
    text = " ".join(" ".join(drawn(overview, 100)).split())
    assert f"app.bsky.feed.n{SHOWN_MEMBERS_COUNT - 1} " in text
    assert f"app.bsky.feed.n{SHOWN_MEMBERS_COUNT} " not in text
    assert f"others {sum(100 - n for n in range(SHOWN_MEMBERS_COUNT, 20))}" in text


def test_without_problems_all_is_well() -> None:
    history = History()
    history.add(beat("explode"))
    text = "\n".join(drawn(look(history, {}, NOW_US), 80))
    assert "all well" in text
    assert "problem" not in text
    assert "refused 0" in text


def test_plain_lines_stand_for_themselves(overview: Overview) -> None:
    plain = list(lines(overview))
    assert plain[0] == summary(overview)
    assert plain[0].startswith("frames 123,456 (30,614/s)  proven 120,000  refused 7  records")
    assert plain[0].endswith("explode ~1,234 behind (3.4 s)")
    assert "process explode.1  silent 34 s  no sign of life of pid 4711 on worker-1" in plain
    assert "refused frame.op 4" in plain
    assert "parked frames 1250" in plain
    assert "repos desynchronized 2" in plain
    assert "last_minute_languages pt 5" in plain
    assert sum(line.startswith("last_minute ") for line in plain) == 20
    assert sum(line.startswith("problem ") for line in plain) == 1
    assert all(line == line.strip() and "\n" not in line for line in plain)


def test_json_has_everything(overview: Overview) -> None:
    value = json.loads(json.dumps(as_json(overview)))
    assert value["is_well"] is False
    assert value["frames_count"] == 123_456
    explode = value["stages"][1]
    assert explode["lag"] == {"messages_count": 1_234, "is_exact": False, "seconds": 3.4}
    assert [process["condition"] for process in explode["processes"]] == ["running", "silent"]
    assert value["refused"] == {"commit.rev_mismatch": 3, "frame.op": 4}


def test_a_multi_line_detail_stays_in_its_cell() -> None:
    history = History()
    history.add(beat("explode", state=State.FAILED, detail="KafkaError:\nit broke\n"))
    overview = look(history, {}, NOW_US)
    assert all("\n" not in line for line in lines(overview))
    assert max(map(len, drawn(overview, 60))) <= 60


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3.0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (121, "2 min"),
        (7_199, "120 min"),
        (7_201, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0"), (0.04, "0.0"), (9.94, "9.9"), (9.96, "10"), (1_234.6, "1,235")],
)
def test_rates(per_second: float, text: str) -> None:
    assert rate_text(per_second) == text


def test_counts() -> None:
    assert [count_text(count) for count in (0, 999, 1_000_000)] == ["0", "999", "1,000,000"]
