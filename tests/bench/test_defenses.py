"""Defended scorers: their specs, the gradient that an attacker is given, plans and runs with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from toyruns import Answer

from iqarena.api import Purification
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.errors import IqarenaError, SpecError
from iqarena.registry import tables as registry
from iqarena.registry.tables import build_defense, build_model, names, plugin_class
from iqarena.report import derive
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve
from iqarena.suite.sources import SourceSpec, parse_source
from iqarena.testing import check_defense, images

SUITE = {
    "targets": ["toy_curved", "jpeg|toy_curved", "flip(draws=2)|toy_curved", "toy_linear", "jpeg|toy_linear"],
    "sources": ["undefended", "own"],
    "attacks": ["identity", "noise", "mi_fgsm(eps=4/255, steps=2)", "mi_fgsm(steps=2)", "square(eps=8/255, queries=5)"],
}


def test_the_last_call_is_the_scorer_and_the_first_defense_meets_the_image_first() -> None:
    model = build_model("bit_depth(3)|flip(p=1)|toy_curved(1)")
    assert repr(model) == "bit_depth(bits=3)|flip(seed=0, draws=8, p=1)|toy_curved(seed=1)"
    assert model.label == "bit_depth(bits=3)|flip(p=1)|toy_curved(seed=1)"
    assert model == build_model(repr(model)) == build_model(model.label)
    assert [repr(d) for d in model.defenses] == ["bit_depth(bits=3)", "flip(seed=0, draws=8, p=1)"]
    assert model.undefended == build_model("toy_curved(seed=1)")
    x = images(size=(32, 40)).float() / 255
    by_hand = Scorer(model.undefended).score(((7 * x).round() / 7).flip(-1))
    assert torch.equal(Scorer(model).score(x), by_hand)


def test_a_defended_model_has_the_needs_of_its_scorer() -> None:
    inner, defended = build_model("vit"), build_model("jpeg|vit")
    for name in ("min_size", "facts", "files", "weights_sha256", "stochastic", "channels_last", "differentiable"):
        assert getattr(defended, name) == getattr(inner, name)
    assert (inner.straight_through, defended.straight_through) == (False, True)
    assert not build_model("resize|vit").straight_through
    assert build_model("flip|vit").straight_through
    assert not build_model("jpeg|toy_step").differentiable
    assert build_model("jpeg|toy_noisy").stochastic


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jpge|toy_curved", "unknown defense 'jpge'; nearest: 'jpeg'; see: iqarena list defenses"),
        ("jpeg", "expected a scorer at the end, found the defense jpeg; write for example 'jpeg|cnn'"),
        ("jpeg|flip(p=1)", "expected a scorer at the end, found the defense flip"),
        ("toy_curved|jpeg|cnn", "expected the scorer at the end, behind its defenses, found toy_curved earlier"),
        ("jpeg|toy_curve", "unknown model 'toy_curve'; nearest: 'toy_curved'"),
        ("jpeg(q=3)|toy_curved", "defense 'jpeg' has no parameter 'q'"),
    ],
)
def test_chains_that_make_no_sense_are_named(spec: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        build_model(spec)
    assert message in str(caught.value)


def test_a_source_may_be_defended_alone_and_in_an_ensemble() -> None:
    text = "ensemble(jpeg(quality=50)|toy_curved(seed=0), toy_linear(seed=0))"
    source = parse_source("ensemble(jpeg|toy_curved, toy_linear)")
    assert source.spec == text
    assert parse_source("jpeg|toy_curved").models == (build_model("jpeg|toy_curved"),)
    relations = {t: source.relation(build_model(t)) for t in ("jpeg|toy_curved", "toy_curved", "toy_step")}
    assert list(relations.values()) == ["ensemble_member", "same_scorer", "ensemble_holdout"]
    alone = SourceSpec((build_model("toy_curved"),))
    assert alone.relation(build_model("flip|jpeg|toy_curved")) == "same_scorer"
    assert alone.relation(build_model("flip|jpeg|toy_linear")) == "transfer"


def test_the_gradient_is_the_mean_over_the_declared_draws_and_the_score_the_images_own() -> None:
    x = images(size=(32, 40)).float() / 255
    model = build_model("random_crop(keep=0.6, draws=3)|toy_curved")
    defense, net = build_defense("random_crop(keep=0.6, draws=3)"), build_model("toy_curved").load()
    value, gradient = Scorer(model).value_and_gradient(x)
    assert torch.allclose(value, Scorer(model).score(x), atol=1e-5)
    for i in range(len(x)):
        leaf = x[i : i + 1].clone().requires_grad_()
        streams = [Streams([_sha256(leaf)], "random_crop", 0, k) for k in range(3)]
        scores = [net(defense.apply(leaf, s)) for s in streams]  # pyright: ignore[reportAttributeAccessIssue]
        expected = torch.autograd.grad(torch.stack(scores).mean(), leaf)[0]
        assert torch.allclose(gradient[i : i + 1], expected, atol=1e-6)
        assert value[i].item() == pytest.approx(scores[0].item(), abs=1e-4)
    assert len({round(s.item(), 4) for s in scores}) == 3
    more = build_model("random_crop(keep=0.6, draws=9)|toy_curved")
    assert torch.equal(Scorer(more).score(x), Scorer(model).score(x)), "draws changes no score"
    other = build_model("random_crop(keep=0.6, draws=3, seed=1)|toy_curved")
    assert not torch.equal(Scorer(other).score(x), Scorer(model).score(x))


def _sha256(x: torch.Tensor) -> str:
    return hashlib.sha256(x[0].detach().numpy().tobytes()).hexdigest()


def test_straight_through_is_the_scorers_gradient_at_the_purified_image() -> None:
    x = images(size=(32, 40)).float() / 255
    defense = build_defense("jpeg(quality=20)")
    assert isinstance(defense, Purification)
    purified = defense.before(torch.nn.Identity()).purify(x)
    expected = Scorer(build_model("toy_curved")).value_and_gradient(purified)
    actual = Scorer(build_model("jpeg(quality=20)|toy_curved")).value_and_gradient(x)
    assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


def test_sources_undefended_and_own(suite: Path) -> None:
    plan = resolve(load_suite(str(suite), SUITE))
    met = {(s.spec, repr(t), s.relation(t)) for s in plan.sources for t in plan.scored(s)}
    curved, linear = "toy_curved(seed=0)", "toy_linear(seed=0)"
    flipped = f"flip(seed=0, draws=2, p=0.5)|{curved}"
    jpegs = [f"jpeg(quality=50)|{name}" for name in (curved, linear)]
    assert met == {
        (curved, curved, "whitebox"), (curved, jpegs[0], "same_scorer"), (curved, flipped, "same_scorer"),
        (curved, linear, "transfer"), (curved, jpegs[1], "transfer"),
        (linear, linear, "whitebox"), (linear, jpegs[1], "same_scorer"),
        (linear, curved, "transfer"), (linear, jpegs[0], "transfer"), (linear, flipped, "transfer"),
        (flipped, flipped, "whitebox"), (jpegs[0], jpegs[0], "whitebox"), (jpegs[1], jpegs[1], "whitebox"),
    }  # fmt: skip
    assert len(plan.cells) == 5
    assert resolve(load_suite(str(suite), SUITE | {"sources": ["own", "undefended"]})).results() != []
    swapped = resolve(load_suite(str(suite), SUITE | {"sources": ["own", "undefended"]}))
    assert {(s.spec, repr(t)) for _, s, t in swapped.results()} == {(s.spec, repr(t)) for _, s, t in plan.results()}


def test_leave_one_out_leaves_the_scorer_out_with_all_its_defenses(suite: Path) -> None:
    keys = {**SUITE, "targets": ["toy_curved", "jpeg|toy_curved", "toy_linear", "toy_curved(seed=1)"]}
    plan = resolve(load_suite(str(suite), keys | {"sources": ["leave_one_out"]}))
    assert plan.sources[0].spec == "ensemble(toy_linear(seed=0), toy_curved(seed=1))"
    assert {s.relation(t) for s in plan.sources for t in plan.scored(s)} == {"ensemble_holdout"}


def test_rows_do_not_depend_on_batches_workers_or_shards(suite: Path, results: Callable[..., pd.DataFrame]) -> None:
    plan = resolve(load_suite(str(suite), SUITE | {"limit": 3}))
    rows = results(plan, workers=1)
    assert (rows["status"] == "ok").all()
    assert len(rows) == 3 * len(plan.results())
    pd.testing.assert_frame_equal(results(plan, batch_size=3, workers=2), rows, check_exact=True)
    alone = results(plan, shard=(2, 3))
    own = rows[rows["image"].isin(alone["image"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, own, check_exact=True)
    white = rows[(rows["relation"] == "whitebox") & (rows["attack_label"] == "mi_fgsm(steps=2)")]
    assert (white.groupby("target")["own_gain"].mean() > 0).all()


def test_a_run_ranks_its_defenses_and_the_board_is_rebuilt_from_rows(
    suite: Path, tmp_path: Path, iqarena: Callable[..., Answer]
) -> None:
    lists = [f"--set={key}={value!r}".replace("'", '"') for key, value in SUITE.items()]
    answer = iqarena("run", suite, "--out", tmp_path / "run", "--limit", 2, *lists)
    assert answer.code == 0, answer.err
    assert "Defenses: Means over the scorers" in answer.out
    store = Store(tmp_path / "run")
    derived = ("leaderboard_defenses.csv", "defenses_by_scorer.csv", "pairs.csv", "leaderboard.md", "index.html")
    before = {name: (store.folder / name).read_text("utf-8") for name in derived}
    board = pd.read_csv(store.folder / "leaderboard_defenses.csv", keep_default_na=False)
    assert set(board["label"]) == {"undefended", "jpeg", "flip(draws=2)"}
    assert set(board["scorers"]) == {"toy_curved(seed=0), toy_linear(seed=0)", "toy_curved(seed=0)"}
    assert (board.set_index("label").loc[["jpeg", "undefended"], "slowdown"].astype(float) > 0).all()
    pairs = pd.read_csv(store.folder / "pairs.csv", keep_default_na=False)
    assert set(pairs["defense"]) == {"", "jpeg(quality=50)", "flip(seed=0, draws=2, p=0.5)"}
    assert set(pairs["relation"]) == {"whitebox", "same_scorer", "transfer", "query"}
    assert "flip(draws=2)|toy_curved" in before["index.html"]  # flagged as random
    derive(store.rows(), store.manifest(), tmp_path / "again", store.folder / "gallery")
    assert {name: (tmp_path / "again" / name).read_text("utf-8") for name in derived} == before
    assert all("|" not in path.name for path in store.folder.rglob("*"))


def test_the_defense_of_the_readme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of models/README.md, read from there, through the door of --plugin."""
    monkeypatch.setattr(registry, "_from_files", {kind: dict(table) for kind, table in registry._from_files.items()})
    text = (Path(__file__).parents[2] / "models" / "README.md").read_text("utf-8")
    file = tmp_path / "contrast.py"
    file.write_text(text.partition("## Add a defense")[2].partition("```python\n")[2].partition("```")[0])
    registry.add_file(file)
    checks = list(check_defense(build_defense("contrast"), build_model("toy_curved")))
    assert len(checks) > 15
    for _, check in checks:
        check()


