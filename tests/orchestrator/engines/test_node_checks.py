"""Each node is checked once before it trains trials."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.engines.ray_tune import node_checks
from orchestrator.engines.ray_tune.node_checks import Nodes, NodesUnfitError, node_problem, release
from search_spaces.user_code import UserCode
from workers.storage import LocalFolder


class Ray:
    """Double of ray: answers for its nodes; a node without an answer is still busy."""

    exceptions = SimpleNamespace(RayTaskError=LookupError, RayError=ConnectionError)

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def wait(self, references: list[str], timeout: float) -> tuple[list[str], list[str]]:
        ready = [name for name in references if name in self.answers]
        return ready, [name for name in references if name not in ready]

    def get(self, name: str, timeout: float) -> Any:
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: Nodes, name: str) -> str:
        self._ray.asked.append(name)
        return name

    monkeypatch.setattr(Nodes, "_ask", ask)


def cluster(*names: str) -> list[dict[str, str]]:
    return [{"NodeID": name, "NodeManagerAddress": f"10.0.0.{name[-1]}"} for name in names]


def test_a_node_is_checked_once_and_one_that_joins_is_not_waited_for(tmp_path: Path) -> None:
    ray = Ray(n1=None, n2=None)
    made = Nodes(ray, LocalFolder(tmp_path / "checkpoints"), cuda=False)
    made.require(lambda: cluster("n1", "n2"))
    made.watch(cluster("n1", "n2", "n3"))
    made.watch(cluster("n1", "n2", "n3"))
    assert ray.asked == ["n1", "n2", "n3"]
    ray.answers["n3"] = "lacks it"
    messages: list[str] = []
    for _ in range(2):
        made.watch(cluster("n1", "n2", "n3", "n4"), messages.append)
    [said] = messages
    assert said.startswith("excluded: node 10.0.0.3: lacks it. ")
    accepted = [node["NodeID"] for node in cluster("n1", "n2", "n3", "n4") if made.accept(node)]
    assert accepted == ["n1", "n2"]
    assert made.placement() == {"bundle_label_selector": [{"ray.io/node-id": "!in(n3)"}]}
    made.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"n1": None, "n2": "lacks it", "n3": "lacks it"}, r"10.0.0.2: lacks it \(and 1 more"),
        ({"n1": LookupError("in a task:\nModuleNotFoundError: orchestrator")}, "ModuleNotFound"),
        ({"n1": None}, "do not answer: 10.0.0.2, 10.0.0.3"),
        ({"n1": ConnectionError(), "n2": None, "n3": None}, "do not answer: 10.0.0.1"),
    ],
)
def test_nodes_that_will_not_do_are_named(
    answers: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_checks, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(node_checks, "SLOW_S", 0.1)
    messages: list[str] = []
    with pytest.raises(NodesUnfitError, match=said):
        Nodes(Ray(**answers), None, cuda=True).require(
            lambda: cluster("n1", "n2", "n3"), messages.append
        )
    if "do not answer" in said:
        waited = said.partition(": ")[2]
        assert messages == [f"waiting for nodes to load what trials need: {waited}"]


def test_nothing_is_checked_if_nothing_is_needed() -> None:
    ray = Ray()
    Nodes(ray, None, cuda=False).require(lambda: cluster("n1"))
    assert ray.asked == []


def test_a_node_looks_for_what_the_driver_left_and_writes_beside_it(tmp_path: Path) -> None:
    made = Nodes(Ray(), LocalFolder(tmp_path), cuda=False)
    assert node_problem(str(made._mark), False) is None
    assert len(list(Path(str(made._mark)).iterdir())) == 2
    said = node_problem(str(tmp_path / "not-shared" / "mark"), False)
    assert said is not None
    assert "cannot read and write" in said
    assert not (tmp_path / "not-shared").exists()
    made.close()


def test_nodes_that_are_other_machines_are_always_checked() -> None:
    ray = Ray(n1=None)
    made = Nodes(ray, None, cuda=False, elsewhere=True)
    assert not made.accept(cluster("n1")[0])
    made.require(lambda: cluster("n1"))
    assert made.accept(cluster("n1")[0])
    assert made.placement() == {}


def test_a_node_with_another_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = release()
    assert node_checks._node_check(here)(None, False, None) is None
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    said = node_checks._node_check(here)(None, False, None)
    assert said == f"archscout 0.0.1 there, {here} here: install the same release on both"


def test_a_node_without_what_a_users_file_imports_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package_here\ndef train(d, c): ...\n")
    code = UserCode.read([f"{tmp_path / 'mine.py'}:train"])
    said = node_problem(None, False, code)
    assert said is not None
    assert "mine.py:1: cannot be run: ModuleNotFoundError: No module named 'no_such_" in said
    (tmp_path / "mine.py").write_text("def train(d, c): ...\n")
    assert node_problem(None, False, UserCode.read([f"{tmp_path / 'mine.py'}:train"])) is None
