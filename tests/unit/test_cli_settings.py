"""Options in the environment and in the settings file have the names that they have as flags."""

from collections.abc import Iterator

import click
import pytest

from pipelines.cli import _defaults, _standpipe

_SHARED = {
    "admit": "STANDPIPE_ADMIT",
    "bootstrap-servers": "STANDPIPE_BOOTSTRAP_SERVERS",
    "topic-prefix": "STANDPIPE_TOPIC_PREFIX",
    "track-collection": "STANDPIPE_TRACK_COLLECTION",
    "track-dids": "STANDPIPE_TRACK_DIDS",
}


def _commands() -> Iterator[tuple[str, click.Command]]:
    """Yields every command with its full name."""
    assert isinstance(_standpipe, click.Group)
    context = click.Context(_standpipe)
    waiting = [
        (name, _standpipe.get_command(context, name)) for name in _standpipe.list_commands(context)
    ]
    while waiting:
        name, command = waiting.pop()
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            waiting += [(f"{name} {part}", each) for part, each in command.commands.items()]


def _flags(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """Yields the options of a command by their long flag, without its dashes."""
    for option in command.params:
        if isinstance(option, click.Option) and option.expose_value:
            [flag, *_] = (text for text in option.opts if text.startswith("--"))
            yield flag[2:], option


def test_each_variable_is_named_after_its_flag() -> None:
    count = 0
    for name, command in (*_commands(), ("", _standpipe)):
        for flag, option in _flags(command):
            own = "_".join(("STANDPIPE", *name.split(), flag)).replace("-", "_").upper()
            assert option.envvar == _SHARED.get(flag, own)
            count += 1
    assert count > 50


def test_each_option_can_be_set_in_the_file_by_its_flag() -> None:
    named_otherwise = 0
    for name, command in _commands():
        if " " in name:
            continue
        parts = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for part, each in parts:
            for flag, option in _flags(each):
                found = _defaults(command, {}, {flag: "value"})
                assert (found[part] if part else found) == {option.name: "value"}
                named_otherwise += option.name != flag.replace("-", "_")
    assert named_otherwise > 5  # the ones that only this finds


def test_a_commands_own_table_comes_before_what_all_share() -> None:
    commands = dict(_commands())
    shared, own = {"topic-prefix": "all", "cursor": "live", "nonsense": 1}, {"cursor": "oldest"}
    assert _defaults(commands["bridge"], shared, own) == {
        "topic_prefix": "all",
        "first_cursor": "oldest",
    }


@pytest.mark.parametrize("word", ["nonsense", "5"])
def test_a_variable_reaches_its_option(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = dict(_commands())["bridge"]
    monkeypatch.setenv("STANDPIPE_BRIDGE_CURSOR", word)
    arguments = ["--relay", "relay.example"]
    if word == "nonsense":
        with pytest.raises(click.BadParameter, match="nonsense"):
            bridge.make_context("bridge", arguments)
    else:
        assert bridge.make_context("bridge", arguments).params["first_cursor"] == 5
