"""Images that travel together through a run: how many, and that nobody's numbers depend on their company."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from torch import Tensor
from toyruns import ROWS

from iqarena.api import Attack, ImageError, ImageItem, ImageSet, Source, Streams
from iqarena.executors.job import Job
from iqarena.executors.pool import WorkerLost, limit_after
from iqarena.executors.thread import ThreadWorker
from iqarena.registry.tables import build_attack
from iqarena.runner import driver
from iqarena.runner.driver import CPU_BATCH, Options, _batches
from iqarena.suite.plan import Plan
from iqarena.worker import cell
from iqarena.worker.cell import cells
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task

Run = Callable[..., pd.DataFrame]


@dataclass(frozen=True, kw_only=True, repr=False)
class Coupled(Attack):
    """A stranger's mistake: how far an image is moved depends on how many there are."""

    name = "coupled"

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x + self.eps / len(x) * source.gradient(x).sign()


def test_an_attack_of_a_stranger_is_given_one_image_at_a_time(plan: Plan, results: Run) -> None:
    """On the CPU, where it costs little: what its author sees with one image is what the table says."""
    plan = replace(plan, attacks=(Coupled(),))
    alone = results(plan, batch_size=1)
    assert (alone["linf"].round(6) == round(8 / 255, 6)).all()
    assert_frame_equal(results(plan, batch_size=100), alone, check_exact=True)
    assert_frame_equal(results(plan), alone, check_exact=True)


@pytest.mark.parametrize(
    ("images", "workers", "expected"),
    [
        (48, 2, [8, 8, 8, 8, 8, 4, 2, 1, 1]),
        (5, 2, [3, 1, 1]),
        (3, 4, [1, 1, 1]),
        (1, 1, [1]),
    ],
)
def test_workers_end_together(images: int, workers: int, expected: list[int]) -> None:
    items = [ImageItem(id=str(i), cluster=str(i)) for i in range(images)]
    batches = list(_batches(items, Options(), workers))
    assert [len(batch) for batch in batches] == expected
    assert max(expected) <= CPU_BATCH
    assert [item for batch in batches for item in batch] == items
    for fixed, size in ((Options(batch_size=3), 3), (Options(device="cuda"), 16)):
        sizes = {len(batch) for batch in list(_batches(items, fixed, workers))[:-1]}
        assert sizes <= {size}, "a micro-batch of a GPU costs the same however full it is"


def events(plan: Plan, folder: Path) -> list[Step | Result]:
    """What a worker yields for all images of ``plan`` as one batch."""
    items = plan.images.items()
    bench = Job(plan, folder, "cpu", "fp32", Options().keys(plan)).bench()
    return list(cells(bench, Task(items, {item.id: [] for item in items})))


def steps(found: Sequence[Step | Result]) -> list[tuple[str, ...]]:
    return [event.images for event in found if isinstance(event, Step)]


def test_large_images_do_not_wait_for_each_other(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is read before the one before it is done with, and none is held with others."""
    monkeypatch.setattr(cell, "PIXELS_TOGETHER", 1)
    images = steps(events(plan, tmp_path))
    assert {len(names) for names in images} == {1}
    assert images == sorted(images)
    assert len(set(images)) == 5


def test_a_long_query_attack_takes_one_image_at_a_time(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = build_attack("random_search(queries=5)")
    plan = replace(plan, attacks=(build_attack("fgsm"), asks))
    for limit, alone in ((4, True), (5, False)):
        monkeypatch.setattr(cell, "MANY_QUERIES", limit)
        largest = {"fgsm": 0, asks.label: 0}
        for step in events(plan, tmp_path / str(limit)):
            if isinstance(step, Step) and step.attack:
                largest[step.attack] = max(largest[step.attack], len(step.images))
        assert largest["fgsm"] > 1
        assert (largest[asks.label] == 1) == alone


def test_a_cell_that_takes_long_comes_in_pieces(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [event for event in events(plan, tmp_path / "whole") if isinstance(event, Result)]
    monkeypatch.setattr(cell, "HELD_BACK", 0.0)
    pieces = [event for event in events(plan, tmp_path / "pieces") if isinstance(event, Result)]
    assert len(pieces) > len(whole)
    assert sum(one.craftings for one in pieces) == sum(one.craftings for one in whole)
    assert [row["key"] for one in pieces for row in one.rows] == [row["key"] for one in whole for row in one.rows]


@pytest.mark.parametrize("held_back", [0.0, 1e9])
def test_a_worker_that_is_lost_in_the_middle_of_a_cell_repeats_no_piece_that_came_back(
    plan: Plan, results: Run, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, held_back: float
) -> None:
    seen: list[Step] = []

    class LostOnce(ThreadWorker):
        def run(self, task: Task) -> Iterator[Step | Result]:
            for event in super().run(task):
                yield event
                if isinstance(event, Step):
                    seen.append(event)
                    if (event.attack, seen.count(event)) == ("fgsm", 1):
                        raise WorkerLost("its node went", 2)

    monkeypatch.setattr(driver, "ThreadWorker", LostOnce)
    monkeypatch.setattr(cell, "HELD_BACK", held_back)
    rows = results(plan, workers=1, batch_size=100)
    assert_frame_equal(rows, undisturbed, check_exact=True)
    twice = {step.attack for step in seen if step.attack and seen.count(step) > 1}
    assert ("identity" in twice) == (held_back > 0), "what came before fgsm in its cell"
    assert "fgsm" in twice


def test_an_image_that_the_next_worker_cannot_read_costs_no_other_one_its_rows(
    plan: Plan, results: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, read = [True], type(plan.images).read

    def flaky(images: ImageSet, item: ImageItem) -> np.ndarray:
        if item.id == "p2.png" and not there[0]:
            raise ImageError("not on this node")
        return read(images, item)

    class LostOnce(ThreadWorker):
        def run(self, task: Task) -> Iterator[Step | Result]:
            for event in super().run(task):
                yield event
                if isinstance(event, Step) and event.attack == "fgsm" and "seed=1" in event.source and there[0]:
                    there[0] = False
                    raise WorkerLost("its node went", 2)

    monkeypatch.setattr(driver, "ThreadWorker", LostOnce)
    monkeypatch.setattr(type(plan.images), "read", flaky)
    rows = results(plan, workers=1, batch_size=100)
    assert len(rows) == 5 * ROWS
    assert set(rows.loc[rows["status"] == "error", "image"]) == {"p2.png"}


def test_the_limit_of_a_step_is_for_each_of_its_images() -> None:
    assert limit_after(Step(("a", "b", "c"), "fgsm"), 4.0) == 12.0
    assert limit_after(Result(), 4.0) == limit_after(None, 4.0) == 4.0
    assert limit_after(Step(("a", "b")), None) is None


def test_the_bar_ends_where_it_should(plan: Plan, tmp_path: Path) -> None:
    """Whole images and those of which little is missing count as many craftings as the others."""
    store, heard = driver.Store(tmp_path), []
    driver.run_plan(replace(plan, attacks=plan.attacks[:1]), store, Options())
    driver.run_plan(plan, store, Options(), heard.append)
    driver.run_plan(plan, store, Options(), heard.append)
    assert sum(heard) == 2 * 5 * len(plan.attacks) * len(plan.cells)
    assert len(store.rows()) == 5 * ROWS
