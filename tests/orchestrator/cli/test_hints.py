"""Every command that the output suggests makes progress in the state of the study."""

import argparse
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.studies import UNUSED_PID

from orchestrator.cli import _parse, main
from orchestrator.commands import run_search
from orchestrator.commands.search import overrides
from orchestrator.commands.steer import requesting
from orchestrator.config.load import load
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ExitCode
from orchestrator.home import Home
from orchestrator.ledger import Holder, Ledger
from orchestrator.sampling.warm_start import StudyIdentity, load_warm_start
from orchestrator.study import prepare
from orchestrator.study.limits import exhausted_reason
from orchestrator.study.prepare import user_code
from orchestrator.trial import REUSED, Trial, TrialState
from workers import data as datasets
from workers.data import DataSpec
from workers.data.spec import NO_DATA
from workers.measurement import Measurement

DIGITS = datasets.load(DataSpec(source="digits"))
ENDS: dict[str, tuple[TrialState, str | None]] = {
    "complete": (TrialState.COMPLETE, None),
    "diverged": (TrialState.PRUNED, "diverged"),
    "infeasible": (TrialState.PRUNED, "infeasible"),
    "failed": (TrialState.FAIL, "user_code"),
}


@dataclass(frozen=True)
class Situation:
    """A study in some state."""

    state: str
    trials: tuple[str, ...] = ()
    """Outcome of each trial; `waiting` ones have one measurement."""
    stop: str = "{trials: 9}"
    spent_s: float = 10.0
    alive: bool = False

    @property
    def any_complete(self) -> bool:
        return "complete" in self.trials


SITUATIONS = {
    "finished": Situation("finished", ("complete", "failed"), "{trials: 2}"),
    "finished, several complete": Situation("finished", ("complete",) * 3, "{trials: 3}"),
    "finished, all diverged": Situation("finished", ("diverged", "diverged"), "{trials: 2}"),
    "finished, nothing tried": Situation("finished", (), "{hours: 0.001}"),
    "time used up": Situation("finished", ("complete", "waiting"), "{hours: 0.001}"),
    "time used up, nothing complete": Situation("finished", ("waiting",), "{hours: 0.001}"),
    "target reached": Situation("finished", ("complete",), "{trials: 9, target: 0.1}"),
    "interrupted": Situation("interrupted", ("complete", "waiting")),
    "interrupted, nothing complete": Situation("interrupted", ("waiting",)),
    "driver died": Situation("running", ("failed", "waiting")),
    "running": Situation("running", ("waiting",), alive=True),
    "broken off": Situation("broken", ("failed", "failed", "failed")),
    "broken off, all failed": Situation("broken", ("failed", "failed"), "{trials: 2}"),
    "broken off, infeasible": Situation("broken", ("infeasible", "infeasible")),
}


@dataclass(frozen=True)
class Scene:
    """The files of one situation."""

    home: Path
    config: Path
    situation: Situation

    def run(self, *words: str) -> int:
        return main(["--home", str(self.home), *words])

    def copy(self, folder: Path) -> "Scene":
        return replace(self, home=Path(shutil.copytree(self.home, folder)))


def made(folder: Path, situation: Situation) -> Scene:
    scene = Scene(folder / "home", folder / "study.yaml", situation)
    scene.config.write_text(f"name: bars\nspace: tiny\nstop: {situation.stop}\n")
    config: StudyConfig = load(str(scene.config), [])
    scene.home.mkdir()
    holder = Holder.of_this_process()
    with Ledger.open(scene.home / "ledger.db") as ledger:
        _, lease = ledger.open_study(
            name="bars",
            config_json=config.canonical_json(),
            space_name="tiny",
            space_version="1",
            data_digest=DIGITS.digest,
            holder=holder if situation.alive else replace(holder, pid=UNUSED_PID),
        )
        for number, end in enumerate(situation.trials):
            add(ledger, lease, number, end)
        ledger.add_spent(lease, situation.spent_s)
        ledger.set_study_state(lease, situation.state)
        if not situation.alive:
            ledger.release(lease)
    return scene


def add(ledger: Ledger, lease: Any, number: int, end: str, **more: Any) -> None:
    given: dict[str, Any] = {"params": {}, "distributions": {}, "candidate": {}}
    given |= {"uid": f"{number:032x}"} | more
    if end == "infeasible":
        given |= {"state": TrialState.PRUNED, "reason": end, "violations": {"flops": 1.0}}
    new = Trial(number=number, digest=f"{number}", seed=0, **given)
    trial = ledger.add_trial(lease, new)
    if trial.state.is_terminal:
        return
    key = ledger.start_attempt(lease, trial.uid)
    seen = Measurement(fidelity=1, metrics={"val_accuracy": 0.5}, elapsed_s=1.0)
    ledger.record(lease, key, seen)
    if end == "waiting":
        ledger.requeue(lease, key, "interrupted")
        return
    state, reason = ENDS[end]
    failure = {"kind": reason, "message": "no", "digest": "0"} if end == "failed" else None
    values = (0.5,) if end == "complete" else None
    ledger.finish(
        lease, trial.uid, key=key, state=state, reason=reason, values=values, failure=failure
    )


