"""Command line: parse the arguments, run one command, and exit with its status.

The code of a command, and with it torch, ray and mlflow, is imported only when the command runs.
"""

import argparse
import atexit
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import groupby
from typing import NoReturn

from orchestrator.commands.error_report import describe, list_files
from orchestrator.commands.registry import COMMANDS
from orchestrator.errors import CommandError, ExitCode, sanitize
from orchestrator.file_permissions import private_files
from orchestrator.home import Home
from orchestrator.terminal import Terminal, escape_unencodable
from search_spaces.plugins import did_you_mean


class _Parser(argparse.ArgumentParser):
    """argparse with our errors, which name the nearest match."""

    def error(self, message: str) -> NoReturn:
        """Raise the message with a pointer to `--help`."""
        raise CommandError(f"{self.prog}: {message}. See {self.prog} --help", ExitCode.INPUT)

    def parse_known_args(  # type: ignore[override]  # a command takes all arguments that follow it
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown arguments, naming the nearest option."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            hint = did_you_mean(word, self._option_string_actions)
            text = (
                f"{self.prog}: unrecognized argument '{sanitize(word)}'.{hint} See "
                f"{self.prog} --help"
            )
            raise CommandError(text, ExitCode.INPUT)
        return options, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Arguments after the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    escape_unencodable()
    terminal = Terminal(json="--json" in given, quiet="--quiet" in given)
    with terminal.json_output():
        code = _run(given, terminal)
        terminal.document.setdefault("exit_code", int(code))
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    if arguments is None and ("ray" in sys.modules or len(threads) > 1):
        _exit_at_once(code)
    return int(code)


def _run(given: Sequence[str], terminal: Terminal) -> ExitCode:
    """Run a command; print any exception as a message and return its exit code."""
    home = Home.find(None, os.environ)
    try:
        options = _parse(given)
        if options.version:
            return _show_version(terminal)
        home = Home.find(options.home, os.environ)
        command = COMMANDS[options.command]
        module = import_module(f"orchestrator.commands.{command.module}")
        function: Callable[..., ExitCode] = getattr(module, command.function)
        if options.command == "init":  # writes the user's own file
            return function(options, home, terminal)
        with private_files():
            _update_addresses(home)
            return function(options, home, terminal)
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.DONE
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            raise  # --help
        return _report(error, home, terminal)


def _report(error: BaseException, home: Home, terminal: Terminal) -> ExitCode:
    """Print the message of an exception and return its exit code."""
    message, code = describe(error, home)
    message = home.redact(message)
    if files := getattr(error, "files", None):
        terminal.document["files"] = dict(files)
        message += list_files(files)
    terminal.error(message)
    terminal.document["errors"] = message.splitlines()
    return code


def _update_addresses(home: Home) -> None:
    """Update file addresses in the home's own MLflow database after the home was moved."""
    if home.has_own_mlflow:
        from orchestrator.tracking.paths import update_artifact_addresses  # noqa: PLC0415 - loads pydantic

        update_artifact_addresses(home.folder)


def _exit_at_once(code: ExitCode) -> NoReturn:
    """Exit without the interpreter's shutdown.

    Ray 2.60 may crash there after its cluster was lost (a segmentation fault replaces our exit
    code), and the interpreter would wait for threads that a user's module started.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - `os._exit` would leave our temporary folders behind
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _show_version(terminal: Terminal) -> ExitCode:
    """Print the version of the installed package."""
    from importlib import metadata  # noqa: PLC0415 - slow, and no other command needs it

    terminal.document["version"] = metadata.version("archscout")
    terminal.print(f"archscout {terminal.document['version']}")
    return ExitCode.DONE


def _parse(given: Sequence[str]) -> argparse.Namespace:
    """Return the options of one command.

    Raises:
        CommandError: The command does not exist or does not take them.
    """
    name = next((word for word in _without_home(given) if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        raise CommandError(
            f"archscout: there is no command '{sanitize(name)}'. Commands: {', '.join(COMMANDS)}."
            f"{did_you_mean(name, COMMANDS)}",
            ExitCode.INPUT,
        )
    parser = build_parser()
    options = parser.parse_args(given)
    if options.command is None and not options.version:
        raise CommandError(parser.format_help().rstrip(), ExitCode.INPUT)
    return options


def _without_home(given: Sequence[str]) -> list[str]:
    """Return the arguments without the value of `--home`, which may look like a command."""
    return [word for word, before in zip(given, ["", *given], strict=False) if before != "--home"]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    shared = _Parser(add_help=False)
    _add_global_options(shared, argparse.SUPPRESS)
    parser = _Parser(
        prog="archscout",
        description="Search CNN/Transformer hybrids and loss weights on your own data.",
        epilog="Start here: archscout search digits",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_global_options(parser, None)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    subparsers = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        parser_class=_Parser,
        prog="archscout",
        description=_command_overview(),
        help="see archscout COMMAND --help",
    )
    for name, command in COMMANDS.items():
        command.add_options(
            subparsers.add_parser(
                name,
                description=f"{command.help[0].upper()}{command.help[1:]}.",
                parents=[shared],
                allow_abbrev=False,
            )
        )
    return parser


def _command_overview() -> str:
    """Return one line for each command below the heading of its group."""
    width = max(map(len, COMMANDS))
    return "\n\n".join(
        "\n".join([f"{group}:", *(f"  {name:<{width}}  {COMMANDS[name].help}" for name in names)])
        for group, names in groupby(COMMANDS, key=lambda name: COMMANDS[name].group)
    )


def _add_global_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add the options that may precede or follow the command."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        default=default,
        help="folder of all studies (default ARCHSCOUT_HOME, or ./mlruns)",
    )
    flag = False if default is None else default
    parser.add_argument("--quiet", action="store_true", default=flag, help="print results only")
    parser.add_argument(
        "--json", action="store_true", default=flag, help="print one JSON document, nothing else"
    )


if __name__ == "__main__":
    sys.exit(main())
