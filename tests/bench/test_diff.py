"""``diff``: equal runs, one number changed by hand, rows that one run lacks, and folders that hold none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toyruns import ROWS, Answer

from iqarena.store.folder import Store

Cli = Callable[..., Answer]


def test_what_differs_between_two_runs_is_named(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    import iqarena as api

    one, other = tmp_path / "one", tmp_path / "other"
    api.run(suite, one, limit=2, progress=False)
    shutil.copytree(one, other)
    answer = iqarena("diff", one, other)
    assert (answer.code, answer.out) == (0, f"{2 * ROWS} rows in both: equal\n")

    store, image = Store(other), Store(other).rows()["image"].iloc[0]
    rows = store.stored(image)
    first, second, *_ = (row for row in rows if row["attack_label"] == "fgsm" and row["relation"] == "transfer")
    first["score_adv"] += 0.5
    second["score_adv"] -= 0.25
    first["seconds"] += 1  # times never count
    store.replace(image, [row for row in rows if row["attack_label"] != "noise" or row["relation"] != "transfer"])
    gone = sum(row["attack_label"] == "noise" and row["relation"] == "transfer" for row in rows)
    answer = iqarena("diff", one, other)
    assert answer.code == 3
    assert f"{gone} rows only in the first" in answer.out
    assert f"{2 * ROWS - gone} rows in both: 1 columns differ" in answer.out
    actual = json.loads(iqarena("diff", one, other, "--json").out)
    assert (actual["equal"], actual["only"], actual["settings"]) == (False, [gone, 0], [])
    (column,) = actual["columns"]
    assert (column["column"], column["rows"], column["largest"]) == ("score_adv", 2, pytest.approx(0.5))
    assert column["where"] == f"{first['attack']} from {first['source']} on {first['target']}, image {image}"
    back = json.loads(iqarena("diff", other, one, "--json").out)
    assert (back["only"], back["columns"]) == ([0, gone], actual["columns"])


def test_settings_that_differ_are_said_and_rows_without_numbers_are_equal(
    iqarena: Cli, suite: Path, tmp_path: Path
) -> None:
    import iqarena as api

    for name, seed in (("one", 0), ("other", 1)):
        keys = {"attacks": ["fgsm", "noise"], "targets": ["toy_curved", "toy_step"]}
        api.run(suite, tmp_path / name, limit=1, seed=seed, settings=keys, progress=False)
    answer = iqarena("diff", tmp_path / "one", tmp_path / "other")
    assert answer.code == 3
    assert "setting differs: seed: 0 in the first, 1 in the second" in answer.out
    actual = json.loads(iqarena("diff", tmp_path / "one", tmp_path / "other", "--json").out)
    assert all(column["where"].startswith("noise(") for column in actual["columns"]), "only noise draws"


def test_a_folder_without_a_run_is_one_line(iqarena: Cli, tmp_path: Path) -> None:
    answer = iqarena("diff", tmp_path, tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "expected a run folder, found no manifest.json" in answer.err
