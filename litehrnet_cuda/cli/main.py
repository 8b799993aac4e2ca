"""The command `litehrnet`: finds the command's module, runs it, and turns outcomes into exit statuses.

A command is a module of litehrnet_cuda.cli.commands with `add_arguments(parser)` and `run(args) -> int`. It is imported
only when it is used, so that `litehrnet --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from litehrnet_cuda import __version__
from litehrnet_cuda.errors import InputError

COMMANDS = {
    "demo": "train, evaluate and predict on generated people; pictures",
    "predict": "find poses, or classes of pixels, in images and videos",
    "train": "train a model",
    "check-data": "find mistakes in a data set, and draw people from it",
    "evaluate": "measure a model's accuracy on a data set",
    "export": "write a network for other programs: ONNX, torch.export",
    "summary": "count parameters, operations and memory of the networks",
    "convert": "bring a checkpoint of another code base here, or one from here there",
    "benchmark": "time networks, or predict what GPUs would take",
    "env": "show versions, devices and backends, and why one is off",
}


class Command(Protocol):
    """What main expects of a command's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def load_command(name: str) -> Command:
    """The module that carries out a command of the table."""
    return cast(Command, importlib.import_module(f"litehrnet_cuda.cli.commands.{name.replace('-', '_')}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status.

    Args:
        argv: the arguments without the program's name; by default those of the process.

    Returns:
        0 on success, 2 for input that cannot be used, 130 when interrupted, else what the command says.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="litehrnet", description="Lite-HRNet: human poses, fast.")
    parser.add_argument("--version", action="version", version=f"litehrnet_cuda {__version__}")
    parser.set_defaults(command=None)
    # argparse takes commands to be two letters shorter than this; were it shorter, "check-data" would fill a line.
    subparsers = parser.add_subparsers(dest="command", metavar="<the command>", title="commands")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, purpose in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, allow_abbrev=False, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
        )
        if name == chosen:
            command = load_command(name)
            command.add_arguments(subparser)

    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        status = command.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if _has_reader():  # then another pipe broke, such as one to a worker
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
        return 0
    except InputError as error:
        print(f"litehrnet {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"litehrnet {args.command}: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130


def _has_reader() -> bool:
    """Whether somebody still reads what is printed. Whoever has had enough, as `head` has, does not."""
    try:
        print(flush=True)  # nothing shorter than a line tells, where output is not buffered
    except BrokenPipeError:
        return False
    return True
