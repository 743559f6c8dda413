"""Nothing is written or removed outside of the folder that it belongs to."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.paths import PathOutsideError, beneath, remove
from workers.storage import RemoteFolder

PARTS = st.sampled_from(["a", "b", "..", ".", "out", "up", "loop", "link", "\0", "x y", "ä"])
NAMES = st.lists(PARTS, min_size=1, max_size=6).map("/".join) | st.text(max_size=12)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with links that lead out of it, up, around and to itself."""
    base = tmp_path_factory.mktemp("tree")
    for folder in ("root/a/b", "precious/b", "root/x y"):
        (base / folder).mkdir(parents=True)
    (base / "precious" / "a").write_text("theirs")
    root = base / "root"
    (root / "out").symlink_to(base / "precious")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "a" / "link").symlink_to(root / "x y")
    return base


@given(name=NAMES)
def test_paths_out_of_the_root_are_refused_and_all_others_are_below_it(
    tree: Path, name: str
) -> None:
    root = tree / "root"
    try:
        found = beneath(root / name, root)
    except PathOutsideError:
        return
    assert os.path.realpath(found).startswith(f"{os.path.realpath(root)}/")


@given(name=NAMES)
def test_removing_by_any_name_leaves_what_is_outside(tree: Path, name: str) -> None:
    root = tree / "root"
    # On a copy: whatever may go is gone afterwards.
    work = tree / "copy"
    _copy(root, work)
    try:
        remove(work / name, work)
    except (PathOutsideError, OSError, ValueError):
        pass
    else:
        assert not os.path.lexists(work / name)
    assert work.is_dir()
    assert (tree / "precious" / "a").read_text() == "theirs"
    assert (tree / "precious" / "b").is_dir()
    assert (root / "a" / "b").is_dir()


def _copy(root: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root, target, symlinks=True)


def test_a_link_is_removed_and_not_followed(tree: Path) -> None:
    root = tree / "links"
    root.mkdir()
    (root / "study").symlink_to(tree / "precious")
    remove(root / "study", root)
    assert list(root.iterdir()) == []
    assert (tree / "precious" / "a").exists()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_the_root_itself_stays(tree: Path, name: str) -> None:
    with pytest.raises(PathOutsideError, match="leads out of"):
        remove(tree / "root" / name, tree / "root")
    assert (tree / "root").is_dir()


@given(name=st.lists(PARTS, max_size=4).map("/".join))
def test_in_a_store_too(name: str) -> None:
    root = RemoteFolder("memory://bucket/studies")
    plain = name != "" and not {"", ".", ".."} & {*name.split("/")}
    if plain:
        assert (root / name).require_below(root) == root / name
    else:
        with pytest.raises(PathOutsideError):
            (root / name).require_below(root)


def test_a_store_next_to_the_root_is_outside() -> None:
    root = RemoteFolder("memory://bucket/studies")
    for other in ("memory://bucket/studies2/a", "memory://bucket", "s3://bucket/studies/a"):
        with pytest.raises(PathOutsideError):
            RemoteFolder(other).require_below(root)
