"""What is installed from a wheel is whole: the library of policies is in it, and the code finds it there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package installed as a user would have it, from a copy: a build leaves files in the tree that it builds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pdp", "pep", "rego"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", target, source], check=True)
    return target


def test_every_file_of_the_library_is_in_the_wheel(installed: Path):
    def files(directory: Path) -> set[Path]:
        found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
        return {path for path in found if not any(part.startswith(".") for part in path.parts)}

    assert files(installed / "pdp" / "_rego") == files(ROOT / "rego")


def test_the_code_finds_the_library_there(installed: Path):
    code = "import pdp.library; print(pdp.library.library_dir())"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {code}"]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(installed / "pdp" / "_rego")


def test_types_are_announced_and_tests_stay_out(installed: Path):
    assert (installed / "pdp" / "py.typed").is_file()
    assert (installed / "pep" / "py.typed").is_file()
    assert not (installed / "tests").exists()


def test_both_commands_are_installed(installed: Path):
    assert {path.name for path in (installed / "bin").iterdir()} >= {"pdp", "pep"}
