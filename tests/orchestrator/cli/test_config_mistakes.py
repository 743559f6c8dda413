"""Every mistake in a study file is reported with its line, allowed values and suggested fix."""

from pathlib import Path

import pytest

from orchestrator.config.load import Override, differences, load, presets
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import ProblemsError
from search_spaces.catalog import catalog

KEYS = (
    "budget, checkpoint, confirm, constraints, data, engine, gates, name, objectives, pruner, "
    "resources, sampler, seed, seed_points, space, stop, teacher, tracking, train, warm_start"
)
MEASURED = (
    "activation_bytes, flops, parameters, train_accuracy, train_loss, train_mae, train_rmse, "
    "val_accuracy, val_loss, val_mae, val_rmse"
)
SPACES = ", ".join(catalog())

MISTAKES = {
    "": "1: space: is missing; give a catalog name or file.py:name",
    "space: hybird": f"1: space: there is no space 'hybird'. Known: {SPACES}; or file.py:name. "
    "Did you mean 'hybrid'?",
    "space: mine.py": "1: space: names no object of 'mine.py'; write mine.py:space",
    "space: 5": "1: space: needs text, not 5; put it in quotes",
    "space: tiny\nspcae: tiny": f"2: spcae: unknown key. Allowed: {KEYS}. Did you mean 'space'?",
    "space: tiny\nspace: hybrid": "2: space: is given twice (first in line 1)",
    "space: tiny\nname: ../../x": "2: name: not a name; allowed are 1 to 100 letters, digits, '.', "
    "'_' and '-', the first a letter or digit",
    "train: mine\nspace: tiny": "1: train: 'mine' is not a reference; write file.py:name",
    "space: tiny\nstop: {trails: 3, hours: 1}": "2: stop.trails: unknown key. "
    "Allowed: hours, target, trials. Did you mean 'trials'?",
    "space: tiny\nstop: {target: 0.9}": "2: stop: the search needs a limit; give trials or hours "
    "(a target may never be reached)",
    "space: tiny\nstop: {trials: 0}": "2: stop.trials: must be at least 1, not 0",
    "space: tiny\nstop: {trials: 1.5}": "2: stop.trials: needs a whole number, not 1.5",
    "space: tiny\nstop: {trials: many}": "2: stop.trials: needs a whole number, not 'many'",
    "space: tiny\nstop: {trials: true}": "2: stop.trials: needs a whole number, not true",
    "space: tiny\nstop: {hours: .inf}": "2: stop.hours: needs a finite number, not inf",
    "space: tiny\nstop: 5": "2: stop: needs keys and values, not 5. Keys: hours, target, trials.",
    "space: tiny\nobjectives:\n- metric: acuracy\n  direction: maximize": "3: "
    f"objectives[0].metric: nothing measures 'acuracy'. Measured: {MEASURED}. "
    "Did you mean 'val_accuracy'?",
    "space: tiny\nobjectives: [{metric: val_loss, direction: down}]": "2: "
    "objectives[0].direction: 'down' is not offered. Allowed: maximize, minimize.",
    "space: tiny\nobjectives: [{metric: weights/auxiliary, direction: maximize}]": "2: "
    "objectives[0].metric: 'weights/auxiliary' depends on the loss weights that the study "
    "decides: the search could improve it by changing them. Use a metric without loss weights, "
    "such as val_accuracy",
    "space: tiny\nobjectives: [{metric: val_loss}]": "2: objectives[0].direction: is missing; "
    "write maximize or minimize",
    "space: tiny\nobjectives: {metric: val_loss, direction: minimize}": "2: objectives: "
    "needs a list, like [...], not keys and values",
    "space: tiny\nobjectives: []": "2: objectives: needs at least one entry",
    "space: tiny\nobjectives: [{metric: val_loss, direction: minimize}, "
    "{metric: val_loss, direction: minimize}]": "2: objectives: metric 'val_loss' is given "
    "twice; keep one of them",
    "space: tiny\nconstraints: [{metric: latency_ms, at_most: 5}]": "2: constraints[0].metric: "
    "nothing measures 'latency_ms'. Measured: activation_bytes, flops, parameters.",
    "space: tiny\nconstraints: [{metric: val_loss, at_most: 5}]": "2: constraints[0].metric: "
    "'val_loss' is known only after training; make it an objective. "
    "Constraints: activation_bytes, flops, parameters.",
    "space: tiny\nconstraints: [{metric: flops, at_most: -2e6}]": "2: constraints[0].at_most: "
    "must be above 0, not -2000000.0",
    "space: tiny\nbudget: {minimum: 5, maximum: 2}": "2: budget: minimum 5 is above maximum 2; "
    "lower the minimum or raise the maximum",
    "space: tiny\nbudget: {unit: step}": "2: budget.unit: 'step' is not offered. Allowed: epoch.",
    "space: tiny\nsampler: {name: tpee}": "2: sampler.name: 'tpee' is not offered. "
    "Allowed: auto, tpe, random, nsga2, nsga3, gp. Did you mean 'tpe'?",
    "space: tiny\npruner: {name: asha}": "2: pruner.name: 'asha' is not offered. "
    "Allowed: halving, none.",
    "space: tiny\nengine: {name: in_process, address: auto}": "2: engine: engine 'in_process' runs "
    "in this process and takes no address; remove the address or use engine ray_tune",
    "space: tiny\nresources: {cpu: -1}": "2: resources.cpu: must be above 0, not -1",
    "space: tiny\nresources: {silence_s: 0}": "2: resources.silence_s: must be above 0, not 0",
    "space: tiny\nresources: {gpu: 4}": "2: resources.gpu: a trial trains on one GPU at most, "
    "not 4; give 1, or a share such as 0.5",
    "space: tiny\nresources: {gpu_found: true}": "2: resources.gpu_found: is reserved "
    "for archscout; remove it",
    "space: tiny\nresources: {cpus: 1}": "2: resources.cpus: unknown key. Allowed: cpu, gpu, "
    "silence_s. Did you mean 'cpu'?",
    "space: tiny\nresources: {gpu: 1.5}": "2: resources.gpu: 1.5 GPUs cannot be had: "
    "a share of one, or whole ones",
    "space: tiny\nseed: -1": "2: seed: must be at least 0, not -1",
    "space: tiny\nseed: 1_000": "2: seed: needs a whole number, not '1_000'",
    "space: tiny\nseed_points: [{a: [1]}]": "2: seed_points[0].a: needs a number, text, true or "
    "false, not a list",
    "space: tiny\ndata: {source: digts}": "2: data.source: nothing reads 'digts'. "
    "Known: digits, folder, idx, npz, pendulum, shapes, surrogate. Did you mean 'digits'?",
    "space: tiny\ndata: {source: idx}": "2: data.path: source 'idx' reads a folder; give its path",
    "space: tiny\ndata: {source: idx, path: /no/where}": "2: data.path: there is nothing at "
    "/no/where",
    "space: tiny\ndata: {source: digits, path: x}": "2: data.path: source 'digits' is built in and "
    "reads no path; remove it",
    "space: tiny\ndata: {split: {validation: 0.6, test: 0.5}}": "2: data.split: validation 0.6 and "
    "test 0.5 leave nothing to train on; their shares must sum to less than 1",
    "space: tiny\ndata: {split: {validation: 2.5}}": "2: data.split.validation: 2.5 is neither a "
    "share below 1 nor a whole number of examples",
    "space: tiny\nconfirm: {top: 0}": "2: confirm.top: must be at least 1, not 0",
    "space: tiny\nconfirm: {seeds: 2}": "2: confirm.seeds: must be at least 3, not 2",
    "space: tiny\ngates: [{metric: val_loss}]": "2: gates: not available yet; remove the entries",
    "space: tiny\nwarm_start: [3]": "2: warm_start[0]: needs text, not 3; put it in quotes",
    "space: tiny\nseed_points: [3]": "2: seed_points[0]: needs keys and values, not 3. "
    "Keys: parameter paths.",
    "a: &x 1\nspace: tiny": "1: a: anchor '&x'; write the value out where needed",
    "space: !!python/name:os.system tiny": "1: space: tag "
    "'tag:yaml.org,2002:python/name:os.system'; write a plain value",
    "space: tiny\n---\nspace: tiny": "2: a second document; keep one, without further '---'",
    "- space: tiny": "1: a study is keys and values, like 'space: hybrid'",
    "? [space]\n: tiny": "1: a key must be plain text",
}


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("study.yaml")


