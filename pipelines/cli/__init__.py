"""The command `standpipe`: parses, configures logs, maps errors to exit codes, calls a part.

Commands load on use, so that `standpipe --help` starts at once and a stage does not import what
it does not need. Data goes to stdout, logs and progress to stderr. Exit codes: 0 fine, 1 failed,
2 wrong usage or settings.
"""

import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from pipelines import logs
from pipelines.captures import CaptureError
from pipelines.config import ENVIRONMENT_PREFIX, load_config_file
from pipelines.errors import (
    ConfigError,
    FencedError,
    OffsetLostError,
    RefusedByBrokerError,
    TransientError,
)

# What a sentence explains; anything else is our own bug and shows where it happened.
_EXPECTED_FAILURES = (
    TransientError,
    FencedError,
    OffsetLostError,
    RefusedByBrokerError,
    CaptureError,
)
INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells have it

# name → (module in this package, line for `standpipe --help`)
_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "The whole pipeline on this machine, with a screen that shows how it is."),
    "kafka": ("kafka", "Run Apache Kafka on this machine: start, stop, status."),
    "topics": ("topics", "Create the pipeline's topics from schemas/: plan, apply."),
    "schemas": ("schemas", "The contracts of topics for others: register them in a registry."),
    "bridge": ("bridge", "Relay socket → atproto.frames, byte for byte."),
    "explode": ("explode", "Frames → proven events and records."),
    "compact": ("compact", "Events → the state of each repository, and its latest records."),
    "backfill": ("backfill", "Ask for repositories that were there before: hosts → resyncs."),
    "sweep": ("sweep", "Ask for what changed in a gap of an upstream: gaps → resyncs."),
    "resync": ("resync", "Requests → whole repositories, fetched and proven."),
    "analytics": ("analytics", "Records → counts of each minute, and what each hour is about."),
    "page": ("page", "A web page with what analytics finds, as it comes."),
    "status": ("status", "Show a running pipeline: who runs, how fast, how far behind."),
    "metrics": ("metrics", "Numbers for Prometheus, dashboard and alert rules."),
    "doctor": ("doctor", "Look at a deployment: what is wrong, and what to do."),
    "repo": ("repo", "Show what is held of one repository."),
    "account": ("account", "What counts for an account here, whatever upstream says of it."),
    "quarantine": ("quarantine", "Look at what was refused, and why; have it mended."),
    "audit": ("audit", "Recompute roots from the topics and compare them with what was signed."),
    "replay": ("replay", "History once more: a window of topics to files, a topic or stdout."),
    "capture": ("capture", "Record frames from a relay into a file."),
    "verify": ("verify", "A verdict for every frame of a capture, without Kafka."),
    "identity": ("identity", "Check DIDs and PLC logs; import a whole directory."),
    "inspect": ("inspect", "Decode one thing and show every check."),
    "sim": ("sim", "Serve a small AT network on loopback."),
    "demo": ("demo", "The whole pipeline on a small captured network, in a minute."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"pipelines.cli.{_COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        _name_variables(command, f"{ENVIRONMENT_PREFIX}_{cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # The default would import every command to read its first line.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 99,
    },
)
@click.option(
    "--config",
    "config_path",
    envvar=f"{ENVIRONMENT_PREFIX}_CONFIG",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (TOML). Default: standpipe.toml in this folder, if there is one.",
)
@click.option(
    "--verbose",
    "-v",
    envvar=f"{ENVIRONMENT_PREFIX}_VERBOSE",
    is_flag=True,
    help="Log debug lines too.",
)
@click.version_option(package_name="standpipe")
@click.pass_context
def _standpipe(ctx: click.Context, config_path: Path | None, *, verbose: bool) -> None:
    """From the AT network's firehose to proven records in Kafka topics.

    \b
    Try it:       make demo
    A broker:     standpipe kafka start && standpipe topics apply
    The pipeline: standpipe bridge --relay wss://relay.example &
                  standpipe explode

    Every option can also be set in the environment (STANDPIPE_<COMMAND>_<OPTION>; the ones that
    all commands share as STANDPIPE_<OPTION>) or in the settings file.
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its lines
    logs.configure(level=logging.DEBUG if verbose else logging.INFO)
    settings = load_config_file(config_path)
    ctx.obj = settings.get("librdkafka", {})
    name = ctx.invoked_subcommand
    assert isinstance(ctx.command, click.Group)
    if name is not None and (command := ctx.command.get_command(ctx, name)) is not None:
        ctx.default_map = {name: _defaults(command, settings, settings.get(name, {}))}


def _name_variables(command: click.Command, prefix: str) -> None:
    """Names the environment variable of each option after the option, as the user writes it.

    Left alone, click names it after the parameter in the code.
    """
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            _name_variables(part, f"{prefix}_{name}")
    for option in _options(command):
        if option.envvar is None:
            option.envvar = f"{prefix}_{_key(option)}".replace("-", "_").upper()


def _defaults(
    command: click.Command, settings: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the settings of one command as click looks them up: shared ones, then its own."""
    values: dict[str, Any] = {}
    if isinstance(command, click.Group):
        values = {name: _defaults(part, settings, own) for name, part in command.commands.items()}
    for option in _options(command):
        for table in (settings, own):
            if _key(option) in table and option.name is not None:
                values[option.name] = table[_key(option)]
    return values


def _options(command: click.Command) -> Iterator[click.Option]:
    return (parameter for parameter in command.params if isinstance(parameter, click.Option))


def _key(option: click.Option) -> str:
    """Returns the option as it is called in a settings file: `--first-slot` as `first-slot`."""
    return max(option.opts, key=len).removeprefix("--")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits.

    Args:
        arguments: without the program's name; `sys.argv` by default.
    """
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    exit_code = 0
    try:
        result: Any = _standpipe.main(arguments, prog_name="standpipe", standalone_mode=False)
        exit_code = result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        # `standpipe` alone teaches; a group without its command is wrong usage.
        exit_code = error.exit_code if error.ctx.parent else 0
    except click.ClickException as error:
        error.show()
        exit_code = error.exit_code
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"Error: {problem}", err=True)
        exit_code = 2
    except _EXPECTED_FAILURES as error:
        click.echo(f"Error: {error}", err=True)
        exit_code = 1
    except (click.Abort, KeyboardInterrupt):
        exit_code = INTERRUPTED_EXIT_CODE
    return exit_code
