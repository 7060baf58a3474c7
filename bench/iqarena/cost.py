"""What a suite costs, before it runs; and what a run costs beyond its model evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from iqarena.api import Attack
from iqarena.plan import Plan
from iqarena.registry import build_attack
from iqarena.report import derive
from iqarena.runner import Options, run_plan, shard_items, single_threaded
from iqarena.scorer import Scorer
from iqarena.seeding import Streams
from iqarena.source import Source
from iqarena.store import Store


def describe_plan(plan: Plan) -> str:
    """Pairs, gradient evaluations and an estimate of the time, from one timed gradient per model."""
    items = shard_items(plan)
    workers = torch.get_num_threads()
    x = torch.from_numpy(plan.images.read(items[0])).permute(2, 0, 1)[None].float() / 255
    rows, total = [], 0.0
    with single_threaded(True):
        for model in plan.models:
            gradients = plan.gradients().get(repr(model), 0) * len(items)
            seconds = _seconds(_evaluation(Scorer(model), x, gradient=model.differentiable), 3)
            total += gradients * seconds / workers
            rows.append((repr(model), gradients, 1000 * seconds))
    pairs = sum(len(plan.scored(source)) for source in plan.sources)
    table = tabulate(rows, headers=["model", "gradients", "ms each"], floatfmt=".0f")
    return (
        f"suite {plan.suite.name}: {len(items)} pictures × {len(plan.attacks)} attacks × {pairs} pairs"
        f" = {len(items) * len(plan.attacks) * pairs * plan.suite.repeats} rows\n\n{table}\n\n"
        f"at most {sum(r[1] for r in rows)} gradients, about {total / 60:.1f} minutes on {workers} cores of this machine"
        " for crafting; scoring adds roughly a tenth"
    )


def speed_report(plan: Plan) -> str:
    """Run ``plan`` from nothing, then the same number of bare evaluations with the same threads, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        started = time.perf_counter()
        scorers = run_plan(plan, store, Options())
        run_seconds = time.perf_counter() - started
        from iqarena.manifest import build_manifest, finish

        derive(store.rows(), finish(build_manifest(plan, Options(), "iqarena speed"), store), store.folder, None)
        report_seconds = time.perf_counter() - started - run_seconds
    x = torch.from_numpy(plan.images.read(plan.images.items()[0])).permute(2, 0, 1)[None].float() / 255
    bare = _bare_loop(scorers, x)
    rows = [
        ("run: crafting, scoring, storing", run_seconds),
        ("the same evaluations in a bare loop", bare),
        ("tables, plots and page", report_seconds),
    ]
    forwards, gradients = (sum(s.evaluated[kind] for s in scorers) for kind in ("forward", "gradient"))
    return (
        tabulate(rows, headers=[f"{len(shard_items(plan))} pictures, {gradients} gradients, {forwards} forwards", "seconds"],
                 floatfmt=".2f")
        + f"\nshare of the run that is not model evaluation: {100 * max(0.0, 1 - bare / run_seconds):.1f} %\n\n"
        + tabulate(_against_torchattacks(scorers[0], x), headers=["10 steps, one picture", "ours s", "torchattacks s", "ratio"],
                   floatfmt=".3f")
    )  # fmt: skip


def _bare_loop(scorers: list[Scorer], x: Tensor) -> float:
    """Wall time of every evaluation the run made, on one picture of its size, spread over the run's threads."""
    jobs: list[Callable[[], object]] = []
    for scorer in scorers:
        counts = dict(scorer.evaluated)
        jobs += [_evaluation(scorer, x, gradient=False)] * counts["forward"]
        jobs += [_evaluation(scorer, x, gradient=True)] * counts["gradient"]
    with single_threaded(True), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda job: job(), jobs):
            pass
        return time.perf_counter() - started


def _against_torchattacks(scorer: Scorer, x: Tensor) -> list[tuple[str, float, float, float]]:
    """Our attack and torchattacks' through the bridge, in turn, same model and picture; medians of five."""
    pairs = {"pgd": ("pgd", "torchattacks(method=PGD, alpha=2/255)"), "mi_fgsm": ("mi_fgsm", "torchattacks(method=MIFGSM)")}
    rows = []
    for name, specs in pairs.items():
        times: list[list[float]] = [[], []]
        for _ in range(5):
            for which, spec in enumerate(specs):
                times[which].append(_seconds(lambda spec=spec: _craft(build_attack(spec), scorer, x), 1))
        ours, theirs = (sorted(t)[2] for t in times)
        rows.append((name, ours, theirs, ours / theirs))
    return rows


def _craft(attack: Attack, scorer: Scorer, x: Tensor) -> Tensor:
    streams = Streams(["speed"], repr(attack))
    return attack.perturb(x, x.new_ones(1, 1, 1, 1), Source([scorer], x, streams), streams)


def _evaluation(scorer: Scorer, x: Tensor, *, gradient: bool) -> Callable[[], object]:
    return (lambda: scorer.value_and_gradient(x)) if gradient else (lambda: scorer.score(x))


def _seconds(job: Callable[[], object], times: int) -> float:
    job() if times > 1 else None
    started = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - started) / times
