"""One record for each command: its purpose, its options and the function that runs it.

The modules of the commands are imported only when they run, so that `--help` loads none of them.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator import argument_types
from orchestrator.confirmation.plan import MAX_SEEDS, MAX_TOP, MIN_SEEDS, ConfirmationPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the command line.

    Examples:
        >>> Command(group="watch", help="show all studies", module="list")
    """

    group: str
    """Heading in `--help`."""
    help: str
    """One line for `--help`."""
    module: str
    """Module in `orchestrator.commands`."""
    function: str = "run"
    """Function of the module that runs the command."""
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="a folder of images, an .npz file, or .npy or IDX files"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="study.yaml", help="file to write (default study.yaml)"
    )


def _space(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument(
        "--samples",
        metavar="N",
        type=argument_types.positive,
        default=5,
        help="candidates to show (default 5)",
    )


def _search(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--name", metavar="N", help="name of the study")
    parser.add_argument("--trials", metavar="K", help="stop after K trials")
    parser.add_argument("--hours", metavar="H", help="stop after H hours")
    parser.add_argument("--engine", metavar="ENGINE", help="ray_tune or in_process")
    _address(parser)
    parser.add_argument(
        "--set",
        metavar="a.b=VALUE",
        action="append",
        default=[],
        help="change any key of the config; repeatable",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would run; run nothing")


def _resume(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    _address(parser)


def _extend(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--trials", metavar="+K", type=argument_types.increment, help="trials to add"
    )
    parser.add_argument("--hours", metavar="+H", type=argument_types.hours, help="hours to add")
    _address(parser)


def _edit(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--set",
        metavar="a.b=VALUE",
        action="append",
        required=True,
        help="change a key of the config: space, constraints, budget.maximum, stop.target or "
        "confirm; repeatable",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change; change nothing"
    )


def _status(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--trial", metavar="N", type=argument_types.count, help="show this trial and its log"
    )


def _leaderboard(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--top", metavar="K", type=argument_types.positive, default=10, help="rows (default 10)"
    )
    parser.add_argument(
        "--prefer",
        metavar="a=0.7,b=0.3",
        help="order the Pareto front by weights of the objectives",
    )


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        metavar="P",
        type=argument_types.port,
        help="port (default 5000, or the next free one)",
    )


def _retry(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--class",
        dest="failure",
        metavar="CLASS",
        required=True,
        help="class of the failures: a reason that `status` shows, such as out_of_memory",
    )


def _stop(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "trial", metavar="TRIAL", type=argument_types.count, help="number of the trial"
    )


def _enqueue(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--like",
        metavar="TRIAL",
        type=argument_types.count,
        help="start from the decisions of this trial",
    )
    parser.add_argument(
        "--set",
        metavar="PATH=VALUE",
        action="append",
        default=[],
        help="make one decision; the sampler makes those that are left open; repeatable",
    )
    parser.add_argument(
        "file", metavar="FILE.json", nargs="?", help="decisions by path, candidates, or a list"
    )


def _confirm(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    plan = ConfirmationPlan()
    parser.add_argument(
        "--top",
        metavar="K",
        type=_top,
        default=plan.top,
        help=f"candidates besides the default (default {plan.top})",
    )
    parser.add_argument(
        "--seeds",
        metavar="S",
        type=_seeds,
        default=plan.seeds,
        help=f"maximum number of seeds of each (default {plan.seeds})",
    )
    _address(parser)


def _promote(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--model", metavar="M", required=True, help="name of the model in the registry"
    )
    parser.add_argument(
        "--trial", metavar="N|best", type=_trial, default="best", help="trial (default best)"
    )
    parser.add_argument(
        "--alias", metavar="A", default="champion", help="alias of the version (default champion)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the champion without comparing the two"
    )
    parser.add_argument(
        "--reason", metavar="TEXT", help="reason for --force; kept with the version"
    )


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
        help="table, json or csv (default table)",
    )


def _db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="upgrade|check|backup", choices=("upgrade", "check", "backup")
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="file of the backup")


def _delete(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    _yes(parser)


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this study's checkpoints")
    _yes(parser)


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study")


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG|PRESET", help="a study.yaml or a preset's name")


def _address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="A", help="address of a running Ray cluster")


def _yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="delete; without it, only show")


def _trial(text: str) -> int | str:
    """Return a trial's number, or the word for the best one."""
    return text if text == "best" else argument_types.count(text)


def _top(text: str) -> int:
    """Return a number of candidates to confirm."""
    if not 1 <= (value := argument_types.count(text)) <= MAX_TOP:
        raise argparse.ArgumentTypeError(f"must be between 1 and {MAX_TOP}")
    return value


def _seeds(text: str) -> int:
    """Return a number of seeds of a confirmation."""
    if not MIN_SEEDS <= (value := argument_types.count(text)) <= MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"must be between {MIN_SEEDS} and {MAX_SEEDS}")
    return value


