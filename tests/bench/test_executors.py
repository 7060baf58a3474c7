"""Where cells run changes no row; what brings its worker down, or never ends, costs its own rows and nothing else."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from toyruns import ROWS, Answer, files, numbers, start

from iqarena.errors import IqarenaError, plain
from iqarena.executors.job import Job, _check, unpacked
from iqarena.executors.pool import WorkerLost
from iqarena.executors.thread import ThreadWorker
from iqarena.images.sets.database import data_folder
from iqarena.registry import tables as registry
from iqarena.runner import driver
from iqarena.runner.driver import Options, run_plan
from iqarena.runner.merge import merge
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve
from iqarena.worker.measure import Result
from iqarena.worker.task import Step, Task

Run = Callable[..., pd.DataFrame]
SOURCE = "toy_curved(seed=0)"
FAULTS = Path(__file__).parents[1] / "faults.py"  # they fail on images of 40 pixels: p1 and p3


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_from_files", {kind: dict(known) for kind, known in registry._from_files.items()})
    registry.add_file(FAULTS)


def small(suite: Path, *attacks: str) -> Plan:
    """Two images, of which the second is wide, one source and two targets."""
    targets = ["toy_curved", "toy_step"]
    keys = {"attacks": list(attacks), "targets": targets, "sources": ["toy_curved"], "limit": 2}
    return resolve(load_suite(str(suite), keys))


# ---- where cells run


def test_processes_yield_what_threads_do(plan: Plan, tmp_path: Path) -> None:
    threads, processes = Store(tmp_path / "threads"), Store(tmp_path / "processes")
    ticks: list[int] = []
    counted = run_plan(plan, threads, Options(workers=2))
    elsewhere = run_plan(plan, processes, Options(workers=2, workers_kind="process"), ticks.append)
    for there, here in zip(elsewhere, counted, strict=True):
        assert min(there.evaluated.pop("seconds"), here.evaluated.pop("seconds")) > 0
    assert elsewhere == counted
    assert_frame_equal(numbers(processes), numbers(threads), check_exact=True)
    assert sum(ticks) == 5 * len(plan.attacks) * len(plan.cells)
    assert files(processes.folder, "gallery/*") == files(threads.folder, "gallery/*")
    assert counted[0].evaluated["gradient"] > 0


def test_shards_joined_by_merge_are_what_one_run_gives(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer], undisturbed: pd.DataFrame
) -> None:
    for i in (1, 2):
        iqarena("run", suite, "--shard", f"{i}/2", "--out", tmp_path / str(i))
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "both")
    assert_frame_equal(numbers(Store(tmp_path / "both")), undisturbed, check_exact=True)


@pytest.mark.usefixtures("faults")
def test_a_crash_or_a_hang_in_a_process_costs_its_own_rows(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Run
) -> None:
    monkeypatch.setenv("IQARENA_TEST_ASLEEP", str(asleep := tmp_path / "asleep"))
    attacks = ["fgsm", "exits", "dies", "segfaults", "forks", "sleeps", "noise"]
    rows = results(small(suite, *attacks), workers=1, workers_kind="process", cell_timeout=4)
    fine = results(small(suite, "fgsm", "noise"))
    assert_frame_equal(rows[rows["attack"].isin(fine["attack"])].reset_index(drop=True), fine, check_exact=True)
    assert len(rows) == 2 * 2 * len(attacks)
    failed = rows[rows["status"] == "error"]
    assert set(failed["image"]) == {"p1.png"}
    assert failed.groupby("attack_label")["message"].unique().map(list).to_dict() == {
        "exits": ["SystemExit: 5"],
        "dies": ["dies from toy_curved(seed=0) on p1.png: the worker died (exit code 7)"],
        "segfaults": ["segfaults from toy_curved(seed=0) on p1.png: the worker died (SIGSEGV)"],
        "forks": ["forks from toy_curved(seed=0) on p1.png: the worker died (exit code 7)"],
        "sleeps": [
            "sleeps from toy_curved(seed=0) on p1.png: stopped after 4 s (--cell-timeout); raise the limit, or"
            " leave the attack out"
        ],
    }
    last = asleep.stat().st_mtime_ns
    time.sleep(0.5)
    assert asleep.stat().st_mtime_ns == last, "what a worker forked outlives the run"


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param("thread", signal.SIGINT, id="threads ^C"),
        pytest.param("process", signal.SIGTERM, id="processes SIGTERM", marks=pytest.mark.slow),
        pytest.param("process", signal.SIGKILL, id="processes kill -9"),
    ],
)
def test_a_run_that_hangs_can_be_stopped_and_goes_on_from_its_finished_cells(
    suite: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    iqarena: Callable[..., Answer],
    kind: str,
    how: signal.Signals,
) -> None:
    monkeypatch.setenv("IQARENA_TEST_ASLEEP", str(asleep := tmp_path / "asleep"))
    store = Store(tmp_path / "run")
    options = ["--limit", 2, "--set", 'sources=["toy_curved"]', "--out", store.folder]
    hanging = ["--workers", 1, "--workers-kind", kind, "--set", 'attacks=["fgsm", "sleeps"]', "--plugin", FAULTS]
    process = start("run", suite, *options, *hanging)
    deadline = time.monotonic() + 240
    rows_of_p0 = store.folder / "rows"  # written by the driver while the worker is already asleep over p1
    while not (asleep.exists() and any(rows_of_p0.glob("*.parquet"))):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it never got there"
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert process.returncode == 3, err
        lines = err.strip().splitlines()
        assert lines[-1].startswith("iqarena: stopped; what is stored stays")
        named = f"iqarena: not waited for: sleeps from {SOURCE} on p1.png" in lines
        assert named == (kind == "thread"), err
        assert "Traceback" not in err
    last = 0
    while last != (last := asleep.stat().st_mtime_ns):
        assert time.monotonic() < deadline, "a worker outlives its driver"
        time.sleep(0.5)
    rows = store.rows()
    assert set(rows["image"]) == {"p0.png"}
    assert (rows["status"] == "ok").all()
    assert iqarena("run", suite, *options, "--set", 'attacks=["fgsm"]').code == 0
    assert len(store.rows()) == len(rows) + 3, "one for each target"


# ---- what a pool does about workers that are lost


class Fragile(ThreadWorker):
    """Is lost at ``fgsm`` from ``toy_curved`` on p1, ``times`` times, or whenever it is to run a task."""

    times, tries, idle = 1, 1, False

    def run(self, task: Task) -> Iterator[Step | Result]:
        if type(self).idle:
            raise WorkerLost("the worker died (SIGKILL)")
        for event in super().run(task):
            yield event
            if self.times and isinstance(event, Step) and self.fatal(event):
                type(self).times -= 1
                raise WorkerLost("the worker died (SIGKILL)", self.tries)

    def fatal(self, step: Step) -> bool:
        return (step.attack, step.source) == ("fgsm", SOURCE) and "p1.png" in step.images


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> type[Fragile]:
    class Own(Fragile): ...

    monkeypatch.setattr(driver, "ThreadWorker", Own)
    return Own


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_step_that_costs_its_worker_is_the_only_one_without_numbers(
    plan: Plan, results: Run, undisturbed: pd.DataFrame, fragile: type[Fragile], batch_size: int
) -> None:
    fragile.times = 1000
    rows = results(plan, batch_size=batch_size, workers=2)
    lost = rows["status"] == "error"
    assert set(rows.loc[lost, "message"]) == {"fgsm from toy_curved(seed=0) on p1.png: the worker died (SIGKILL)"}
    assert set(zip(*(rows.loc[lost, name] for name in ("image", "attack_label", "source")), strict=True)) == {
        ("p1.png", "fgsm", SOURCE)
    }
    assert lost.sum() == 3, "one for each target"
    assert_frame_equal(rows[~lost], undisturbed[~lost], check_exact=True)


def test_a_worker_that_may_be_lost_for_other_reasons_is_replaced_once_for_each_step(
    plan: Plan, results: Run, undisturbed: pd.DataFrame, fragile: type[Fragile]
) -> None:
    fragile.times, fragile.tries = 1, 2
    assert_frame_equal(results(plan, workers=1), undisturbed, check_exact=True)
    assert fragile.times == 0, "it was lost"


def test_workers_that_are_lost_before_they_begin_stop_the_run(plan: Plan, results: Run, fragile: type[Fragile]) -> None:
    fragile.idle = True
    with pytest.raises(IqarenaError, match=r"3 workers were lost .* the last: the worker died \(SIGKILL\)"):
        results(plan, workers=1)


def test_an_image_that_cannot_be_read_alive_costs_its_rows(
    plan: Plan, results: Run, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable(ThreadWorker):
        def run(self, task: Task) -> Iterator[Step | Result]:
            for event in super().run(task):
                yield event
                if event == Step(("p1.png",)):
                    raise WorkerLost("stopped")

    monkeypatch.setattr(driver, "ThreadWorker", Unreadable)
    rows = results(plan, batch_size=3)
    lost = rows["image"] == "p1.png"
    assert set(rows.loc[lost, "message"]) == {"reading p1.png: stopped"}
    assert lost.sum() == ROWS
    assert_frame_equal(rows[~lost], undisturbed[~lost], check_exact=True)


def test_a_worker_with_other_code_than_the_driver_is_refused(plan: Plan) -> None:
    keys = Options().keys(plan)
    good = [(attack, keys.identity(attack)) for attack in plan.attacks]
    _check(good, keys)
    with pytest.raises(IqarenaError, match=r"identity.*a worker has other code or weights than the driver"):
        _check([(plan.attacks[0], [*good[0][1][:-2], "another", {}])], keys)


@pytest.fixture
def toys_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is unpacked in this process imports the toys anew; other tests hold classes of the first import."""
    monkeypatch.setitem(sys.modules, "iqarena_plugin_toys", sys.modules["iqarena_plugin_toys"])


