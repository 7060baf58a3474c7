"""Workers on a Ray that is started here: the rows of local ones, whatever happens to them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pytest
import rayruns
from pandas.testing import assert_frame_equal
from toyruns import Answer, numbers, start

from iqarena.executors.job import Job
from iqarena.executors.on_ray import RayWorker
from iqarena.executors.pool import WorkerLost
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.worker.cell import cells
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task

FAULTS = Path(__file__).parents[1] / "faults.py"  # they fail on images of 40 pixels: p1 and p3

with_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"),
    reason="ray is not installed: pip install 'iqarena[ray]', where there is one for this Python and platform",
)


@pytest.mark.parametrize("at", ["next", "get"])
def test_whatever_ray_raises_in_place_of_a_cell_is_a_lost_worker(at: str) -> None:
    """Ray has many errors for a node that goes, and not all of them are of the actor."""
    errors = SimpleNamespace(RayError=type("RayError", (Exception,), {}))
    stream, ray = MagicMock(), MagicMock(exceptions=errors)
    ray.get.return_value = None
    worker = RayWorker(ray, actor := MagicMock(), b"", None, threading.Event())
    actor.remote().run.remote.return_value = stream
    {"next": stream.__next__, "get": ray.get}[at].side_effect = type("ObjectLostError", (errors.RayError,), {})
    with pytest.raises(WorkerLost, match=r"the worker died \(ObjectLostError\)") as lost:
        next(worker.run(Task([], {})))
    assert lost.value.tries == 2


def on_ray(suite: Path, out: Path, *more: object) -> tuple[int, str]:
    process = start("run", suite, "--executor", "ray", "--out", out, *more)
    _, err = process.communicate(timeout=240)
    return process.returncode, err


@with_ray
def test_any_number_of_workers_on_ray_yields_what_one_thread_does(
    suite: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    subprocess.run([sys.executable, rayruns.__file__, suite, tmp_path], check=True, timeout=240)
    for workers in rayruns.WORKERS:
        assert_frame_equal(numbers(Store(tmp_path / str(workers))), undisturbed, check_exact=True)


@pytest.mark.slow
@with_ray
def test_a_run_on_ray_goes_on_where_rows_are_missing(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer]
) -> None:
    stores = [Store(tmp_path / name) for name in ("ray", "threads")]
    code, err = on_ray(suite, stores[0].folder, "--workers", 2)
    assert code == 0, err
    assert iqarena("run", suite, "--out", stores[1].folder).code == 0
    assert_frame_equal(numbers(stores[0]), numbers(stores[1]), check_exact=True)
    assert stores[0].manifest().gradients == stores[1].manifest().gradients
    sorted(stores[0].rows_folder.glob("*.parquet"))[1].unlink()
    code, err = on_ray(suite, stores[0].folder, "--workers", 2)
    assert code == 0, err
    assert_frame_equal(numbers(stores[0]), numbers(stores[1]), check_exact=True)


def test_cells_may_be_sent_into(plan: Plan, tmp_path: Path) -> None:
    """Ray does, where it iterates a task; of an image that is whole already there is nothing but a count."""
    store = Store(tmp_path / "run")
    run_plan(plan, store, Options())
    item = plan.images.items()[0]
    bench = Job(plan, store.folder, "cpu", "fp32", Options().keys(plan)).bench()
    running = cells(bench, Task([item], {item.id: store.stored(item.id)}))
    events: list[Step | Result] = [next(running)]
    with suppress(StopIteration):
        while True:
            events.append(running.send("anything"))
    assert [event.craftings for event in events if isinstance(event, Result)] == [len(bench.craftings)]


@pytest.mark.slow
@with_ray
@pytest.mark.parametrize("attack", ["dies", "sleeps"])
def test_a_crash_or_a_hang_on_ray_costs_its_own_rows(suite: Path, tmp_path: Path, attack: str) -> None:
    attacks = f'attacks=["fgsm", "{attack}", "noise"]'
    options = ["--workers", 1, "--limit", 2, "--set", attacks, "--set", 'sources=["toy_curved"]']
    code, err = on_ray(suite, tmp_path / "run", *options, "--cell-timeout", 8, "--plugin", FAULTS)
    assert code == 3, err
    rows = Store(tmp_path / "run").rows()
    failed = rows[rows["status"] == "error"]
    assert set(zip(failed["image"], failed["attack_label"], strict=True)) == {("p1.png", attack)}
    assert failed["message"].str.startswith(f"{attack} from toy_curved(seed=0) on p1.png: ").all()
    assert len(rows) == 2 * 3 * 3
