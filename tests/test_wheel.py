"""Files of a non-editable install other than modules: presets, migrations, types, the shim."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel of this tree unpacks to, made without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    [wheel] = folder.glob("archscout-*.whl")
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


def test_a_wheel_searches_by_itself(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys, orchestrator; from orchestrator.cli import main\n"
        f"assert orchestrator.__file__.startswith({str(installed)!r}), orchestrator.__file__\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, "search", "tiny", "--trials", "1", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(installed), "ARCHSCOUT_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "1 complete" in ran.stdout


def test_every_package_is_typed_and_every_preset_is_there(installed: Path) -> None:
    for package in ("search_spaces", "workers", "orchestrator"):
        assert (installed / package / "py.typed").is_file()
    here = {path.name for path in (ROOT / "orchestrator" / "presets").glob("*.yaml")}
    assert here
    assert {path.name for path in (installed / "orchestrator" / "presets").glob("*.yaml")} == here
