"""The YAML reader refuses unsafe constructs, quickly, and never with a traceback."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.config.load import load
from orchestrator.config.strict_yaml import parse, plain_value
from orchestrator.errors import ProblemsError

LAUGHS = "a0: &a0 [ha, ha, ha, ha]\n" + "".join(
    f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}, *a{level - 1}, *a{level - 1}]\n"
    for level in range(1, 40)
)
HOSTILE = {
    "billion laughs": LAUGHS.encode(),
    "deep lists": b"[" * 250_000,
    "deep mappings": b"{a: " * 60_000,
    "deep blocks": "".join(f"{' ' * depth}a:\n" for depth in range(700)).encode(),
    "deep keys": b"? " * 100_000,
    "many keys": "".join(f"k{number}: 1\n" for number in range(25_000)).encode(),
    "one key often": b"a: 1\n" * 50_000,
    "a long key": b"x" * 260_000 + b": 1",
    "a long number": b"space: tiny\nseed: " + b"9" * 250_000,
    "a long word": b"space: " + b"x" * 250_000,
    "a long near miss": b"space: " + b"hybri" * 50_000,
    "many documents": b"---\n" * 60_000,
    "tags": b"a: !!python/object/apply:os.system ['touch hacked']\n",
    "own tags": b"%TAG ! tag:example.org,2000:\n---\na: !b c\n",
    "UTF-16": "space: tiny".encode("utf-16"),
    "UTF-32": "space: tiny".encode("utf-32"),
    "NUL": b"space: ti\x00ny",
    "escape codes": b"space: \x1b[2Jtiny",
    "not UTF-8": b"a: 1\nspace: t\xffny",
    "surrogates": b"space: \xed\xa0\x80",
    "unclosed": b"space: [tiny",
    "tabs": b"stop:\n\ttrials: 3",
    "merge": b"space: tiny\n<<: {seed: 1}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_within_two_seconds_and_runs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_bytes(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(ProblemsError) as refused:
        load(str(path))
    assert time.process_time() - start < 2
    assert str(refused.value).isprintable() or "\n" in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_more_than_256_kb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: reading all of it would not end
    with pytest.raises(ProblemsError, match="larger than 256 KB; not read"):
        load(str(path))


def test_a_file_of_exactly_256_kb_is_read(tmp_path: Path) -> None:
    text = b"space: tiny\n#"
    assert parse(text + b"x" * (256 * 1024 - len(text)), "f").value == {"space": "tiny"}


def test_a_utf8_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbfspace: tiny", "f").value == {"space": "tiny"}


def test_the_line_of_every_key_and_entry_is_known() -> None:
    lines = parse(b"a:\n  b: 1\nc:\n- x\n- d: 2\n", "f").lines
    assert lines[("a", "b")] == 2
    assert lines[("c", 1)] == 5
    assert lines[("c", 1, "d")] == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e6", 2e6), ("2.0e6", 2e6), ("-1", -1), ("+3", 3), (".5", 0.5), ("1.", 1.0),
        ("0x1F", 31), ("0o17", 15), ("017", 17), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("yes", "yes"), ("no", "no"), ("on", "on"),
        ("1:30", "1:30"), ("2001-01-01", "2001-01-01"), ("1_000", "1_000"), ("'1'", "1"),
        ('"true"', "true"), ("e5", "e5"), (".", "."), ("-.inf", float("-inf")),
    ],
)  # fmt: skip
def test_plain_values_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"a: {text}".encode(), "f").value["a"]
    assert found == value
    assert type(found) is type(value)


def stays_text(text: str) -> bool:
    """Return whether YAML 1.2 reads as text what PyYAML, which writes YAML 1.1, leaves unquoted."""
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))
    return not tag.endswith(":str") or isinstance(plain_value(text), str)


texts = st.text().filter(stays_text)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(tree=st.dictionaries(st.text(min_size=1), plain, max_size=5))
@settings(max_examples=100, deadline=None)
def test_plain_data_dumped_by_pyyaml_load_unchanged(tree: dict[str, Any]) -> None:
    text = yaml.safe_dump(tree, allow_unicode=False, sort_keys=False)
    if "&" in text or "*" in text:  # equal parts may be dumped as anchors, which are refused
        return
    try:
        document = parse(text.encode(), "f")
    except ProblemsError:
        assert any(not part.isprintable() for part in _texts(tree))
        return
    assert document.value == tree


def test_text_that_pyyaml_leaves_unquoted_can_be_a_number_in_yaml_1_2() -> None:
    assert not stays_text("0E0")
    text = yaml.safe_dump({"0": "0E0"})  # text in YAML 1.1, whose floats need a point
    assert text == "'0': 0E0\n"
    assert parse(text.encode(), "f").value == {"0": 0.0}


def _texts(tree: object) -> list[str]:
    if isinstance(tree, dict):
        return [text for pair in tree.items() for part in pair for text in _texts(part)]
    if isinstance(tree, list):
        return [text for part in tree for text in _texts(part)]
    return [tree] if isinstance(tree, str) else []


fragments = st.sampled_from(
    ["space", "stop", ": ", "\n", "- ", "  ", "{", "}", "[", "]", "&a ", "*a", "!!str ", "'", '"',
     "|", ">", "%YAML 9.9\n", "---\n", "...\n", "? ", "<<", "#", "\t", "trials", "1e9", "hybrid",
     "\ufeff", "\u202e", "\x00", "\x85", ",", "data", "objectives", "null", "=", "@", "`"]
)  # fmt: skip


@given(text=st.one_of(st.lists(fragments, max_size=30).map("".join).map(str.encode), st.binary()))
@example(text=b"")
@example(text=b"? ")
@example(text=b": : :")
@example(text=b"space: tiny\nobjectives: [[{}]]\ndata: []\nstop: [1]\nconstraints: {a: 1}")
@example(text=b"space: {tiny: 1}\ntrain: []\ndata: {source: [], path: {}}\nname: {}")
@settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_is_either_a_study_or_refused_in_words(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(text)
    message = _refusal(path)
    assert message is None or (message and all(map(str.isprintable, message.splitlines())))


def _refusal(path: Path) -> str | None:
    try:
        load(str(path))
    except ProblemsError as refused:
        return str(refused)
    return None