def commands_in(text: str) -> list[list[str]]:
    """Return the arguments of every command in a text."""
    ends = r"\n|;| or archscout|  |\. |$"
    found = re.findall(rf"archscout (.*?)(?={ends})", text.replace(" or archscout", "\narchscout"))
    return [shlex.split(words) for words in found]


def parsed(scene: Scene, words: list[str]) -> argparse.Namespace:
    return _parse([str(scene.config) if word == "CONFIG" else word for word in words])


def starts_a_search(scene: Scene, options: argparse.Namespace) -> bool:
    """Return True for the config of another study, which may warm-start from earlier ones."""
    if options.config == "digits":
        return True
    config = load(options.config, overrides(options))
    with Ledger.open(scene.home / "ledger.db") as ledger:
        load_warm_start(
            ledger,
            config,
            StudyIdentity(data_digest=DIGITS.digest, code_digest=None, space=("tiny", "1")),
        )
        return ledger.study(config.name) is None


def resumes(scene: Scene, _: argparse.Namespace) -> bool:
    """Return True if a driver would start a trial."""
    with Ledger.open(scene.home / "ledger.db") as ledger:
        row = ledger.study("bars")
        assert row is not None
        states = [trial.state for trial in ledger.trials(row.id)]
    room = TrialState.WAITING in states or scene.situation.stop == "{trials: 9}"
    return room and row.state != "finished" and not scene.situation.alive


def extends(scene: Scene, options: argparse.Namespace) -> bool:
    """Return True if the study is extended, and would start a trial then."""
    if scene.run("extend", "bars", *_extension(options)) != 0:
        return False
    with Ledger.open(scene.home / "ledger.db") as ledger:
        row = ledger.study("bars")
        assert row is not None
        config = StudyConfig.from_json(row.config_json)
        trials = ledger.trials(row.id)
    return row.state != "finished" and exhausted_reason(config, row.spent_s, trials) is None


def _extension(options: argparse.Namespace) -> list[str]:
    trials = [] if options.trials is None else ["--trials", f"+{options.trials}"]
    return trials + ([] if options.hours is None else ["--hours", f"+{options.hours}"])


