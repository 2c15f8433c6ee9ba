"""The runbook has a section for everything that doctor and status can say, and its words hold."""

import re
from pathlib import Path

from support.commands import parse_command

from pipelines.doctor.findings import Check
from pipelines.metrics.alerts import alerts
from pipelines.status.overview import Condition

_RUNBOOK = (Path(__file__).parents[2] / "deploy" / "RUNBOOK.md").read_text()


def _sections(title: str) -> list[str]:
    """Returns the titles of the sections below one."""
    [part] = (part for part in _RUNBOOK.split("\n## ") if part.startswith(title))
    return re.findall(r"^### (.+)$", part, re.MULTILINE)


def test_each_check_of_doctor_has_its_section_in_their_order() -> None:
    assert _sections("Checks of `standpipe doctor`") == list(Check)


def test_each_problem_of_status_has_its_section() -> None:
    conditions = {condition.value for condition in Condition if condition.is_problem}
    assert conditions
    sections = _sections("Problems that `standpipe status` shows")
    assert set(sections) == conditions | {
        "nothing runs",
        "a stage does not run",
        "an upstream is blind",
    }


def test_each_alert_leads_to_a_section() -> None:
    checks = set(_sections("Checks of `standpipe doctor`"))
    problems = set(_sections("Problems that `standpipe status` shows"))
    others = set(_sections("Alerts about the network and the brokers"))
    named = {alert.section for alert in alerts()}
    assert named <= checks | problems | others
    assert problems | others <= named


def test_each_section_says_something() -> None:
    for section in _RUNBOOK.split("\n### ")[1:]:
        title, _, text = section.partition("\n")
        assert len(text.partition("\n## ")[0].split()) >= 8, title


def test_each_link_leads_to_a_section() -> None:
    titles = re.findall(r"^#+ (.+)$", _RUNBOOK, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    links = set(re.findall(r"\]\(#([^)]+)\)", _RUNBOOK))
    assert links
    assert links <= anchors


def test_each_command_exists_with_its_options() -> None:
    text = re.sub(r"\s+", " ", _RUNBOOK)
    lines = set(re.findall(r"`standpipe ([^`]+)`", text))
    lines |= {
        line.partition("#")[0] for line in re.findall(r"^standpipe (.+)$", _RUNBOOK, re.MULTILINE)
    }
    assert len(lines) > 8
    values = {
        "NEW": "new",
        " N": " 8",
        "DID": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "STAGE.SLOT": "explode.0",
        "URL": "relay.example",
    }
    for line in lines:
        for name, value in values.items():
            line = line.replace(name, value)  # noqa: PLW2901 - one after the other
        assert parse_command(line)
