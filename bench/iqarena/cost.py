"""What a suite costs, before it runs; and what a run costs beyond its model evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import mul
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from iqarena.api import CHECKPOINTS, Attack, ImageError, IqarenaError, Model
from iqarena.imagesets.database import Database
from iqarena.manifest import build_manifest, finish
from iqarena.plan import Plan
from iqarena.registry import build_attack
from iqarena.report import derive
from iqarena.runner import Options, cores, run_plan, shard_items, single_threaded
from iqarena.scorer import CUDA_BATCH, Scorer
from iqarena.seeding import Streams
from iqarena.source import Source
from iqarena.store import Store
from iqarena.weights import no_downloads

USUAL = (500, 500)  # pixels, for timing a database whose pictures differ in size and are not here


def describe_plan(plan: Plan, device: str = "cpu") -> str:
    """Pairs, model evaluations and the time they take on ``device``, from a few timed ones per model.

    What is missing (a database, weights) is named; the pictures are then counted as published.
    """
    missing: list[str] = []
    count, x = _pictures(plan, missing)
    times = count * plan.suite.repeats
    gradients, table = plan.gradients(), []
    with single_threaded(device == "cpu"), no_downloads():
        for model in plan.models:
            counts = [_scores(plan, model) * times, gradients.get(repr(model), 0) * times]
            try:
                each = _timed(model, x, device)
                table.append((repr(model), *counts, *(1000 * s for s in each), sum(map(mul, counts, each))))
            except (IqarenaError, ImportError) as error:
                missing.append(f"{model!r}: {error}")
                table.append((repr(model), *counts, None, None, None))
    pairs = len({(source, target) for _, source, target in plan.results()})
    headers = ["model", "scores ≤", "gradients ≤", "ms a score", "ms a gradient", "seconds ≤"]
    seconds, at_once = [row[-1] for row in table if row[-1] is not None], cores() if device == "cpu" else 1
    where = f"{at_once} cores of this machine" if device == "cpu" else torch.cuda.get_device_name(device)
    timed = f" for {len(seconds)} of {len(table)} models" if len(seconds) < len(table) else ""
    total = f"at most {_duration(sum(seconds) / at_once)}{timed} on {where}"
    lines = [
        f"suite {plan.suite.name}: {count} pictures × {len(plan.attacks)} attacks × {pairs} pairs"
        f" × {plan.suite.repeats} repeats = {times * len(plan.results())} rows",
        f"images {plan.images!r}, timed on one of {x.shape[-1]}×{x.shape[-2]}\n",
        tabulate(table, headers=headers, floatfmt=".0f", missingval="?"),
        f"\n{total if seconds else 'no model is here to be timed'}",
        *(f"missing: {line}" for line in missing),
    ]
    return "\n".join(lines)


def _scores(plan: Plan, model: Model) -> int:
    """Scores that ``model`` as a target gives per picture: of what is stored, and of what query attacks ask."""
    met = [attack for attack, _, target in plan.results() if target == model]
    return sum(3 + attack.queries + 2 * sum(at <= attack.queries for at in CHECKPOINTS) for attack in met)


def _pictures(plan: Plan, missing: list[str]) -> tuple[int, Tensor]:
    """How many pictures there are and the first one; grey ones, as published, for a database that is not here."""
    try:
        return len(shard_items(plan)), _first_picture(plan)
    except ImageError as error:
        if not isinstance(plan.images, Database):
            raise
        missing.append(str(error))
    count = min(plan.images.published, plan.suite.limit or plan.images.published)
    width, height = (plan.images.crop,) * 2 if plan.images.crop else plan.images.size or USUAL
    return count, torch.full((1, 3, height, width), 0.5)


def _timed(model: Model, x: Tensor, device: str) -> tuple[float, float]:
    """Seconds that a score and a gradient take per picture; 0 for a gradient that there is not."""
    scorer = Scorer(model, device)
    batch = x if device == "cpu" else x.expand(CUDA_BATCH, -1, -1, -1)
    score, gradient = (_seconds(_evaluation(scorer, batch, gradient=kind), 3) for kind in (False, model.differentiable))
    return score / len(batch), gradient / len(batch)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"


def speed_report(plan: Plan) -> str:
    """Run ``plan`` from nothing and the same number of bare evaluations with the same threads, and compare.

    The two take turns, a third of the pictures at a time (when there are enough of them to keep every core busy), so
    that a machine that slows down slows both.
    """
    blocks = max(1, min(3, len(shard_items(plan)) // (2 * cores())))
    loading = _seconds(lambda: [Scorer(model) for model in plan.models], 1)
    x, run_seconds, bare, counts = _first_picture(plan), 0.0, 0.0, {"gradient": 0, "forward": 0}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for i in range(1, blocks + 1):
            started = time.perf_counter()
            scorers = run_plan(plan, store, Options(shard=(i, blocks)))
            run_seconds += time.perf_counter() - started
            counts = {kind: n + sum(s.evaluated[kind] for s in scorers) for kind, n in counts.items()}
            bare += _bare_loop(scorers, x)
        rows = store.rows()
        report_seconds = _seconds(
            lambda: derive(rows, finish(build_manifest(plan, Options(), "iqarena speed"), rows), store.folder), 1
        )
        against = _against_torchattacks(Scorer(plan.models[0]), x)
    table = [
        ("loading models for the first time", loading),
        ("run: loading, crafting, scoring, storing", run_seconds),
        ("the same evaluations in a bare loop", bare),
        ("tables, plots and page", report_seconds),
    ]
    what = f"{len(shard_items(plan))} pictures, {counts['gradient']} gradients, {counts['forward']} scores"
    return (
        f"{tabulate(table, headers=[what, 'seconds'], floatfmt='.2f')}\n"
        f"share of the run that is not model evaluation: {100 * (1 - bare / run_seconds):.1f} %\n\n"
        f"{tabulate(against, headers=['10 steps, one picture', 'ours s', 'torchattacks s', 'ratio'], floatfmt='.3f')}"
    )


def _first_picture(plan: Plan) -> Tensor:
    """The first picture that can be read, ``(1, 3, H, W)`` in [0, 1]."""
    failure: Exception | None = None
    for item in shard_items(plan):
        try:
            return torch.from_numpy(plan.images.read(item)).permute(2, 0, 1)[None].float() / 255
        except ImageError as error:
            failure = failure or error
    raise failure or ImageError("the image set is empty")


def _bare_loop(scorers: list[Scorer], x: Tensor) -> float:
    """Wall time of every evaluation the run made, on one picture of its size, spread over the run's threads."""
    jobs: list[Callable[[], object]] = []
    for scorer in scorers:
        counts = dict(scorer.evaluated)
        jobs += [_evaluation(scorer, x, gradient=False)] * counts["forward"]
        jobs += [_evaluation(scorer, x, gradient=True)] * counts["gradient"]
    with single_threaded(True), ThreadPoolExecutor(cores()) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda job: job(), jobs):
            pass
        return time.perf_counter() - started