def test_a_defense_that_returns_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Purification, "defend", lambda self, model: model)
    with pytest.raises(IqarenaError, match=r"expected a model bit_depth\(bits=4\)\|toy_curved"):
        build_model("bit_depth|toy_curved")


def test_defenses_are_listed_and_described(iqarena: Callable[..., Answer]) -> None:
    listed = iqarena("list", "defenses")
    assert (listed.code, "random_crop" in listed.out, "iqarena_models.defenses.jpeg" in listed.out) == (0, True, True)
    described = iqarena("describe", "random_crop")
    assert described.out.startswith("defense random_crop")
    assert "random_crop(seed=0, draws=8, keep=0.9)" in described.out


def test_the_suite_has_every_purification_on_two_scorers_and_both_trainings_on_all() -> None:
    plan = resolve(load_suite("defenses"))
    defended = {(t.defenses[0].name, t.undefended.name) for t in plan.targets if len(t.defenses) == 1}
    purifications = {n for n in names("defense") if issubclass(plugin_class("defense", n), Purification)}
    dear = {"median_smoothing"}  # a hundred scores for one: on one scorer
    assert {(n, s) for n in purifications - dear for s in ("cnn", "bilinear")} <= defended
    assert {(n, t.undefended.name) for n in ("gradient_norm", "adversarial") for t in plan.targets} <= defended
    assert dear <= {name for name, _ in defended}
    assert all(t.undefended in plan.targets for t in plan.targets), "every scorer has its reference row"
