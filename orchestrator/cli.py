"""The command line: reads what is asked, runs it, and answers with text, JSON and an exit status.

Knows the commands' names and options. Each command's code, and with it torch, ray and mlflow, is
loaded only when that command runs.
"""

import argparse
import atexit
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from orchestrator.commands import error_report
from orchestrator.errors import CommandError, ExitCode, sanitize
from orchestrator.file_permissions import private_files
from orchestrator.home import Home
from orchestrator.terminal import Terminal, escape_unencodable
from search_spaces.plugins import did_you_mean

COMMAND_GROUPS = {
    "start": {
        "init": "inspect your data and write a study file for it",
        "space": "show a search space: its parameters, their cost, what is infeasible",
        "search": "start a search, or continue the one of the same name",
        "resume": "continue an interrupted search",
    },
    "watch": {
        "list": "show all studies",
        "status": "show the state of a study or of one of its trials",
        "leaderboard": "show a study's best trials",
        "ui": "open MLflow on the studies",
    },
    "steer": {
        "retry": "run failed trials of one failure class again, as new trials",
    },
    "models": {
        "promote": "register a study's best model after verifying it",
        "predict": "run a registered model on images or arrays",
    },
    "maintenance": {
        "verify": "compare MLflow and the checkpoint files with the ledger",
        "sync": "re-sync a study into its existing MLflow runs",
        "db": "upgrade, check or back up the ledger",
        "delete": "delete a study with its runs, checkpoints and logs",
        "clean": "delete unreferenced files",
    },
}
"""One line about every command, grouped by purpose in the order of `--help`."""

COMMANDS = {name: text for group in COMMAND_GROUPS.values() for name, text in group.items()}

Command = Callable[[argparse.Namespace, Home, Terminal], ExitCode]


