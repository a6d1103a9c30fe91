"""The `vivace` command: its table of commands, and what a user sees of an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from vivace import __version__
from vivace.cli.bench import bench
from vivace.cli.cache import cache
from vivace.cli.canary import canary
from vivace.cli.chat import chat
from vivace.cli.distill import distill
from vivace.cli.eval import evaluate
from vivace.cli.export import export
from vivace.cli.generate import generate
from vivace.cli.inspect import inspect
from vivace.cli.prune import prune
from vivace.cli.quantize import quantize
from vivace.cli.run_batch import run_batch
from vivace.cli.serve import serve
from vivace.core.errors import RequestError, UsageError, VivaceError

FAILED, WRONG_USAGE = 1, 2

app = typer.Typer(
    help="Make a large language model fast and cheap to run, then run it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (generate, chat, serve, inspect, quantize, prune, distill, export, cache):
    app.command()(command)
app.command("eval")(evaluate)
app.command("run-batch")(run_batch)
app.add_typer(bench)
app.add_typer(canary)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vivace {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Every option of the program itself acts before a command runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; exit with 0 (done), 1 (failed) or 2 (wrong usage)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(arguments, prog_name="vivace")
    except Exception as error:
        if "--debug" in arguments:
            raise
        _exit(error)


def _exit(error: Exception) -> NoReturn:
    if isinstance(error, VivaceError):
        print(f"vivace: {error}", file=sys.stderr)
        sys.exit(WRONG_USAGE if isinstance(error, UsageError | RequestError) else FAILED)
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    print(f"vivace: {what} (run again with --debug to see where).", file=sys.stderr)
    sys.exit(FAILED)
