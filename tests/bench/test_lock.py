"""One run in a folder at a time, or shards of one; others are told who is there, and the dead hold nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from toyruns import Answer, files, numbers

from iqarena.client.stored import load
from iqarena.errors import StoreError
from iqarena.runner.driver import Options
from iqarena.runner.execute import execute
from iqarena.runner.merge import merge
from iqarena.store import lock
from iqarena.store.folder import Store
from iqarena.store.lock import RunLock
from iqarena.store.manifest import GradientCounts
from iqarena.store.owner import Owner
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve


def run(plan: Plan, folder: Path, shard: tuple[int, int] = (1, 1), overwrite: str = "missing") -> None:
    execute(plan, Store(folder), Options(shard=shard, workers=1), overwrite=overwrite, command="toy", progress=quiet)


def quiet(cells: int) -> nullcontext[Callable[[int], object]]:
    return nullcontext(lambda n: None)


def at_once(*jobs: Callable[[], None]) -> list[str]:
    """Start all ``jobs`` at one instant; what each was refused with, empty for one that came to its end."""
    barrier, outcomes = threading.Barrier(len(jobs)), ["did not end"] * len(jobs)

    def work(i: int, job: Callable[[], None]) -> None:
        barrier.wait()
        try:
            job()
            outcomes[i] = ""
        except StoreError as error:
            outcomes[i] = str(error)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@pytest.fixture
def suites(suite: Path) -> list[Plan]:
    """Two settings that may not share a folder."""
    changes = {"limit": 2, "attacks": ["identity", "fgsm"], "targets": ["toy_curved", "toy_step"]}
    return [resolve(load_suite(str(suite), {**changes, "seed": seed})) for seed in (0, 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Store(tmp_path / "run").create()
    return tmp_path / "run"


def locks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.lock"))


def enter(folder: Path, work: str = "a", shard: tuple[int, int] = (1, 1), *, alone: bool = False) -> RunLock:
    runner = RunLock(folder, work, shard)
    with runner.gate():
        runner.enter(alone=alone)
    return runner


def refused(folder: Path, *words: str, work: str = "a", shard: tuple[int, int] = (1, 1), alone: bool = False) -> None:
    before = files(folder)
    with pytest.raises(StoreError) as caught:
        enter(folder, work, shard, alone=alone)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []
    assert files(folder) == before


def change(path: Path, **keys: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_two_suites_started_at_one_instant_never_mix(suites: list[Plan], tmp_path: Path) -> None:
    for plan, name in zip(suites, ("seed 0", "seed 1"), strict=True):
        run(plan, tmp_path / name)
    alone = [numbers(Store(tmp_path / name)) for name in ("seed 0", "seed 1")]
    for again in range(4):
        folder = tmp_path / f"run{again}"
        outcomes = at_once(*(partial(run, plan, folder) for plan in suites))
        assert sorted(map(bool, outcomes)) == [False, True], outcomes
        store = Store(folder)
        winner = store.manifest().seed
        assert outcomes[winner] == ""
        assert store.manifest().finished
        assert numbers(store).equals(alone[winner])
        assert locks(folder) == []


def test_shards_started_at_one_instant_are_the_whole_and_count_every_gradient(
    suites: list[Plan], tmp_path: Path
) -> None:
    run(suites[0], tmp_path / "alone")
    alone = Store(tmp_path / "alone")
    for again in range(4):
        folder = tmp_path / f"run{again}"
        assert at_once(*(partial(run, suites[0], folder, (i, 2)) for i in (1, 2))) == ["", ""]
        store = Store(folder)
        assert store.manifest().finished
        assert store.manifest().gradients == alone.manifest().gradients != GradientCounts(0, resumed=False)
        assert numbers(store).equals(numbers(alone))
        assert locks(folder) == []


def test_a_second_run_is_told_who_is_there(
    suites: list[Plan], folder: Path, suite: Path, iqarena: Callable[..., Answer]
) -> None:
    with enter(folder):
        before = files(folder)
        for plan, overwrite in ((suites[0], "missing"), (suites[0], "always"), (suites[1], "missing")):
            with pytest.raises(StoreError, match=rf"{folder} is in use by pid {os.getpid()} on {socket.gethostname()}"):
                run(plan, folder, overwrite=overwrite)
        answer = iqarena("run", suite, "--out", folder)
        assert (answer.code, len(answer.err.strip().splitlines())) == (2, 1)
        assert " since 2" in answer.err
        assert "wait for its end, stop it, or choose another --out" in answer.err
        with pytest.raises(StoreError, match="is in use by pid"):
            merge([_finished(suites[0], folder.parent / "other")], folder)
        assert files(folder) == before
    run(suites[0], folder)
    assert Store(folder).manifest().finished


def _finished(plan: Plan, folder: Path) -> Path:
    run(plan, folder)
    return folder


def test_only_other_shards_of_the_same_work_may_stand_beside(folder: Path) -> None:
    with enter(folder, "a", (1, 3)), enter(folder, "a", (2, 3)):
        assert locks(folder) == ["shard-1-of-3.lock", "shard-2-of-3.lock"]
        refused(folder, "in use by pid", work="a", shard=(1, 3))
        refused(folder, "in use by pid", work="a", shard=(1, 2))
        refused(folder, "in use by pid", work="a", shard=(1, 1))
        refused(folder, "in use by pid", work="b", shard=(3, 3))
        refused(folder, "without --overwrite always", work="a", shard=(3, 3), alone=True)
        with enter(folder, "a", (3, 3)):
            assert len(locks(folder)) == 3
    assert locks(folder) == []


def test_a_shard_of_the_same_suite_on_another_host_stands_beside(folder: Path) -> None:
    with enter(folder, "a", (1, 2)):
        change(folder / "shard-1-of-2.lock", host="elsewhere")
        with enter(folder, "a", (2, 2)):
            refused(folder, "in use by pid", "on elsewhere", work="b")


def test_of_another_host_a_person_must_say_that_it_is_dead(suites: list[Plan], folder: Path) -> None:
    enter(folder)
    path = folder / "shard-1-of-1.lock"
    change(path, host="elsewhere", pid=1 << 22)
    refused(folder, "on elsewhere since 2", f"if it does not run there any more, remove {path} and run again")
    for overwrite in ("missing", "always"):
        with pytest.raises(StoreError, match="on elsewhere"):
            run(suites[0], folder, overwrite=overwrite)
    path.unlink()
    run(suites[0], folder)


def test_a_process_of_the_same_number_that_started_at_another_time_is_another(folder: Path) -> None:
    enter(folder)
    change(folder / "shard-1-of-1.lock", process="boot 0, 1 ticks")
    with enter(folder, "b"):
        assert json.loads((folder / "shard-1-of-1.lock").read_text())["work"] == "b"


def test_a_text_that_names_nobody_is_shown(folder: Path) -> None:
    (folder / "shard-1-of-1.lock").write_text("")
    refused(folder, "shard-1-of-1.lock: expected the name of a run, found ''; if none is going on, remove it")
    (folder / "shard-of-my-work.lock").write_text("a stranger's")
    (folder / "shard-1-of-1.lock").unlink()
    with enter(folder):
        pass
    assert locks(folder) == ["shard-of-my-work.lock"]


def test_who_does_not_leave_the_gate_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    with RunLock(folder, "a").gate():
        refused(folder, f"in use by pid {os.getpid()}")
    (folder / "gate.lock").write_text("")
    refused(folder, f"{folder / 'gate.lock'}: expected the name of a run, found ''")


def test_a_refused_or_failing_run_leaves_no_lock(suites: list[Plan], folder: Path) -> None:
    run(suites[0], folder)
    with pytest.raises(StoreError, match="holds another run"):
        run(suites[1], folder)
    with pytest.raises(ZeroDivisionError), enter(folder):
        raise ZeroDivisionError
    assert locks(folder) == []


def test_a_folder_is_read_while_a_run_is_going_on(suites: list[Plan], folder: Path) -> None:
    run(suites[0], folder)
    with enter(folder):
        assert len(load(folder).attacks) == 2
        assert len(merge([folder], folder.parent / "out").images) == 2
        assert numbers(Store(folder)).equals(numbers(Store(folder.parent / "out")))


def test_a_disk_without_links_has_locks_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*paths: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    outcomes = at_once(*(partial(_through, RunLock(folder, work)) for work in "abcd"))
    assert sorted(map(bool, outcomes)) == [False, True, True, True]
    assert files(folder).keys() == {"shard-1-of-1.lock"}


KILLED = """
import os, signal, sys
from pathlib import Path
from iqarena.store.lock import RunLock
runner = RunLock(Path(sys.argv[1]), "killed")
with runner.gate():
    runner.enter()
    if sys.argv[2] == "gate":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("waited_for", [True, False])
