"""Numbers that would be wrong without a word: each is an error that names the plugin, or cannot come about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from iqarena.api import Model, WeightsError, known_sha256
from iqarena.files.hashing import file_sha256
from iqarena.runner.driver import Options, run_plan
from iqarena.runner.execute import execute
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.testing import CurvedNet

# ---- weights that are replaced


@dataclass(frozen=True, kw_only=True, repr=False)
class Filed(Model):
    """A scorer with a weights file: the seed of its numbers."""

    name = "filed"

    file: Path = Path()
    then: Callable[[], Any] = field(default=str, compare=False)  # once the file has been read

    @property
    def weights_sha256(self) -> str:
        return known_sha256(self.file)

    def load(self) -> nn.Module:
        net = CurvedNet(int(self.file.read_text()))
        self.then()
        return net


def replaced(file: Path) -> Callable[[], None]:
    """Another file of the same size and times takes the place, as ``cp -p`` does."""

    def write() -> None:
        stat, other = file.stat(), file.with_suffix(".other")
        other.write_text(str(9 - int(file.read_text())))
        other.replace(file)
        import os

        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return write


def with_models(plan: Plan, *targets: Model) -> Plan:
    sources = tuple(s for s in plan.sources if s.spec.startswith("toy_curved"))[:1]
    return replace(plan, targets=targets, sources=sources)


def test_a_replaced_file_of_the_same_size_and_time_has_another_hash(tmp_path: Path) -> None:
    (file := tmp_path / "w").write_text("1")
    before = known_sha256(file)
    replaced(file)()
    assert before != known_sha256(file) == file_sha256(file)


def test_weights_that_change_while_they_are_loaded_give_no_row(plan: Plan, tmp_path: Path) -> None:
    (file := tmp_path / "w").write_text("1")
    target, store = Filed(file=file, then=replaced(file)), Store(tmp_path / "run")
    with pytest.raises(WeightsError, match=r"filed.*: its weights changed .* run again") as refused:
        run_plan(with_models(plan, target), store, Options(workers=1))
    assert "\n" not in str(refused.value)
    assert store.rows().empty


def test_weights_that_change_before_they_are_loaded_are_not_what_the_manifest_says(plan: Plan, tmp_path: Path) -> None:
    (file := tmp_path / "w").write_text("1")
    (other := tmp_path / "v").write_text("2")
    first, second = Filed(file=other, then=replaced(file)), Filed(file=file)
    store = Store(tmp_path / "run")
    with pytest.raises(WeightsError, match=r"filed.*: its weights changed"):
        started(with_models(plan, first, second), store)
    assert store.rows().empty


def test_rows_carry_the_weights_that_were_loaded_whatever_lies_there_later(plan: Plan, tmp_path: Path) -> None:
    (file := tmp_path / "w").write_text("1")
    target, store = Filed(file=file), Store(tmp_path / "run")
    small = with_models(plan, target)
    loaded, swap = file_sha256(file), replaced(file)
    started(small, store, tick=lambda cells: swap() if file_sha256(file) == loaded else None)
    assert store.manifest().models[repr(target)].weights_sha256 == loaded != file_sha256(file)
    rows = store.rows()
    swap()
    run_plan(small, again := Store(store.folder), Options(workers=1))
    assert again.written == 0
    assert (again.rows()["key"] == rows["key"]).all()


def started(plan: Plan, store: Store, tick: Callable[[int], object] = lambda cells: None) -> None:
    from contextlib import nullcontext

    execute(
        plan, store, Options(workers=1), overwrite="missing", command="", progress=lambda cells: nullcontext(tick)
    )
