"""The systemd units: what they start exists, and they restart what a restart can help."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.commands import parse_command

from pipelines.cli import _COMMANDS
from pipelines.config import load_config_file
from pipelines.status.stages import STAGES

_FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
# What each unit starts. What ends by itself is started by a person.
_UNITS = {
    f"standpipe-{stage.name}@.service": stage.name for stage in STAGES if not stage.may_end
} | {"standpipe-identity.service": "identity follow", "standpipe-sweep.service": "sweep"}
_PROGRAM = "/opt/standpipe/bin/standpipe "
# What a command needs and takes from the settings file.
_IN_SETTINGS = {"bridge": " --relay=relay.example"}


def _parse(path: Path) -> dict[str, Mapping[str, Sequence[str]]]:
    """Reads a unit: sections, and every value of each key, since keys may be repeated."""
    unit: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = unit.setdefault(match[1], defaultdict(list))
            continue
        name, equals, value = line.partition("=")
        assert equals, f"{path.name}:{number} is neither a section nor a setting"
        assert re.fullmatch(r"[A-Z]\w+", name), f"{path.name}:{number}"
        assert section is not None, f"{path.name}:{number} stands before any section"
        section[name].append(value)
    return {name: dict(settings) for name, settings in unit.items()}


def test_each_stage_has_a_unit_and_each_unit_a_stage() -> None:
    assert {path.name for path in _FOLDER.glob("*.service")} == _UNITS.keys()


@pytest.mark.parametrize(("name", "command"), _UNITS.items())
def test_what_a_unit_starts_exists_with_its_options(name: str, command: str) -> None:
    [line] = _parse(_FOLDER / name)["Service"]["ExecStart"]
    assert line.startswith(_PROGRAM)
    # %i is the instance, %l the machine's name.
    arguments = line.removeprefix(_PROGRAM).replace("%i", "relay.example").replace("%l", "one")
    assert "%" not in arguments
    assert parse_command(arguments + _IN_SETTINGS.get(command, "")) == command
    assert ("%i" in line) == ("@" in name)  # or all instances would be the same process


@pytest.mark.parametrize("name", _UNITS)
def test_a_unit_starts_again_what_may_come_up_again(name: str) -> None:
    unit = _parse(_FOLDER / name)
    service = unit["Service"]
    assert service["Restart"] == ["always"]
    assert service["RestartPreventExitStatus"] == [
        "2"
    ]  # wrong settings, as `standpipe --help` says
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert "KillSignal" not in service  # SIGTERM, which stages obey
    assert int(service["TimeoutStopSec"][0]) > 30  # a stage waits so long for its store's lock


@pytest.mark.parametrize("name", _UNITS)
def test_units_belong_together_and_find_the_same_settings(name: str) -> None:
    unit = _parse(_FOLDER / name)
    assert unit["Unit"]["PartOf"] == unit["Install"]["WantedBy"] == ["standpipe.target"]
    environment = dict(line.split("=", 1) for line in unit["Service"]["Environment"])
    assert environment == {
        "STANDPIPE_CONFIG": "/etc/standpipe/standpipe.toml",
        "STANDPIPE_HOME": "/var/lib/standpipe",
    }
    assert f"/var/lib/{unit['Service']['StateDirectory'][0]}" == environment["STANDPIPE_HOME"]
    assert _parse(_FOLDER / "standpipe.target")["Install"]["WantedBy"] == ["multi-user.target"]


def test_the_settings_file_has_options_that_commands_have() -> None:
    settings = load_config_file(_FOLDER / "standpipe.toml")
    tables = {name: table for name, table in settings.items() if isinstance(table, dict)}
    shared = {name: value for name, value in settings.items() if name not in tables}
    librdkafka = tables.pop("librdkafka")
    assert all(isinstance(value, str) for value in librdkafka.values())
    assert tables.keys() <= _COMMANDS.keys()
    for command, table in tables.items():
        options = [
            f"--{name}={one}"
            for name, value in (shared | table).items()
            for one in (value if isinstance(value, list) else [value])
        ]
        assert parse_command(" ".join([command, *options])) == command
    assert all(
        option.split("=")[0].strip(" -") in tables[name] for name, option in _IN_SETTINGS.items()
    )
