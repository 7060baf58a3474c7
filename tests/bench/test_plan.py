"""Suites resolved: sources, relations, the reference, the count of gradients."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from toyruns import ATTACKS, PAIRS, ROWS, SOURCES

from iqarena.api import Model
from iqarena.engine.scorer import Scorer
from iqarena.errors import IqarenaError, SpecError
from iqarena.registry.tables import build_attack, build_model
from iqarena.runner.driver import Options, run_plan, shard_items
from iqarena.store.folder import Store
from iqarena.suite.file import Suite, load_suite, suites
from iqarena.suite.plan import Plan, resolve
from iqarena.suite.sources import SourceSpec, named_sources
from iqarena.tools import forecast
from iqarena.tools.describe import meanings_of
from iqarena.tools.forecast import describe_plan

HERE = Path(__file__).parents[2]


def test_each_and_leave_one_out_leave_no_target_that_the_source_has_seen(plan: Plan) -> None:
    assert [s.spec for s in plan.sources] == [
        "toy_curved(seed=0)", "toy_curved(seed=1)", "ensemble(toy_curved(seed=0), toy_curved(seed=1))"
    ]  # fmt: skip
    relations = [(s.spec, repr(t), s.relation(t)) for s in plan.sources for t in plan.scored(s)]
    assert [r for _, _, r in relations] == [
        "whitebox", "transfer", "transfer", "transfer", "whitebox", "transfer", "ensemble_holdout"
    ]  # fmt: skip
    assert (len(plan.sources), len(relations), len(plan.attacks)) == (SOURCES, PAIRS, ATTACKS)
    assert ROWS == PAIRS * ATTACKS


def test_leave_one_out_of_three_leaves_two(suite: Path) -> None:
    targets = ["toy_curved", "toy_linear", "toy_curved(seed=1)"]
    plan = resolve(load_suite(str(suite), {"targets": targets, "sources": ["leave_one_out"]}))
    assert [[repr(t) for t in plan.scored(s)] for s in plan.sources] == [[repr(t)] for t in plan.targets]


def test_scorers_that_share_a_pretrained_network_are_relatives() -> None:
    """Published ones declare theirs, so nothing has to be downloaded to know."""
    hyper, topiq, dbcnn, distortion, cnn = map(build_model, ("hyperiqa", "topiq_nr", "dbcnn", "scnn", "cnniqa_live"))

    def relation(target: Model, *sources: Model) -> str:
        return SourceSpec(sources).relation(target)

    assert relation(topiq, hyper) == relation(hyper, topiq) == "same_backbone"
    assert relation(build_model("jpeg|topiq_nr"), hyper) == "same_backbone"
    assert relation(topiq, dbcnn, hyper) == "same_backbone", "one relative in an ensemble is enough"
    assert relation(dbcnn, distortion) == "same_backbone", "a part of it"
    assert relation(topiq, dbcnn) == relation(cnn, hyper) == "transfer"
    assert relation(topiq, dbcnn, cnn) == "ensemble_holdout"
    assert relation(build_model("jpeg|topiq_nr"), topiq) == "same_scorer"
    assert relation(build_model("linearityiqa(resnet=resnet50)"), hyper) == "same_backbone"
    assert relation(build_model("linearityiqa"), hyper) == "transfer"
    ensembles = {source.spec for source in named_sources("leave_one_out", (hyper, topiq, dbcnn, cnn))}
    assert ensembles == {
        "ensemble(dbcnn, cnniqa_live)", "ensemble(hyperiqa, topiq_nr, cnniqa_live)",
        "ensemble(hyperiqa, topiq_nr, dbcnn)",
    }, "relatives are left out with the target itself"  # fmt: skip
    keys = {"images": "pocket", "targets": ["topiq_nr", "dbcnn"], "attacks": ["fgsm"], "sources": ["hyperiqa"]}
    assert resolve(load_suite(keys)).without_strangers == (topiq,)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("cnniqa_live", "cnniqa_live(max_side=500)", "same_backbone"),
        ("brisque", "brisque(max_side=500)", "same_backbone"),
        ("cnniqa", "cnniqa(weights=own.pth)", "same_backbone"),
        ("cnniqa", "cnniqa_live", "transfer"),
        ("hyperiqa", "hyperiqa(weights=own.pth, backbone=resnet50)", "same_backbone"),
        ("hyperiqa", "hyperiqa(weights=own.pth, backbone=convnext_tiny)", "transfer"),
        ("hyperiqa", "liqe_style", "same_backbone"),
        ("hyperiqa", "liqe_style(backbone=resnet50.tv_in1k)", "same_backbone"),
        ("liqe_style(backbone=resnet18)", "liqe_style(weights=own.pth, backbone=convnext_tiny)", "transfer"),
        ("linearity", "dbcnn(weights=own.pth, backbone=tf_efficientnet_lite0)", "same_backbone"),
        ("scnn", "dbcnn(weights=own.pth, backbone=tf_efficientnet_lite0)", "same_backbone"),
        ("linearityiqa(resnet=resnet50)", "linearityiqa(weights=own.pth, backbone=resnet50)", "same_backbone"),
        ("linearityiqa", "linearityiqa(resnet=resnet50)", "transfer"),
        ("toy_curved", "toy_curved(seed=1)", "transfer"),
        ("brisque", "jpeg|brisque(max_side=500)", "same_backbone"),
    ],
)
def test_other_parameters_make_a_relative_unless_they_choose_another_network(
    one: str, other: str, expected: str
) -> None:
    first, second = build_model(one), build_model(other)
    assert SourceSpec((first,)).relation(second) == SourceSpec((second,)).relation(first) == expected


def test_a_source_may_be_named_and_need_not_be_a_target(suite: Path) -> None:
    sources = ["ensemble(toy_curved, toy_linear)", "toy_linear", "toy_linear(seed=0)"]
    plan = resolve(load_suite(str(suite), {"sources": sources, "targets": ["toy_step"]}))
    assert [s.spec for s in plan.sources] == ["ensemble(toy_curved(seed=0), toy_linear(seed=0))", "toy_linear(seed=0)"]
    assert [repr(m) for m in plan.models] == ["toy_step", "toy_curved(seed=0)", "toy_linear(seed=0)"]


def test_the_reference_is_the_suites_or_the_grids_or_declares_itself_one(suite: Path) -> None:
    def reference(**keys: Any) -> str | None:
        plan = resolve(load_suite(str(suite), keys))
        return plan.reference and plan.reference.label

    assert reference(reference="fgsm(eps=8/255)") == "fgsm"
    assert reference(reference="pgd") == "pgd", "which an earlier run into the folder may hold"
    assert reference() == "sega(samples=2)", "which declares itself one"
    assert reference(attacks=["fgsm"]) is None
    assert reference(grid={"attack": "mi_fgsm", "steps": [10, 2]}, attacks=[]) == "mi_fgsm"
    with pytest.raises(SpecError, match="unknown attack 'fgms'; nearest: 'fgsm'"):
        reference(reference="fgms")
    with pytest.raises(IqarenaError, match="expected none beside a grid, whose own attack it is, for 'reference'"):
        reference(reference="fgsm", grid={"attack": "fgsm", "eps": [0.1, 0.2]})
    with pytest.raises(IqarenaError, match="expected the spec of an attack for 'reference', found 3"):
        reference(reference=3)


def test_overrides_beat_the_file(suite: Path) -> None:
    loaded = load_suite(str(suite), {"seed": 7, "name": "other"})
    assert (loaded.seed, loaded.name, loaded.direction) == (7, "other", "mid")
    assert load_suite(str(suite)).name == "toy"


@pytest.mark.parametrize("name", suites())
def test_suites_that_come_with_iqarena_resolve(name: str) -> None:
    plan = resolve(load_suite(name))
    assert plan.suite.name == name
    assert plan.reference or plan.suite.name in ("defenses", "query_mos")


def test_gradients_are_foretold_exactly_when_none_is_taken_at_the_clean_image_in_passing(
    plan: Plan, tmp_path: Path
) -> None:
    specs = ["identity", "fgsm", "fgsm(eps=4/255)", "sega(samples=3)", "sega(samples=3, mask=none)", "sega(samples=2)"]
    plan = dataclasses.replace(plan, attacks=tuple(map(build_attack, specs)))
    foretold = plan.gradients()
    assert foretold == {"toy_curved(seed=0)": 1 + 3 + 2, "toy_curved(seed=1)": 1 + 3 + 2}
    scorers = run_plan(plan, Store(tmp_path / "run"), Options())
    n = len(plan.images.items())
    counted = {repr(s.model): s.evaluated["gradient"] for s in scorers}
    assert counted == {"toy_step": 0, **{name: n * gradients for name, gradients in foretold.items()}}


def test_what_a_run_costs_is_never_more_than_was_foretold(plan: Plan, tmp_path: Path) -> None:
    scorers = run_plan(plan, Store(tmp_path / "run"), Options())
    n, text = len(plan.images.items()), describe_plan(plan)
    assert f"{n} images × {ATTACKS} attacks × {PAIRS} pairs × 1 repeats = {n * ROWS} rows" in text
    for scorer in scorers:
        line = next(line for line in text.splitlines() if line.startswith(repr(scorer.model)))
        scores, gradients = (int(word) for word in line.removeprefix(repr(scorer.model)).split()[:2])
        assert gradients == n * plan.gradients().get(repr(scorer.model), 0) >= scorer.evaluated["gradient"]
        assert 0.7 * scores <= scorer.evaluated["forward"] <= scores
    assert re.search(r"^about [\d.]+ minutes on \d+ cores of this machine, and about [\d.]+ GB of memory$", text, re.M)


def test_gradients_of_other_images_are_timed_at_their_own_size(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[int, ...]] = []

    def a_second(scorer: Scorer, x: Tensor) -> tuple[float, float]:
        timed.append(tuple(x.shape))
        return 0.0, float(x.shape[-1])

    monkeypatch.setattr(forecast, "_timed", a_second)
    plan = dataclasses.replace(plan, attacks=tuple(map(build_attack, ("fgsm", "uap(steps=3)"))))
    lines = describe_plan(plan).splitlines()
    first, trained, *_ = timed
    assert trained == (1, 3, 288, 384)
    own = next(line for line in lines if line.startswith("toy_curved(seed=0)")).split()
    images = len(plan.images.items())
    assert int(own[2]) == images * (1 + 2 * 3), "alone and in the ensemble"
    assert float(own[-1]) == images * (1 * first[-1] + 2 * 3 * 384)


def test_limit_and_shards_share_out_every_image_once(suite: Path) -> None:
    plan = resolve(load_suite(str(suite), {"limit": 4}))
    parts = [shard_items(plan, (i, 3)) for i in (1, 2, 3)]
    assert [len(p) for p in parts] == [2, 1, 1]
    assert sorted(item.id for part in parts for item in part) == [f"p{i}.png" for i in range(4)]


def test_a_scorer_without_gradient_is_not_a_source(suite: Path) -> None:
    plan = resolve(load_suite(str(suite)))
    assert build_model("toy_step") in plan.targets
    assert all(m.differentiable for s in plan.sources for m in s.models)


def test_readme_and_help_explain_every_suite_key() -> None:
    text = (HERE / "bench" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Suite keys") : text.index("## Words")]
    assert [f.name for f in dataclasses.fields(Suite) if f"`{f.name}`" not in section] == []
    assert [f.name for f in dataclasses.fields(Suite) if f.name not in meanings_of(Suite)] == []