class _Parser(argparse.ArgumentParser):
    """argparse, with errors that name the nearest match and end as ours do."""

    def error(self, message: str) -> NoReturn:
        """Ends with the message and where to look."""
        raise CommandError(f"{self.prog}: {message}. See {self.prog} --help", ExitCode.INPUT)

    def parse_known_args(  # type: ignore[override]  # each command's words end with that command
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuses words that the command does not take, naming the nearest option."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            hint = did_you_mean(word, self._option_string_actions)
            text = f"{self.prog}: does not take '{sanitize(word)}'.{hint} See {self.prog} --help"
            raise CommandError(text, ExitCode.INPUT)
        return found, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    escape_unencodable()
    terminal = Terminal(json="--json" in given, quiet="--quiet" in given)
    with terminal.json_output():
        code = _guarded(given, terminal)
        terminal.document.setdefault("exit_code", int(code))
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    if arguments is None and ("ray" in sys.modules or len(threads) > 1):
        _leave(code)
    return int(code)


def _update_addresses(home: Home) -> None:
    """Update file addresses in the home's own MLflow database after the home was moved."""
    if home.has_own_mlflow:
        from orchestrator.tracking.places import follow_home  # noqa: PLC0415 - loads pydantic

        follow_home(home.folder)


def _leave(code: ExitCode) -> NoReturn:
    """End this process without the interpreter's end.

    There Ray 2.60 may crash (seen once the cluster was lost: a segmentation fault, its status
    instead of ours), and threads that a user's module started would be waited for.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - `os._exit` would leave our folders behind
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _guarded(given: Sequence[str], terminal: Terminal) -> ExitCode:
    """Runs a command and turns whatever it raises into a message and an exit status."""
    home = Home.find(None, os.environ)
    try:
        options = _parse(given)
        if options.version:
            return _show_version(terminal)
        home = Home.find(options.home, os.environ)
        run: Command = import_module(f"orchestrator.commands.{options.command}").run
        if options.command == "init":  # writes the user's own file
            return run(options, home, terminal)
        with private_files():
            _update_addresses(home)
            return run(options, home, terminal)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.DONE
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            raise  # --help
        message, code = error_report.describe(error, home)
        message = home.redact(message)
        if files := getattr(error, "files", None):
            terminal.document["files"] = dict(files)
            message += error_report.list_files(files)
        terminal.error(message)
        terminal.document["errors"] = message.splitlines()
        return code


def _show_version(terminal: Terminal) -> ExitCode:
    """Print the version of the installed package."""
    from importlib import metadata  # noqa: PLC0415 - no other command's start needs it

    terminal.document["version"] = metadata.version("archscout")
    terminal.print(f"archscout {terminal.document['version']}")
    return ExitCode.DONE


def _parse(given: Sequence[str]) -> argparse.Namespace:
    """The options of one command.

    Raises:
        CommandError: They are not what the command takes.
    """
    command = next((word for word in _without_values(given) if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise CommandError(
            f"archscout: there is no command '{sanitize(command)}'. Commands: "
            f"{', '.join(COMMANDS)}."
            f"{did_you_mean(command, COMMANDS)}",
            ExitCode.INPUT,
        )
    parser = build_parser()
    options = parser.parse_args(given)
    if options.command is None and not options.version:
        raise CommandError(parser.format_help().rstrip(), ExitCode.INPUT)
    return options


def _without_values(given: Sequence[str]) -> list[str]:
    """The words without the value of `--home`, which may look like a command."""
    return [word for word, before in zip(given, ["", *given], strict=False) if before != "--home"]


def build_parser() -> argparse.ArgumentParser:
    """Everything the command line understands."""
    shared = _Parser(add_help=False)
    _global_options(shared, argparse.SUPPRESS)
    parser = _Parser(
        prog="archscout",
        description="Searches CNN/Transformer hybrids and their loss weightings on your data.",
        epilog="Start here: archscout search digits",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _global_options(parser, None)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        parser_class=_Parser,
        prog="archscout",
        description=_grouped_commands(),
        help="explained in detail by archscout COMMAND --help",
    )
    for name, add in _OPTIONS.items():
        add(
            commands.add_parser(
                name,
                description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
                parents=[shared],
                allow_abbrev=False,
            )
        )
    return parser


def _grouped_commands() -> str:
    """Return one line for every command under the heading of its group."""
    width = max(map(len, COMMANDS))
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"  {name:<{width}}  {text}" for name, text in group.items())])
        for title, group in COMMAND_GROUPS.items()
    )


def _global_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Options that may stand before the command or after it."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        default=default,
        help="where studies lie (ARCHSCOUT_HOME; default ./mlruns)",
    )
    flag = False if default is None else default
    parser.add_argument("--quiet", action="store_true", default=flag, help="print results only")
    parser.add_argument(
        "--json", action="store_true", default=flag, help="print one JSON document, nothing else"
    )


def _search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG|PRESET", help="a study.yaml or a preset's name")
    parser.add_argument("--name", metavar="N", help="the study's name")
    parser.add_argument("--trials", metavar="K", help="stop after so many trials")
    parser.add_argument("--hours", metavar="H", help="stop after so many hours")
    parser.add_argument("--engine", metavar="ENGINE", help="ray_tune or in_process")
    parser.add_argument("--address", metavar="A", help="a running Ray cluster")
    parser.add_argument(
        "--set",
        metavar="a.b=VALUE",
        action="append",
        default=[],
        help="change any key of the config; may be given again",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would run; run nothing")


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="a folder of images, an .npz file, or .npy or IDX files"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="study.yaml", help="what to write (study.yaml)"
    )


def _resume(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument("--address", metavar="A", help="a running Ray cluster")


def _list(_parser: argparse.ArgumentParser) -> None:
    """Takes no options of its own."""


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--trial", metavar="N", type=_count, help="show this trial and its log")


def _leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--top", metavar="K", type=_positive, default=10, help="rows (default 10)")
    parser.add_argument(
        "--prefer", metavar="a=0.7,b=0.3", help="order the front by weights of the objectives"
    )


def _space(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG|PRESET", help="a study.yaml or a preset's name")
    parser.add_argument(
        "--samples", metavar="N", type=_positive, default=5, help="candidates to draw (default 5)"
    )


def _promote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    parser.add_argument("--model", metavar="M", required=True, help="its name in the registry")
    parser.add_argument(
        "--trial", metavar="N|best", type=_trial, default="best", help="which one (best)"
    )
    parser.add_argument(
        "--alias", metavar="A", default="champion", help="what it is asked for by (champion)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the champion without comparing the two"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why it is forced; kept with the version")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL@ALIAS", help="a promoted model")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="PNG, JPEG, .npy or .npz files, or folders of them"
    )
    parser.add_argument(
        "--output",
        metavar="FORMAT",
        choices=("table", "json", "csv"),
        default="table",
        help="table, json or csv (table)",
    )


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", metavar="P", type=_port, help="default 5000, or the next free")


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")


def _retry(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--class",
        dest="failure",
        metavar="CLASS",
        required=True,
        help="which failures: a reason that `status` shows, as out_of_memory",
    )


def _db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="upgrade|check|backup", choices=_DB_ACTIONS)
    parser.add_argument("file", metavar="FILE", nargs="?", help="where a backup goes")


def _delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the study's name")
    _yes(parser)


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this study's checkpoints")
    _yes(parser)


def _yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do it; without, it is only shown")


def _trial(text: str) -> int | str:
    """A trial's number, or the word for the best one."""
    return text if text == "best" else _count(text)


def _count(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"'{sanitize(text)}' is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    """A whole number from 1."""
    if (value := _count(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _port(text: str) -> int:
    """A port that a user may open."""
    if not 1 <= (value := _count(text)) <= 65535:
        raise argparse.ArgumentTypeError("a port lies between 1 and 65535")
    return value


_DB_ACTIONS = ("upgrade", "check", "backup")

_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "init": _init,
    "search": _search,
    "resume": _resume,
    "list": _list,
    "status": _status,
    "leaderboard": _leaderboard,
    "space": _space,
    "promote": _promote,
    "predict": _predict,
    "retry": _retry,
    "verify": _study,
    "sync": _study,
    "db": _db,
    "ui": _ui,
    "delete": _delete,
    "clean": _clean,
}
"""The module of `orchestrator.commands` behind each command."""


if __name__ == "__main__":
    sys.exit(main())