@pytest.mark.parametrize("at", ["gate", "place"])
def test_what_a_killed_run_held_is_taken_over_without_a_word(folder: Path, at: str, waited_for: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), at])
    os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if waited_for else os.WNOWAIT))
    held = ["gate.lock", "shard-1-of-1.lock"] if at == "gate" else ["shard-1-of-1.lock"]
    assert locks(folder) == held
    runners = [RunLock(folder, "a", (i, 4)) for i in range(1, 5)]
    assert at_once(*(partial(_through, runner) for runner in runners)) == [""] * 4
    assert locks(folder) == [f"shard-{i}-of-4.lock" for i in range(1, 5)]
    process.wait()


def _through(runner: RunLock) -> None:
    with runner.gate():
        runner.enter()


COUNTING = """
import os, random, signal, sys
from pathlib import Path
from iqarena.store.lock import RunLock
folder, runner = Path(sys.argv[1]), RunLock(Path(sys.argv[1]), "a")
for i in range(60):
    with runner.gate():
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
        if i == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_at_a_time_passes_the_gate_whoever_is_killed_in_it(folder: Path) -> None:
    (folder / "count").write_text("0")
    ends = (1, 7, 19, 20, 21, 60)
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING, str(folder), str(end)]) for end in ends]
    assert [process.wait(120) for process in processes] == [-signal.SIGKILL] * 5 + [0]
    assert int((folder / "count").read_text()) == sum(min(end + 1, 60) for end in ends)
    with RunLock(folder, "a").gate():
        assert locks(folder) == ["gate.lock"]


def test_left_over_files_go_when_nobody_else_is_there(suites: list[Plan], folder: Path) -> None:
    leftovers = [folder / "manifest.json.7.part", folder / "rows" / "a-png-53b5fe1e.parquet.7.part"]
    for path in leftovers:
        path.write_text("half")
    with enter(folder, "other work", (1, 2)):
        with pytest.raises(StoreError):
            run(suites[0], folder)
        assert all(path.exists() for path in leftovers)
    run(suites[0], folder, (1, 2))
    assert not any(path.exists() for path in leftovers)


def test_a_shard_leaves_what_another_may_be_writing(suites: list[Plan], folder: Path) -> None:
    run(suites[0], folder, (1, 2))
    part = folder / "rows" / "a-png-53b5fe1e.parquet.7.part"
    part.write_text("being written")
    seen: list[bool] = []

    def meet(cells: int) -> nullcontext[Callable[[int], object]]:
        if not seen:
            seen.append(part.exists())
            part.write_text("being written")
            run(suites[0], folder, (2, 2))
            seen.append(part.exists())
        return quiet(cells)

    execute(suites[0], Store(folder), Options(shard=(1, 2), workers=1), overwrite="missing", command="", progress=meet)
    assert seen == [False, True]


def test_the_owner_is_this_process(folder: Path) -> None:
    with enter(folder, "a"):
        owner = Owner(**json.loads((folder / "shard-1-of-1.lock").read_text()))
    assert (owner.pid, owner.work, owner.dead) == (os.getpid(), "a", False)
    assert owner.process
    assert dataclasses.replace(owner, pid=1 << 22).dead, "there is no process of this number"
    assert not dataclasses.replace(owner, pid=1 << 22, host="elsewhere").dead
    assert not dataclasses.replace(owner, process="").dead, "what cannot be known is believed to run"
