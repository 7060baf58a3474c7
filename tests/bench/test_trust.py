"""Numbers that would be wrong without a word: each is an error that names the plugin, or cannot come about."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iqarena.api import ImageItem, Model, WeightsError, known_sha256
from iqarena.engine.scorer import Scorer
from iqarena.errors import ScorerError
from iqarena.files.hashing import file_sha256
from iqarena.images.tensors import to_images
from iqarena.metrics.distortion import Reference
from iqarena.registry.tables import build_attack
from iqarena.runner.driver import Options, run_plan
from iqarena.runner.execute import execute
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.testing import Curved, CurvedNet, images
from iqarena.worker.batch import Batch

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
    execute(plan, store, Options(workers=1), overwrite="missing", command="", progress=lambda cells: nullcontext(tick))


# ---- scorers that answer otherwise the next time


class WanderingNet(CurvedNet):
    """Adds ``shift`` of the number of calls so far."""

    def __init__(self, shift: Callable[[int], float]) -> None:
        super().__init__(0)
        self.shift, self.calls = shift, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.shift(self.calls)


@dataclass(frozen=True, kw_only=True, repr=False)
class Wandering(Model):
    name = "wandering"

    shift: Callable[[int], float] = field(default=float)

    def load(self) -> nn.Module:
        return WanderingNet(self.shift)


@dataclass(frozen=True, kw_only=True, repr=False)
class Random(Wandering):
    name = "random_scorer"
    stochastic = True


def batch_of_one() -> Batch:
    image = to_images(images([0]))[0]
    return Batch([ImageItem(id="a", cluster="a")], [image], [Reference.of(image)], torch.device("cpu"))


def test_the_first_score_of_an_image_is_not_believed_alone() -> None:
    """A first evaluation that differs from all later ones costs an error, and the next time it is right."""
    scorer, batch = Scorer(Wandering(shift=lambda call: 1e-4 if call == 1 else 0)), batch_of_one()
    with pytest.raises(ScorerError, match=r"wandering.*: .* the same image .* stochastic") as refused:
        batch.clean(scorer)
    assert "\n" not in str(refused.value)
    assert torch.equal(torch.from_numpy(batch.clean(scorer)), Scorer(Curved()).score(batch.x))


def test_a_scorer_that_drifts_later_is_found_by_samples() -> None:
    scorer, batch = Scorer(Wandering(shift=lambda call: 1e-4 * (call > 2))), batch_of_one()
    first = batch.clean(scorer)
    for _ in range(2):
        batch.clean(scorer)
    with pytest.raises(ScorerError, match="the same image"):
        batch.clean(scorer)
    assert scorer.evaluated["forward"] == 1, "checks are not counted"
    assert first == Scorer(Curved()).score(batch.x).numpy()


def test_checks_are_few_and_spare_scorers_that_declare_themselves_random() -> None:
    scorer, noisy, batch = Scorer(Wandering(shift=lambda call: 0)), Scorer(Random()), batch_of_one()
    for _ in range(100):
        batch.clean(scorer)
        batch.clean(noisy)
    assert scorer.module.calls == 1 + 4, "at uses 1, 4, 16 and 64"
    assert noisy.module.calls == 1


def test_scores_of_an_earlier_run_are_not_compared() -> None:
    """The last digits may be another processor's."""
    scorer, batch = Scorer(Curved()), batch_of_one()
    batch.remember(scorer.model, 0, {batch.sha256[0]: 12.5}, 0.1)
    assert [batch.clean(scorer).tolist() for _ in range(20)] == [[12.5]] * 20


def test_a_scorer_that_drifts_beside_scores_of_an_earlier_run_is_found_too() -> None:
    scorer, batch = Scorer(Wandering(shift=lambda call: 1e-4 * call)), batch_of_one()
    batch.remember(scorer.model, 0, {batch.sha256[0]: 12.5}, 0.1)
    with pytest.raises(ScorerError, match="the same image"):
        batch.clean(scorer)


def test_equal_pixels_with_unequal_scores_are_error_rows(plan: Plan, tmp_path: Path) -> None:
    """The identity's image is scored once more, not looked up: the third evaluation here."""
    target = Wandering(shift=lambda call: 1e-4 * (call == 3))
    plan = with_models(replace(plan, attacks=(build_attack("identity"),)), target)
    plan = replace(plan, suite=replace(plan.suite, limit=1))
    run_plan(plan, store := Store(tmp_path / "run"), Options(workers=1))
    rows = store.rows()
    assert rows["status"].tolist() == ["error"]
    assert "wandering" in rows["message"][0]
    assert "equal pixels" in rows["message"][0]