def _against_torchattacks(scorer: Scorer, x: Tensor) -> list[tuple[str, float, float, float]]:
    """Our attack and torchattacks' through the bridge, in turn, same model and picture; medians of five."""
    theirs_of = {"pgd": "torchattacks.PGD(alpha=2/255)", "mi_fgsm": "torchattacks.MIFGSM"}
    rows = []
    for name, other in theirs_of.items():
        times: list[list[float]] = [[], []]
        for _ in range(5):
            for which, spec in enumerate((name, other)):
                times[which].append(_seconds(lambda spec=spec: _craft(build_attack(spec), scorer, x), 1))
        ours, theirs = (sorted(t)[2] for t in times)
        rows.append((name, ours, theirs, ours / theirs))
    return rows


def _craft(attack: Attack, scorer: Scorer, x: Tensor) -> Tensor:
    streams = Streams(["speed"], repr(attack))
    return attack.perturb(x, x.new_ones(1, 1, 1, 1), Source([scorer], x, streams), streams)


def _evaluation(scorer: Scorer, x: Tensor, *, gradient: bool) -> Callable[[], object]:
    """A job that has ended when it returns, on a GPU too."""
    return (lambda: scorer.value_and_gradient(x)[0].cpu()) if gradient else (lambda: scorer.score(x).cpu())


def _seconds(job: Callable[[], object], times: int) -> float:
    job() if times > 1 else None
    started = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - started) / times