JUDGES: dict[str, Callable[[Scene, argparse.Namespace], bool]] = {
    "search": starts_a_search,
    "resume": resumes,
    "confirm": lambda scene, _: (
        scene.situation.trials.count("complete") > 1 and not scene.situation.alive
    ),
    "promote": lambda scene, _: scene.situation.any_complete,
    "extend": extends,
    "edit": lambda scene, options: (
        scene.run("edit", "bars", "--dry-run", *(w for s in options.set for w in ("--set", s))) == 0
    ),
    "retry": lambda scene, options: scene.run("retry", "bars", "--class", options.failure) == 0,
    "status": lambda scene, options: (
        options.trial is None or options.trial < len(scene.situation.trials)
    ),
    "leaderboard": lambda *_: True,
    "ui": lambda *_: True,
    "sync": lambda scene, _: not scene.situation.alive,
    "delete": lambda scene, options: options.yes and not scene.situation.alive,
}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no search, and load the data once."""
    monkeypatch.setattr(run_search, "search", lambda *_, **__: ExitCode.DONE)
    monkeypatch.setattr(prepare, "load", lambda _: DIGITS)
    monkeypatch.setattr(requesting, "_TIMEOUT_S", 0.0)  # a double holds the lease and never answers


GIVEN = (
    "search CONFIG",
    "search CONFIG --set seed=1",
    "search CONFIG --set budget.maximum=27",
    "resume bars",
    "list",
    "status bars",
    "leaderboard bars",
    "promote bars --model m",
    "retry bars --class user_code",
    "retry bars --class diverged",
    "extend bars --trials +3",
)


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_command_that_is_named_makes_progress(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = made(tmp_path, SITUATIONS[name])
    for words in GIVEN:
        if words.startswith("promote") and scene.situation.any_complete:
            continue  # what it says then is of the model, and has tests of its own
        after = scene.copy(tmp_path / words.replace(" ", "-"))
        capsys.readouterr()
        after.run(*words.replace("CONFIG", str(scene.config)).split())
        named = commands_in("".join(capsys.readouterr()))
        for command in named:
            assert command[:2] == ["--home", str(after.home)], "it would look elsewhere"
            if "--help" not in command:
                options = parsed(after, command)
                assert JUDGES[options.command](after, options), f"{words}: {command}"
        if words.startswith("promote") or "--set" in words:
            assert named


def test_a_command_without_effect_would_be_detected(tmp_path: Path) -> None:
    over = made(tmp_path, SITUATIONS["time used up, nothing complete"])
    for words in (
        "resume bars",
        "promote bars --model m",
        "search CONFIG",
        "status bars --trial 7",
    ):
        options = parsed(over, words.split())
        assert not JUDGES[options.command](over, options)


def test_more_trials_after_the_end_extend_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = made(tmp_path, SITUATIONS["finished"])
    for _ in range(2):  # given again, it changes nothing more
        assert over.run("search", str(over.config), "--trials", "5") == 0
    assert "'bars' is extended, now until trials 5." in capsys.readouterr().out
    with Ledger.open(over.home / "ledger.db") as ledger:
        row = ledger.study("bars")
        assert row is not None
        assert StudyConfig.from_json(row.config_json).stop.trials == 5
        assert row.state == "interrupted"
        kinds = [event.kind for event in ledger.events(row.id, 0)]
    assert (kinds.count("study_changed"), kinds.count("request_added")) == (1, 1)


def test_a_driver_that_runs_is_asked_for_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = made(tmp_path, SITUATIONS["running"])
    search = ["search", str(running.config)]
    for words in (
        [*search, "--trials", "12"],
        ["extend", "bars", "--trials", "+3"],
    ):
        assert running.run(*words) == 0
        assert "is busy and will answer later" in capsys.readouterr().out
    assert running.run(*search, "--set", "resources.cpu=2") == ExitCode.REFUSED
    with Ledger.open(running.home / "ledger.db") as ledger:
        assert len(ledger.requests(1)) == 2


@pytest.mark.parametrize(
    ("situation", "option"),
    [("time used up", "--hours 1"), ("target reached", "--set stop.target=null"), ("finished", "")],
)
def test_the_suggested_study_does_not_stop_for_the_same_reason(
    tmp_path: Path, situation: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    over = made(tmp_path, SITUATIONS[situation])
    assert over.run("search", str(over.config), "--set", "seed=1") == ExitCode.INPUT
    said = capsys.readouterr().err
    suggested = said[said.index("Start another study: ") :].splitlines()[0]
    assert suggested.endswith(f"--set 'warm_start=[bars]' {option}".rstrip())
    options = _parse(shlex.split(suggested)[4:])
    load(options.config, overrides(options))


def test_changed_data_of_a_finished_study_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = made(tmp_path, SITUATIONS["finished"])
    other = replace(DIGITS, digest="sha256:other")
    monkeypatch.setattr(prepare, "load", lambda _: other)
    for words in (["search", str(over.config)], ["resume", "bars"]):
        assert over.run(*words) == ExitCode.INPUT
        out, err = capsys.readouterr()
        assert "the data have changed since it was started" in err
        assert "--name bars2" in err
        assert not out


def test_missing_data_do_not_hide_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_: DataSpec) -> Any:
        raise datasets.DataError("photos is not there")

    over = made(tmp_path, SITUATIONS["finished"])
    monkeypatch.setattr(prepare, "load", gone)
    assert over.run("resume", "bars") == ExitCode.DONE
    out, err = capsys.readouterr()
    assert "photos is not there" in err
    assert "1 complete" in out


def test_a_result_of_an_earlier_study_is_promoted_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = made(tmp_path, SITUATIONS["finished"])
    scene.config.write_text("name: later\nspace: tiny\nstop: {trials: 2}\nwarm_start: [bars]\n")
    with Ledger.open(scene.home / "ledger.db") as ledger:
        _, lease = ledger.open_study(
            name="later",
            config_json=load(str(scene.config), []).canonical_json(),
            space_name="tiny",
            space_version="1",
            data_digest=DIGITS.digest,
            holder=Holder.of_this_process(),
        )
        answered = {"state": TrialState.COMPLETE, "reason": REUSED, "values": (0.5,)}
        add(ledger, lease, 0, "complete", uid="f" * 32, parent=f"{0:032x}", **answered)
        ledger.set_study_state(lease, "finished")
        ledger.release(lease)
    assert scene.run("resume", "later") == ExitCode.DONE
    assert "promote bars --trial 0 --model later" in capsys.readouterr().out


def test_the_suggested_name_is_free() -> None:
    from orchestrator.commands.hints import next_free_name

    assert next_free_name("bars", ["bars"]) == "bars2"
    assert next_free_name("bars", ["bars", "bars2", "bars3"]) == "bars4"


def test_a_home_with_a_space_is_quoted_for_a_shell(tmp_path: Path) -> None:
    home = Home.find(str(tmp_path / "my studies"), {})
    assert shlex.split(home.program) == ["archscout", "--home", str(tmp_path / "my studies")]


def test_a_finished_study_without_data_has_none_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "def space(trial): trial.suggest_int('n', 0, 9)\ndef train(d, c): yield {}\n"
    Path("mine.py").write_text(text)
    Path("own.yaml").write_text("name: own\nspace: mine.py:space\ntrain: mine.py:train\n")
    config = load("own.yaml", [])
    code = user_code(config)
    assert code is not None
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        _, lease = ledger.open_study(
            name="own",
            config_json=config.canonical_json(),
            space_name="space",
            space_version="1",
            data_digest=NO_DATA,
            code_digest=code.digest,
            holder=Holder.of_this_process(),
        )
        ledger.set_study_state(lease, "finished")
        ledger.release(lease)
    assert main(["--home", str(tmp_path), "resume", "own"]) == ExitCode.DONE
    assert "changed" not in capsys.readouterr().err
