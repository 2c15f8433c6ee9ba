"""What a run left, as a person reads it."""

import json
from collections import Counter

from rich.console import Console
from rich.json import JSON
from rich.table import Table

from pipelines.compact.state import encode_repo
from pipelines.demo.checks import Check
from pipelines.demo.outcome import Outcome

# Rows of a table; what is left is summed up.
SHOWN_COUNT = 8
SHOWN_FIELDS = ("did", "active", "sync", "rev", "commit", "data", "records")


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Prints what is in the topics."""
    console.print(_table("what was proven", ("frames", "event"), outcome.events))
    console.print(_table("records", ("messages", "collection"), outcome.records))
    if outcome.sample is not None:
        console.print("a record message:")
        console.print(JSON(json.dumps(outcome.sample)))
    active = [repo for repo in outcome.repos.values() if repo.state.active]
    if active:
        repo = max(active, key=lambda repo: len(repo.records))
        console.print(f"what is held of {repo.state.did}:")
        fields = json.loads(encode_repo(repo.state)) | {"records": len(repo.records)}
        console.print(JSON(json.dumps({name: fields[name] for name in SHOWN_FIELDS})))
    console.print("[bold]audits[/]: roots recomputed from the latest records")
    for repo in list(outcome.repos.values())[:SHOWN_COUNT]:
        audit = repo.audit
        console.print(
            f"  {audit.finding}  {audit.did}  {audit.records_count:4} records  {audit.root}",
            highlight=False,
        )
    minutes = {f"{minute}  {collection}": n for (minute, collection), n in outcome.minutes.items()}
    console.print(_table("minutes", ("records", "minute and collection"), Counter(minutes)))


def _table(title: str, columns: tuple[str, str], counts: Counter[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0], justify="right")
    table.add_column(columns[1])
    for name, count in counts.most_common(SHOWN_COUNT):
        table.add_row(f"{count:,}", name)
    rest = sum(count for _, count in counts.most_common()[SHOWN_COUNT:])
    if rest:
        table.add_row(f"{rest:,}", "others")
    return table


def show_check(console: Console, check: Check) -> None:
    """Prints whether something holds that must."""
    verdict = "[red]FAILED[/]" if check.problems else "[green]OK[/]    "
    console.print(f"{verdict}  {check.claim}", highlight=False)
    for problem in check.problems:
        console.print(f"        {problem}", highlight=False, markup=False)
