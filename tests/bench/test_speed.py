"""``iqarena speed``: what is counted in its tables; how long anything takes hangs on the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from toyruns import ROWS, Answer

from iqarena.runner.driver import Options, shard_items
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve
from iqarena.tools.speed import speed_report
from iqarena.tools.speed_growth import parts

Cli = Callable[..., Answer]


def test_speed_has_a_line_for_every_gradient_attack_of_a_suite(iqarena: Cli, suite: Path) -> None:
    answer = iqarena("speed", suite, "--limit", 1)
    assert answer.code == 0, answer.err
    lines = [line.split() for line in answer.out.splitlines()]
    start = next(i for i, words in enumerate(lines) if words[:2] == ["one", "image"])
    assert [words[:2] for words in lines[start + 2 :]] == [
        ["fgsm", "1"], ["mi_fgsm(steps=2)", "2"], ["sega(samples=2)", "2"],
    ]  # fmt: skip
    assert "share of the run that is not model evaluation: " in answer.out
    assert "nearest: 'pocket'" in iqarena("speed", "pockt").err
    both = iqarena("speed", suite, "--matrix", "--growth", suite.parent / "growth")
    assert (both.code, both.err.count("\n")) == (2, 1)
    assert "--matrix and --growth are two measurements" in both.err
    elsewhere = iqarena("speed", suite, "--matrix", "--workers-kind", "process")
    assert (elsewhere.code, "leave out --matrix" in elsewhere.err) == (2, True)
    assert "ray_address: expected none without" in iqarena("speed", suite, "--ray-address", "auto").err
    assert "workers_kind: it is for" in iqarena("speed", "--executor", "ray", "--workers-kind", "process").err


def test_the_share_is_of_the_workers_that_the_run_had(suite: Path) -> None:
    text = speed_report(resolve(load_suite(str(suite), {"limit": 2})), Options(workers=1))
    assert "model evaluations of each of its 1 workers" in text


def test_a_matrix_crafted_pair_by_pair_takes_a_gradient_for_each_of_them(iqarena: Cli, suite: Path) -> None:
    answer = iqarena("speed", suite, "--limit", 2, "--matrix")
    assert answer.code == 0, answer.err
    header, _, gradients, scores, _ = (line.split() for line in answer.out.splitlines())
    assert header[:5] == ["2", "images,", str(ROWS), "rows", "each"]
    # fgsm 1, mi_fgsm 2, sega 2: for three targets of two sources and one of their ensemble; one run shares them all
    assert [float(number) for number in gradients[1:3]] == [2 * 5 * (3 + 3 + 2), 2 * 5 * 2]
    assert float(scores[1]) == 2 * 2 * ROWS


def test_what_grows_grows_by_the_same_at_every_step(suite: Path) -> None:
    planned: dict[str, list[int]] = {}
    for axis, n, part in parts(resolve(load_suite(str(suite)))):
        planned.setdefault(axis, []).append(len(shard_items(part)) * len(part.results()))
        assert {"images": part.suite.limit, "sources": len(part.sources), "targets": len(part.targets),
                "attacks": len(part.attacks)}[axis] == n  # fmt: skip
    assert planned == {
        "images": [30, 30 * 2, 30 * 4, 30 * 5], "sources": [75, 75 * 2], "targets": [50, 50 * 2, 50 * 3],
        "attacks": [30, 30 * 2, 30 * 3, 30 * 4],
    }  # fmt: skip


@pytest.mark.slow
def test_growth_is_measured_at_every_point(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    answer = iqarena("speed", suite, "--limit", 2, "--growth", tmp_path)
    assert answer.code == 0, answer.err
    lines = [line.split()[1] for line in answer.out.splitlines() if line.startswith("| ")]
    assert lines == ["growing", "images", "sources", "targets", "attacks"]
    assert (tmp_path / "growth.md").read_text() in answer.out
    points = pd.read_csv(tmp_path / "growth.csv")
    assert list(points.loc[points["axis"] == "images", "rows"]) == [30, 60]
    assert list(points.loc[points["axis"] == "attacks", "gradient"].diff().dropna()) == [4, 4, 4]  # a second step
    assert (points[["seconds", "memory_mb"]] > 0).all(axis=None)
    assert (tmp_path / "plots" / "growth.png").stat().st_size > 10_000
