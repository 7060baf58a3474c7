"""A suite's whole matrix against the loop that is usually written: craft for each source → target pair, then score."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate

from iqarena.api import SpecError
from iqarena.api.streams import Streams
from iqarena.engine.craft import craft
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.images.tensors import to_pixels
from iqarena.runner.driver import Options, run_plan, shard_items
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan
from iqarena.worker.threads import single_threaded


def matrix_report(plan: Plan) -> str:
    """Gradients, scores and seconds of a run with one worker, and of the same attacks crafted anew for every pair.

    The loop scores the clean and the adversarial image on the target and keeps nothing; the run scores two controls
    and the unrounded image too, measures distances, hashes and stores. Both load their models once. Raises
    :class:`SpecError` for query attacks, which are crafted anew for each target anyway.
    """
    if asking := [attack.label for attack in plan.attacks if attack.queries]:
        raise SpecError(f"expected attacks on sources, found {asking[0]}, which queries its target; leave it out")
    items = shard_items(plan)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        usage = run_plan(plan, Store(Path(folder)), Options(workers=1))
        seconds = time.perf_counter() - started
    run = {kind: float(sum(used.evaluated[kind] for used in usage)) for kind in ("gradient", "forward")}
    run["seconds"] = seconds
    with single_threaded(True):
        loop = _pair_by_pair(plan)
    names = {"gradient": "gradients", "forward": "scores", "seconds": "seconds"}
    table = [(names[kind], loop[kind], run[kind], loop[kind] / run[kind]) for kind in names]
    headers = [f"{len(items)} images, {len(plan.results())} rows each", "pair by pair", "one run", "ratio"]
    return tabulate(table, headers=headers, floatfmt=("", ".0f", ".0f", ".2f"))


def _pair_by_pair(plan: Plan) -> dict[str, float]:
    started = time.perf_counter()
    scorers = {model: Scorer(model) for model in plan.models}
    for item in shard_items(plan):
        pixels = to_pixels([plan.images.read(item)])
        x = pixels.float() / 255
        for attack, spec, target in plan.results():
            streams = Streams([item.id], attack.label)
            source = Source([scorers[model] for model in spec.models], x, streams, access=attack.access)
            adversarial = craft(attack, pixels, x, source, streams).adversarial
            scorers[target].score(torch.cat([x, adversarial.float() / 255]))
    evaluated = {kind: sum(s.evaluated[kind] for s in scorers.values()) for kind in ("gradient", "forward")}
    return {**evaluated, "seconds": time.perf_counter() - started}
