import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from orchestrator.figures.architecture import Shapes, diagram
from search_spaces.catalog import example, load
from search_spaces.catalog.known import known
from search_spaces.domains.suggester import RandomSuggester
from search_spaces.task import Task

TASK = Task(inputs={"image": (3, 37, 30)}, num_classes=7)
SPACES = ["hybrid", "convolution", "transformer", "tiny", "wide"]


def positions(
    architecture: Any, task: Task | None = TASK, shapes: Shapes | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Return the coordinates of each text in the drawing."""
    found: dict[str, list[tuple[float, float]]] = {}
    for element in ET.fromstring(diagram(architecture, shapes, task)).iter():
        if element.tag.endswith("}text"):
            text = (element.text or "").replace("\N{MULTIPLICATION SIGN}", "x")
            at = float(element.attrib["x"]), float(element.attrib["y"])
            found.setdefault(text, []).append(at)
    return found


def stage(block: Any, **given: Any) -> dict[str, Any]:
    return {"width": 32, "depth": 1, "reduction": "none", "block": block, **given}


def network(*stages: Any) -> dict[str, Any]:
    return {
        "streams": {
            "image": {
                "stem": {"kind": "convolution", "width": 16, "kernel": 3, "reduction": "none"},
                "stages": list(stages),
            }
        },
        "fusion": {"kind": "concatenate", "pooling": "average"},
        "head": {"kind": "classify", "dropout": 0.25},
    }


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(12))
def test_shapes_in_the_drawing_are_those_of_the_network(space: str, seed: int) -> None:
    architecture = load(space).resolve(RandomSuggester(seed)).architecture
    promised = [
        " x ".join(map(str, shape))
        for name, shape in architecture.walk(TASK).items()
        if name.startswith("streams.")
    ]
    places = positions(architecture.to_dict(), TASK, architecture.walk(TASK))
    seen = sorted(
        (x, text)
        for text, at in places.items()
        for x, _ in at
        if re.fullmatch(r"\d+( x \d+)+", text)
    )
    assert [text for _, text in seen] == ["3 x 37 x 30", *promised]


@pytest.mark.parametrize("space", ["sequence", "text", "vector", "image_text", "image_sound"])
@pytest.mark.parametrize("seed", range(6))
def test_shapes_of_other_modalities_are_those_of_the_network(space: str, seed: int) -> None:
    architecture = load(space).resolve(RandomSuggester(seed)).architecture
    task = example(space)
    promised = [*task.inputs.values()] + [
        shape for name, shape in architecture.walk(task).items() if name.startswith("streams.")
    ]
    places = positions(architecture.to_dict(), task, architecture.walk(task))
    seen = {text: len(at) for text, at in places.items() if re.fullmatch(r"\d+( x \d+)*", text)}
    words = [" x ".join(map(str, shape)) for shape in promised]
    assert seen == {word: words.count(word) for word in words}


@pytest.mark.parametrize("name", [*SPACES, "sequence", "text", "vector", "image_text"])
def test_every_block_of_the_catalog_has_a_label_of_its_own(name: str) -> None:
    for seed in range(30):
        data = load(name).resolve(RandomSuggester(seed)).architecture.to_dict()
        kinds = {kind for kind in re.findall(r"'kind': '(\w+)'", str(data)) if "_" in kind}
        assert not kinds & set(positions(data, None)), kinds


def test_blocks_of_a_chain_are_in_a_row_and_a_fixed_mix_is_not_a_gate() -> None:
    attention = {"kind": "attention", "heads": 4, "mlp_ratio": 2.0, "scope": "grid"}
    residual = {"kind": "residual", "kernel": 3}
    chain = {"kind": "chain", "blocks": [residual, attention]}
    places = positions(network(stage(chain)))
    assert places["residual"][0][0] < places["grid"][0][0]
    assert places["residual"][0][1] == places["grid"][0][1]
    parallel = {"kind": "parallel", "first": chain, "second": attention, "mix": "sum"}
    places = positions(network(stage(parallel)))
    assert {"+", "residual", "grid"} <= set(places)
    assert "gate" not in places
    assert places["residual"][0][1] < places["+"][0][1]


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ({"kind": "gated", "width": 64, "pooling": "average"}, ("gated mix", "64 wide")),
        ({"kind": "cross_attention", "asking": "sound"}, ("cross-attention", "sound queries")),
        ({"kind": "two_tower", "width": 32}, ("two towers", "32 wide, L2 norm")),
    ],
)
def test_the_label_of_a_fusion_names_its_kind(
    fusion: dict[str, Any], words: tuple[str, ...]
) -> None:
    assert set(words) <= set(positions({**network(), "fusion": fusion}))


def test_the_label_of_a_head_lists_its_outputs() -> None:
    both = Task(inputs={"image": (3, 8, 8)}, num_classes=3, num_values=1)
    places = positions({**network(), "head": {"kind": "both", "dropout": 0.0}}, both)
    assert {"3 classes", "and 1 target"} <= set(places)
    places = positions({**network(), "head": {"kind": "embed", "width": 16}}, both)
    assert {"projection", "16 wide, L2 norm"} <= set(places)


def test_branches_of_a_gate_are_parallel_and_merge_in_it() -> None:
    gate = {
        "kind": "gate",
        "convolution": {"kind": "mbconv", "kernel": 5, "expansion": 3, "squeeze": True},
        "attention": {"kind": "attention", "heads": 4, "mlp_ratio": 2.0},
    }
    places = positions(network(stage(gate, depth=2)))
    (convolution,), (attention,), (mixed,) = places["MBConv"], places["attention"], places["gate"]
    assert convolution[0] == attention[0] < mixed[0]
    assert convolution[1] < mixed[1] < attention[1]
    assert "5x5, expansion 3, SE" in places
    assert "4 heads, MLP x2" in places
    assert "stage 1 (2x)" in places


def test_kinds_differ_in_color() -> None:
    attention = {"kind": "attention", "heads": 4, "mlp_ratio": 2.0}
    with_attention = diagram(network(stage(attention)))
    without = diagram(network(stage({"kind": "residual", "kernel": 3})))
    assert "#ffedd5" in with_attention
    assert "#ffedd5" not in without


def test_a_users_block_shows_its_kind_and_numbers_and_its_shape_if_known() -> None:
    blur = {"kind": "blur<&>", "size": 3}
    residual = {"kind": "residual", "kernel": 3}
    shapes = {"streams.image.stages.0": (48, 9, 9)}
    texts = positions(network(stage(blur, width=48), stage(residual, width=64)), TASK, shapes)
    assert {"blur<&>", "size 3", "48 x 9 x 9", "64 wide"} <= set(texts)


def test_widths_are_shown_if_shapes_are_unknown() -> None:
    places = positions(network(stage({"kind": "residual", "kernel": 3})), None)
    assert "32 wide" in places
    assert not any(" x " in text for text in places)


def test_streams_are_one_below_the_other_and_concatenated() -> None:
    both = network(stage({"kind": "residual", "kernel": 3}))
    patches = {"kind": "patch", "width": 24, "patch": 4}
    both["streams"]["sound"] = {"stem": patches, "stages": []}
    task = Task(inputs={"image": (3, 8, 8), "sound": (1, 16, 16)}, num_classes=3)
    places = positions(both, task, {"streams.sound.stem": (24, 4, 4)})
    assert places["image"][0][1] < places["concatenation"][0][1] < places["sound"][0][1]
    assert "24 x 4 x 4" in places
    assert "3 classes" in places


def test_nothing_is_outside_the_drawing() -> None:
    architecture = load("hybrid").resolve(RandomSuggester(5)).architecture
    drawing = diagram(architecture.to_dict(), architecture.walk(TASK), TASK)
    root = ET.fromstring(drawing)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for element in root.iter():
        if element.tag.endswith("}rect"):
            x, y = float(element.attrib.get("x", 0)), float(element.attrib.get("y", 0))
            assert 0 <= x <= x + float(element.attrib["width"]) <= width
            assert 0 <= y <= y + float(element.attrib["height"]) <= height


def test_drawing_loads_no_torch() -> None:
    code = "import sys, orchestrator.figures.architecture; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["plain_cnn", "cnn_28", "hybrid_cvt"])
def test_a_stage_without_blocks_shows_its_reduction(name: str) -> None:
    texts = positions(known(name).to_dict(), Task(inputs={"image": (1, 28, 28)}, num_classes=10))
    assert not [text for text in texts if re.search(r", x\d", text)]
    assert any(re.fullmatch(r"\dx\d", text) for text in texts)