COMMANDS = {
    "init": Command(
        group="start",
        help="inspect your data and write a study file for it",
        module="init",
        add_options=_init,
    ),
    "space": Command(
        group="start",
        help="show a search space: its parameters, their cost, what is infeasible",
        module="space",
        add_options=_space,
    ),
    "search": Command(
        group="start",
        help="start a search, or continue the one of the same name",
        module="search",
        add_options=_search,
    ),
    "resume": Command(
        group="start",
        help="continue an interrupted search",
        module="search",
        function="resume",
        add_options=_resume,
    ),
    "list": Command(group="watch", help="show all studies", module="list"),
    "status": Command(
        group="watch",
        help="show the state of a study or of one of its trials",
        module="status",
        add_options=_status,
    ),
    "leaderboard": Command(
        group="watch",
        help="show a study's best trials",
        module="status",
        function="show_leaderboard",
        add_options=_leaderboard,
    ),
    "ui": Command(group="watch", help="open MLflow on the studies", module="ui", add_options=_ui),
    "extend": Command(
        group="steer",
        help="give a study more trials or hours, and continue it",
        module="steer.extend",
        add_options=_extend,
    ),
    "edit": Command(
        group="steer",
        help="change a study's space, constraints or maximum budget",
        module="steer.edit",
        add_options=_edit,
    ),
    "retry": Command(
        group="steer",
        help="run failed trials of one failure class again, as new trials",
        module="steer.retry",
        add_options=_retry,
    ),
    "enqueue": Command(
        group="steer",
        help="put a design of your own into a study; its sampler completes it",
        module="steer.enqueue",
        add_options=_enqueue,
    ),
    "pause": Command(
        group="steer",
        help="stop a running study; `resume` continues it",
        module="steer.pause",
        add_options=_study,
    ),
    "stop": Command(
        group="steer",
        help="end one trial; what it has measured counts",
        module="steer.stop",
        add_options=_stop,
    ),
    "confirm": Command(
        group="models",
        help="train a study's best candidates and its default with more seeds",
        module="confirm",
        add_options=_confirm,
    ),
    "promote": Command(
        group="models",
        help="register a study's best model after verifying it",
        module="promote",
        add_options=_promote,
    ),
    "predict": Command(
        group="models",
        help="run a registered model on images or arrays",
        module="predict",
        add_options=_predict,
    ),
    "verify": Command(
        group="maintenance",
        help="compare MLflow and the checkpoint files with the ledger",
        module="verify",
        add_options=_study,
    ),
    "sync": Command(
        group="maintenance",
        help="re-sync a study into its existing MLflow runs",
        module="sync",
        add_options=_study,
    ),
    "db": Command(
        group="maintenance",
        help="upgrade, check or back up the ledger",
        module="db",
        add_options=_db,
    ),
    "delete": Command(
        group="maintenance",
        help="delete a study with its runs, checkpoints and logs",
        module="delete",
        add_options=_delete,
    ),
    "clean": Command(
        group="maintenance",
        help="delete unreferenced files",
        module="clean",
        add_options=_clean,
    ),
}
"""All commands by name, in the order of `--help`."""