@pytest.mark.usefixtures("toys_stay")
def test_a_worker_that_was_started_elsewhere_looks_where_the_driver_does(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(suite.parent)
    monkeypatch.setenv("IQARENA_DATA", "sets")
    plan = resolve(load_suite(str(suite), {"images": {"path": "photos"}}))
    packed = Job(plan, Path("run"), "cpu", "fp32", Options().keys(plan)).packed()
    monkeypatch.chdir("/")
    monkeypatch.delenv("IQARENA_DATA")
    images = unpacked(packed).plan.images
    assert repr(images) == repr(plan.images)
    assert images.read(images.items()[0]).shape == (47, 33, 3)
    assert data_folder() == Path("sets")


@pytest.mark.usefixtures("toys_stay")
def test_no_copy_of_a_plugin_is_left(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = {kind: dict(known) for kind, known in registry._from_files.items()}
    monkeypatch.setattr(registry, "_from_files", {kind: dict(known) for kind, known in registered.items()})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (own := tmp_path / "own.py").write_text(FAULTS.read_text())
    registry.add_file(own)
    plan = replace(plan, attacks=(registry.build_attack("dies"),))
    packed = Job(plan, tmp_path, "cpu", "fp32", Options().keys(plan)).packed()
    monkeypatch.setattr(registry, "_from_files", registered)
    own.unlink()  # another machine does not have it
    assert unpacked(packed).plan.attacks[0].label == "dies"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_no_thread_is_left(plan: Plan, results: Run) -> None:
    before = set(threading.enumerate())
    results(plan, workers=3)
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= before


# ---- messages of others


@pytest.mark.usefixtures("faults")
def test_messages_of_plugins_reach_rows_without_escapes(suite: Path, results: Run) -> None:
    rows = results(small(suite, "colourful"))
    assert set(rows.loc[rows["status"] == "error", "message"]) == {"ValueError: red and blue 1m"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ here", "link here"),
        ("\x1b]0;never ended", "0;never ended"),
        ("\x1bcreset \x1b(Bset \x1b[?25l\x1b[1;31mx\x1b", "reset set x"),
        ("größer ≥ 3\u200d", "größer ≥ 3\u200d"),
    ],
)
def test_escapes_are_taken_out_and_nothing_else(text: str, expected: str) -> None:
    assert plain(text) == expected
