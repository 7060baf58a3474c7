"""The committed evidence: derived files come from the committed rows, and rows can be measured again."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from toyruns import draw_nothing

from iqarena.report import derive
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.store.manifest import RowCounts
from iqarena.store.schema import NAMES
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
KINDS = {".json", ".parquet", ".csv", ".md"}
SUITES = sorted({path.parent.name for rows in ("rows", "rows.parquet") for path in REFERENCE.glob(f"*/{rows}")})


def test_the_suites_with_committed_evidence() -> None:
    ablations = {f"ablation_{factors}" for factors in ("filters", "sigma_samples", "budget_steps", "sources")}
    transfers = {"pocket", "relatives", "transfer", "transfer_mos", "transfer_ssim"}
    assert set(SUITES) == {"defenses", "query", "query_mos", *transfers, *ablations}


def test_the_evidence_is_lean() -> None:
    """Rows, tables, and of the figures those that a README shows: under 14 MB."""
    files = [path for path in REFERENCE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 14e6
    figures = {path.relative_to(REFERENCE).as_posix() for path in files if path.suffix not in KINDS}
    texts = [(REFERENCE.parents[1] / name).read_text("utf-8") for name in ("README.md", "results/README.md")]
    assert figures == {
        figure for text in texts for figure in re.findall(r"\]\([^)]*reference/([^)]*/plots/[^)]*)\)", text)
    }


def test_the_evidence_names_no_place_of_a_machine() -> None:
    texts = [path for path in REFERENCE.rglob("*") if path.suffix in (".json", ".md")]
    assert len(texts) > 2 * len(SUITES)
    assert [path for path in texts if re.search(r"(^|[\s'\"=(])(/|~|[A-Z]:)[\w./]*/", path.read_text("utf-8"))] == []


@pytest.mark.parametrize("suite", SUITES)
def test_derived_files_are_what_the_rows_give(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, and the words of the tables; how a text is laid out and what else it says is free."""
    drawn = draw_nothing(monkeypatch.setattr)
    folder = REFERENCE / suite
    store = Store(folder)
    derive(store.rows(), store.manifest(), tmp_path, folder / "gallery")
    tables = sorted(path.name for path in folder.glob("*.csv"))
    assert {"pairs.csv", "leaderboard_attacks.csv", "leaderboard_models.csv"} <= set(tables)
    assert tables == sorted(path.name for path in tmp_path.glob("*.csv"))
    for name in tables:
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), pd.read_csv(folder / name), rtol=1e-5, atol=1e-9)
    texts = sorted(path.name for path in folder.glob("*.md"))
    assert "leaderboard.md" in texts
    for name in texts:
        built, committed = (cells((at / name).read_text("utf-8")) for at in (tmp_path, folder))
        assert len(committed) > 10
        assert [words(cell) for cell in built] == [words(cell) for cell in committed]
        for own, theirs in zip(built, committed, strict=True):
            for (value, step), (other, _) in zip(numbers(own), numbers(theirs), strict=True):
                assert abs(value - other) <= 1.001 * step, f"{name}: {own}, committed {theirs}"
    assert {path.stem for path in (folder / "plots").glob("*")} <= drawn


NUMBER = re.compile(r"\d[\d,]*(?:\.(\d+))?")


def cells(text: str) -> list[str]:
    """Of all tables of a Markdown text."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [cell.strip() for line in lines for cell in line.split("|")]


def words(cell: str) -> str:
    return NUMBER.sub("0", cell)


def numbers(cell: str) -> list[tuple[float, float]]:
    """With the step of the last decimal, by which rounding may part them; whole numbers have none."""
    actual = NUMBER.finditer(cell)
    return [(float(m[0].replace(",", "")), 10.0 ** -len(m[1]) if m[1] else 0.0) for m in actual]


@pytest.mark.parametrize("suite", SUITES)
def test_the_reference_is_whole_and_of_this_suite(suite: str) -> None:
    store, plan = Store(REFERENCE / suite), resolve(load_suite(suite))
    manifest, rows = store.manifest(), store.rows()
    assert manifest.rows == RowCounts(ok=manifest.planned, error=0)
    assert len(rows) == manifest.planned == rows["key"].nunique()
    assert [a.label for a in manifest.declared.attacks] == [a.label for a in plan.attacks]
    assert manifest.models.keys() == {repr(m) for m in plan.models}
    for model in plan.models:
        actual = manifest.models[repr(model)].weights_sha256
        if model.files:  # not shipped, and not all have a hash that is known
            assert len(actual) == 64
            known = [file.expected for file in model.files]
            assert len(known) > 1 or actual.startswith(known[0])
        else:
            assert actual == model.weights_sha256
    assert manifest.git_commit
    assert manifest.packages["torch"]
    assert not manifest.git_commit.endswith("+"), "made from uncommitted code"


def test_one_image_measured_again_gives_the_committed_numbers(tmp_path: Path) -> None:
    """Another processor may round differently, flipping single pixels of a sign: hence the tolerances."""
    plan = resolve(load_suite("pocket", {"limit": 1, "sources": ["cnn"]}))
    again = Store(tmp_path)
    run_plan(plan, again, Options(workers=1))
    built = again.rows().set_index(NAMES)
    committed = Store(REFERENCE / "pocket").rows().set_index(NAMES).loc[built.index]
    assert len(built) == len(plan.attacks) * len(plan.targets)
    for column, most, mean in (
        ("score_clean", 0.02, 0.01), ("score_adv", 1, 0.1), ("score_displaced", 1, 0.1), ("ssim", 1e-3, 1e-3),
    ):  # fmt: skip
        difference = (built[column] - committed[column]).abs()
        assert difference.max() <= most, column
        assert difference.mean() <= mean, column
    counts = ["forwards", "backwards", "queries"]
    assert (built[counts] == committed[counts]).to_numpy().all()
