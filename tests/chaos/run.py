"""Faults by the hundred, round after round: `make chaos`, or `python tests/chaos/run.py --help`.

Every round has a broker, a network and a pipeline of its own, and its verdict goes into the state
file: a run that was interrupted goes on with the next round. Exit code 0 means that there were
enough faults of each kind and that nothing was lost or twice, 1 that something was, 75 that
rounds are missing.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.faults import LONG_ROUND, Kind, missing
from chaos.outcome import Outcome
from chaos.rounds import run_round

OF_EACH = 20
IN_ALL = 300
UNFINISHED_EXIT_CODE = 75
_CAPTURE = Path(__file__).parent.parent / "data" / "capture"


def main() -> int:
    options = _parse()
    state = _load(options.state, options.seed)
    rounds: list[dict[str, Any]] = state["rounds"]
    made_count = 0
    while not _is_wrong(rounds) and _missing_count(rounds) and made_count != options.rounds:
        number = len(rounds)
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        _tell(f"round {number} in {folder}: {_missing_count(rounds)} faults are missing")
        begun_s = time.monotonic()
        outcome = run_round(
            folder,
            _CAPTURE,
            1_000 * state["seed"] + number,
            LONG_ROUND,
            lambda text: _tell(f"round {number}, {text}"),  # noqa: B023 - called in this round
        )
        rounds.append(_entry(outcome, time.monotonic() - begun_s))
        _save(options.state, state)
        made_count += 1
        # Of a round that went wrong the logs and Kafka's data stay.
        if not outcome.wrong:
            shutil.rmtree(folder)
    _show(rounds)
    if _is_wrong(rounds):
        return 1
    return UNFINISHED_EXIT_CODE if _missing_count(rounds) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Kills, stops and damages everything around a running pipeline, and compares."
    )
    parser.add_argument("--seed", type=int, default=1, help="what networks and faults follow from")
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".standpipe/chaos.json"),
        metavar="FILE",
        help="what was done; a run goes on from it (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=-1,
        metavar="N",
        help="stop after so many; default: when done",
    )
    return parser.parse_args()


def _load(path: Path, seed: int) -> dict[str, Any]:
    if not path.exists():
        return {"seed": seed, "rounds": []}
    state: dict[str, Any] = json.loads(path.read_bytes())
    if state["seed"] != seed:
        sys.exit(f"{path} has the seed {state['seed']}: use that one, or another file")
    return state


def _save(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state, indent=1) + "\n")
    fresh.replace(path)


def _entry(outcome: Outcome, duration_s: float) -> dict[str, Any]:
    return {
        "made": Counter(fault.kind for fault in outcome.struck),
        "counted": Counter(outcome.counted),
        "compared": {found.what: found.expected_count for found in outcome.comparisons},
        "wrong": [str(found) for found in outcome.wrong],
        "lost": sum(found.lost.total() for found in outcome.comparisons),
        "too_many": sum(found.surplus.total() for found in outcome.comparisons),
        "repeats": outcome.repeats_count,
        "restarts": outcome.restarts_count,
        "duration_s": round(duration_s),
    }


def _total(rounds: list[dict[str, Any]], name: str) -> Counter[str]:
    return sum((Counter(entry[name]) for entry in rounds), Counter[str]())


def _missing_count(rounds: list[dict[str, Any]]) -> int:
    counted = map(Kind, _total(rounds, "counted").elements())
    return missing(counted, of_each=OF_EACH, in_all=IN_ALL)


def _is_wrong(rounds: list[dict[str, Any]]) -> bool:
    return any(entry["wrong"] for entry in rounds)


def _show(rounds: list[dict[str, Any]]) -> None:
    made, counted = _total(rounds, "made"), _total(rounds, "counted")
    lines = [f"{'fault':<58}{'made':>6}{'counted':>9}"]
    lines += [f"{kind:<58}{made[kind]:>6}{counted[kind]:>9}" for kind in Kind]
    lines += [f"{'all':<58}{made.total():>6}{counted.total():>9}", ""]
    compared = _total(rounds, "compared")
    lines += [f"{what:<66}{compared[what]:>9,} compared" for what in compared if compared[what]]
    lost, too_many = (sum(entry[name] for entry in rounds) for name in ("lost", "too_many"))
    restarts_count, repeats_count = (
        sum(entry[name] for entry in rounds) for name in ("restarts", "repeats")
    )
    lines += ["", f"{lost} lost, {too_many} too many; rounds: {len(rounds)}"]
    lines += [
        f"{repeats_count} frames are there again because a relay had lost what precedes them"
    ]
    lines += [f"{restarts_count} times a stage ended by itself and was started again"]
    lines += [wrong for entry in rounds for wrong in entry["wrong"]]
    print("\n".join(lines))  # noqa: T201 - a program's output


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress


if __name__ == "__main__":
    sys.exit(main())