def refusal(path: Path, text: str | bytes, *overrides: Override) -> list[str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProblemsError) as refused:
        load(str(path), overrides)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_each_mistake_is_one_line_with_position_reason_and_suggested_fix(
    text: str, message: str, study_file: Path
) -> None:
    assert f"study.yaml:{message}" in refusal(study_file, text)


@pytest.mark.parametrize(
    "text", [text for text in MISTAKES if text.startswith("space: tiny\n") and "\n-" not in text]
)
def test_a_single_mistake_is_named_once(text: str, study_file: Path) -> None:
    assert len(refusal(study_file, text)) == 1


def test_all_mistakes_are_named_at_once_in_the_order_of_their_lines(study_file: Path) -> None:
    text = "seed: x\nspace: hybird\nstop: {trials: 0}\nbudget: {minimum: 9, maximum: 1}\nnme: a\n"
    lines = refusal(study_file, text)
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4", "5"]


def test_many_mistakes_are_truncated(study_file: Path) -> None:
    lines = refusal(study_file, "".join(f"key{number}: 1\n" for number in range(20_000)))
    assert len(lines) == 51
    assert lines[-1].endswith("more")


def test_a_user_file_that_is_not_there_is_named_with_the_nearest(study_file: Path) -> None:
    Path("mine.py").write_text("")
    lines = refusal(study_file, "space: mien.py:space")
    assert lines == [
        f"study.yaml:1: space: there is no file {Path.cwd() / 'mien.py'}. Did you mean 'mine.py'?"
    ]


