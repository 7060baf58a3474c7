"""What is shipped, what an import costs, and whether what is generated is fresh."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from iqarena.errors import SpecError
from iqarena.tools.docs import refresh

HERE = Path(__file__).parents[2]
PACKAGES = {"iqarena": "bench", "iqarena_attacks": "attacks", "iqarena_models": "models"}


def python(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_everything(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, root in PACKAGES.items():
        folder = HERE / root
        sources = {p for p in (folder / package).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert {p.relative_to(folder).as_posix() for p in sources} <= names
    for name in (
        "iqarena/suites/pocket.toml",
        "iqarena_models/catalog.toml",
        "iqarena/report/page/page.html.j2",
        "iqarena/images/sets/pocket_images/ATTRIBUTION.md",
        "iqarena/images/sets/pocket_images/images.csv",
        "iqarena/images/sets/pocket_images/astronaut.jpg",
        *(f"iqarena_models/zoo/weights/cnn.{kind}" for kind in ("json", "md", "safetensors")),
    ):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.split("/")[0] not in PACKAGES and ".dist-info/" not in name]


def test_what_is_in_a_wheel_works(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import iqarena, iqarena_models
from iqarena.registry.tables import build, build_model
from iqarena.engine.scorer import Scorer
images = build("imageset", "pocket")
image = images.read(images.items()[0])
model = build_model("linearity")
print(iqarena.__file__, iqarena_models.__file__, image.shape, model.load().__class__.__name__)
"""
    message = python("-c", code, PYTHONPATH=str(tmp_path))
    assert message.count(str(tmp_path)) == 2
    assert message.split()[-1] == "LinearityNet"


def test_importing_iqarena_imports_nothing_heavy() -> None:
    code = """
import sys
import iqarena, iqarena.api, iqarena.registry.tables, iqarena_attacks, iqarena_models
from iqarena.cli import main
heavy = {"torch", "pandas", "numpy", "timm", "matplotlib", "cv2", "scipy", "pyarrow"} & set(sys.modules)
assert not heavy, heavy
main(["--help"], standalone_mode=False)
main(["run", "--help"], standalone_mode=False)
heavy = {"torch", "pandas", "numpy", "timm", "matplotlib", "cv2", "scipy", "pyarrow"} & set(sys.modules)
assert not heavy, heavy
"""
    assert "Usage: " in python("-c", code)


def test_listing_plugins_imports_none_of_them() -> None:
    code = """
import sys
from iqarena.cli import main
main(["list"], standalone_mode=False)
main(["list", "models"], standalone_mode=False)
print(sorted({"torch", "timm", "pyiqa"} & set(sys.modules)), "iqarena_attacks.pgd" in sys.modules)
"""
    assert python("-c", code).splitlines()[-1] == "[] False"


def test_imports_keep_their_directions() -> None:
    assert "0 broken" in python("-c", "from importlinter.cli import lint_imports_command as check; check([])")


@pytest.mark.parametrize("path", ["attacks/README.md", "bench/README.md", "models/README.md"])
def test_generated_tables_are_fresh(path: str) -> None:
    text = (HERE / path).read_text(encoding="utf-8")
    assert "<!-- make docs: " in text
    assert refresh(text) == text, f"stale tables in {path}; next step: make docs"


def test_a_table_that_nobody_makes_is_refused() -> None:
    with pytest.raises(SpecError, match="no table 'attack' to generate; nearest: 'attacks'"):
        refresh("<!-- make docs: attack -->\n<!-- end -->")


def test_every_make_verb_is_in_the_help() -> None:
    lines = (HERE / "Makefile").read_text(encoding="utf-8").splitlines()
    verbs = [line.partition(":")[0] for line in lines if line[:1].islower() and "##" in line]
    (phony,) = (line.split()[1:] for line in lines if line.startswith(".PHONY"))
    assert sorted(verbs) == sorted(phony)
