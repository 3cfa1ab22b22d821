"""The package as it is installed: a wheel, in an environment and a folder without this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STAND_IN = "9.9.9"
"""Version of a distribution by the name of the registry's `datasets`."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("harness", "optimizers", "datasets", "tests"):
        shutil.copytree(ROOT / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__*__"))
    for name in ("pyproject.toml", "LICENSE", "README.md", "diagnostics.yaml"):
        shutil.copy(ROOT / name, folder / "copy")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)),
            str(folder / "copy"),
        ],
        check=True,
        timeout=120,
    )
    (built,) = folder.glob("*.whl")
    return built


def sources() -> set[str]:
    """Every file of the package that is under version control, or would be."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "harness").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_holds_the_package_whole_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    own = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert own == sources()
    assert {name for name in own if not name.endswith(".py")} >= {
        "harness/spec/schema.json",
        "harness/reporting/page/templates/page.html.j2",
        "harness/suite/starter/comparison.yaml",
        "harness/suite/starter/datasets/harvest.csv",
        "harness/suite/starter/optimizers.yml",
        "harness/suite/starter/gitignore",
        "harness/analysis/diagnostics_cells.json",
    }
    beside = {name.partition(".data/")[2] for name in names if ".data/" in name}
    assert beside == {"data/share/harness/diagnostics.yaml"}
    (top,) = [name for name in names if name.endswith("top_level.txt")]
    assert zipfile.ZipFile(wheel).read(top).decode().split() == ["harness"]
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    assert "datasets" not in zipfile.ZipFile(wheel).read(metadata).decode()


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and a stand-in for `datasets`; it sees our packages."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(output(interpreter, "-c", ask, cwd=folder).strip())
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"),
            *("--disable-pip-version-check", "--no-deps", "--no-index", str(wheel)),
        ],
        check=True,
        timeout=120,
    )
    # As a path in a .pth file, so that what makes the checkout importable there isn't read.
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "datasets").mkdir()
    (packages / "datasets" / "__init__.py").write_text(f'__version__ = "{STAND_IN}"\n')
    information = packages / f"datasets-{STAND_IN}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: datasets\nVersion: {STAND_IN}\n"
    )
    return interpreter


def output(interpreter: Path, *words: str, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [str(interpreter), *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


WHO = (
    "import datasets, harness, importlib.metadata as m; "
    "print(datasets.__version__, m.version('datasets'), harness.__file__)"
)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_suite_begun_with_the_wheel_alone_runs_beside_a_package_called_datasets(
    python: Path, tmp_path: Path
) -> None:
    home = tmp_path / "not the checkout"
    home.mkdir()
    before = output(python, "-c", WHO, cwd=home)
    version, registered, file = before.split(maxsplit=2)
    assert version == registered == STAND_IN
    assert Path(file.strip()).is_relative_to(python.parent.parent)

    told = output(python, "-m", "harness", "init", "my suite", cwd=home)
    assert "python -m harness test ." in told
    suite = home / "my suite"
    tested = output(python, "-m", "harness", "test", "--quiet", cwd=suite)
    assert tested.endswith(" 0 notes, 0 wrong.\n")
    ran = output(python, "-m", "harness", "run", "comparison.yaml", "-q", "--no-timing", cwd=suite)
    assert ran == "reports/comparison/index.html\n"
    page = (suite / "reports" / "comparison" / "index.html").read_text(encoding="utf-8")
    assert "signum" in page

    # A spec may extend what came with it.
    (suite / "mine.yaml").write_text(
        "suite: mine\nextends: diagnostics\n"
        "optimizers: {mine: {class: Signum, search: {lr: {log_uniform: [0.001, 1]}}}}\n"
    )
    assert "chain.dimension=16" in output(
        python, "-m", "harness", "run", "mine.yaml", "-n", cwd=suite
    )

    # In the suite's own folder, where a folder of that name stands, as well.
    assert output(python, "-c", WHO, cwd=home) == before
    assert output(python, "-P", "-c", WHO, cwd=suite) == before
    script = output(python.with_name("harness"), "--version", cwd=home)
    assert script.startswith("harness, version ")