def test_with_own_training_any_metric_is_measured_and_no_constraint_is(study_file: Path) -> None:
    Path("mine.py").write_text("")
    text = (
        "space: mine.py:space\ntrain: mine.py:train\n"
        "objectives: [{metric: f1.macro, direction: maximize}, "
        "{metric: 'a b', direction: minimize}]\n"
        "constraints: [{metric: flops, at_most: 5}]\n"
    )
    assert refusal(study_file, text) == [
        "study.yaml:3: objectives[1].metric: 'a b' is not a metric's name; use letters, digits, "
        "'_', '.', '-'",
        "study.yaml:4: constraints[0].metric: costs are not counted with your own training; "
        "remove the constraint",
    ]


def test_own_files_are_absolute_so_that_a_study_resumes_from_anywhere(study_file: Path) -> None:
    Path("mine.py").write_text("")
    study_file.write_text("space: mine.py:space\ntrain: ./mine.py:train\n")
    config = load(str(study_file))
    assert config.space == f"{Path.cwd()}/mine.py:space"
    assert config.train == f"{Path.cwd()}/mine.py:train"


def test_numbers_may_be_written_with_exponents_and_empty_keys_take_defaults(
    study_file: Path,
) -> None:
    study_file.write_text(
        "space: tiny\nconstraints: [{metric: parameters, at_most: 2e6}]\n"
        "data: {source: digits, path: , limit: }\ntracking: {experiment: }\nengine:\n"
    )
    config = load(str(study_file))
    assert config.constraints[0].at_most == 2e6
    assert config.data.path is None
    assert config.engine.name == "ray_tune"


def test_a_study_without_a_name_is_named_after_its_file(study_file: Path) -> None:
    study_file.write_text("space: tiny")
    assert load(str(study_file)).name == "study"


@pytest.mark.parametrize("preset", ["digits", "fashion", "pareto", "surrogate", "tiny"])
def test_each_preset_is_a_study_of_its_own_name(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.config.checks.exists", lambda path: True)
    assert load(preset).name == preset


def test_the_presets_are_those_that_the_handbook_names() -> None:
    ready = ("digits", "fashion", "pareto", "pendulum", "shapes", "surrogate", "tiny")
    assert presets() == ready


def test_overrides_replace_keys_and_errors_in_them_name_the_option() -> None:
    config = load(
        "tiny",
        [
            Override.parse("stop.trials", "7", "--trials"),
            Override.parse("objectives[0].metric", "val_loss", "--set"),
            Override.parse("objectives.0.direction", "minimize", "--set"),
            Override.parse("constraints", "[{metric: flops, at_most: 1e9}]", "--set"),
        ],
    )
    assert config.stop.trials == 7
    assert config.objectives[0].metric == "val_loss"
    assert config.constraints[0].at_most == 1e9


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("stop.trials", "x", "--set: stop.trials: needs a whole number, not 'x'"),
        ("buget.maximum", "3", f"--set: buget: unknown key. Allowed: {KEYS}. "
         "Did you mean 'budget'?"),
        ("seed.x", "1", "--set: seed.x: there is no such entry; set the section above it "
         "as a whole"),
        ("objectives[4].metric", "x", "--set: objectives[4].metric: there is no such entry; "
         "set the section above it as a whole"),
    ],
)  # fmt: skip
def test_a_mistaken_override_is_named(key: str, text: str, message: str) -> None:
    with pytest.raises(ProblemsError) as refused:
        load("tiny", [Override.parse(key, text, "--set")])
    assert message in str(refused.value).splitlines()


@pytest.mark.parametrize("key", ["", ".", "a..b", "stop."])
def test_an_invalid_key_is_refused(key: str) -> None:
    with pytest.raises(ProblemsError, match="--set: not a key; write --set stop"):
        Override.parse(key, "1", "--set")


def test_an_unknown_config_names_presets_and_the_nearest_file(study_file: Path) -> None:
    study_file.write_text("space: tiny")
    with pytest.raises(ProblemsError, match=r"studdy\.yaml: neither a preset nor a file.*study\.y"):
        load("studdy.yaml")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match="cannot be read"):
        load(str(tmp_path))


def test_a_stored_config_loads_as_the_same_config() -> None:
    config = load("pareto", [Override.parse("seed_points", "[{a.b: 1, c: x, d: 0.5}]", "--set")])
    assert StudyConfig.from_json(config.canonical_json()) == config


@pytest.mark.parametrize("key", ["teacher", "resources.silence_s"])
def test_a_key_that_is_unset_leaves_no_trace_in_the_stored_config(key: str) -> None:
    unset = load("digits")
    assert f'"{key.rpartition(".")[2]}"' not in unset.canonical_json()
    value = {"teacher": "digits/1", "resources.silence_s": "600"}[key]
    given = load("digits", [Override.parse(key, value, "--set")])
    assert StudyConfig.from_json(given.canonical_json()) == given != unset


def test_differences_are_listed_by_key() -> None:
    changed = load("tiny", [Override.parse("stop.trials", "9", "--set")])
    assert differences(load("tiny"), changed) == ["stop.trials: 4 -> 9"]
