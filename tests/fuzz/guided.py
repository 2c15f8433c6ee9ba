"""Looks for inputs that reach new code of the protocol core: `make fuzz`, or run with `--help`.

Atheris (libFuzzer) mutates whatever reached a line that no input reached before. The first byte of
an input chooses one of the parsers in `support.parsers`, the rest is what it reads. The invariant
is that of `tests/property/test_public_parsers.py`: it returns or raises ProtocolError.

What it has found so far stays in .standpipe/fuzz/corpus, so that every run begins where the last
one ended. A finding is written to .standpipe/fuzz; the exit code is then not 0.
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

import atheris
import click

_TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(_TESTS))

with atheris.instrument_imports(include=["pipelines.atproto"]):
    from support.parsers import PARSERS

from pipelines.atproto.errors import ProtocolError  # noqa: E402 - tests/ is in the path only now
from pipelines.config import state_directory  # noqa: E402 - likewise

_DEFAULT_SECONDS = 60
_DEFAULT_SEED = 20260101
_NAMES = sorted(PARSERS)
# Larger inputs only make each try slower.
_MAX_INPUT_BYTES = 16 * 1024
# For one input; libFuzzer ends the process beyond it.
_MAX_SECONDS = 20
_MAX_MEMORY_MB = 2_048


def run_parser(raw: bytes) -> None:
    """Gives an input to the parser that it names.

    Raises:
        Exception: a finding: anything that is no ProtocolError.
    """
    if not raw:
        return
    name = _NAMES[raw[0] % len(_NAMES)]
    parser = PARSERS[name]
    is_text = isinstance(parser.honest, str)
    value = raw[1:].decode("utf-8", "surrogateescape") if is_text else raw[1:]
    try:
        with suppress(ProtocolError):
            parser.call(value)
    except BaseException:
        click.echo(f"found in {name}", err=True)
        raise


def write_seeds(corpus: Path) -> None:
    """Writes an input for each parser that it accepts."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(_NAMES):
        honest = PARSERS[name].honest
        raw = honest.encode() if isinstance(honest, str) else honest
        (corpus / f"seed-{name}").write_bytes(bytes([number]) + raw)


def main() -> None:
    """Reads the command line; libFuzzer ends the process."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("seconds", nargs="?", type=int, default=_DEFAULT_SECONDS)
    arguments.add_argument("--seed", type=int, default=_DEFAULT_SEED)
    arguments.add_argument("--replay", type=Path, metavar="FINDING", help="try one input again")
    chosen = arguments.parse_args()
    if chosen.replay is not None:
        run_parser(chosen.replay.read_bytes())
        return
    home = state_directory() / "fuzz"
    write_seeds(home / "corpus")
    options = [
        f"-max_total_time={chosen.seconds}",
        f"-seed={chosen.seed}",
        f"-max_len={_MAX_INPUT_BYTES}",
        f"-timeout={_MAX_SECONDS}",
        f"-rss_limit_mb={_MAX_MEMORY_MB}",
        f"-artifact_prefix={home}/guided-",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(home / "corpus")], run_parser)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
