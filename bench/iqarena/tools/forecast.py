"""What a suite costs, before it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from tabulate import tabulate
from torch import Tensor

from iqarena.api import CHECKPOINTS, ImageError, IqarenaError, Model
from iqarena.engine.resident import CUDA_BATCH
from iqarena.engine.scorer import Scorer
from iqarena.files.weights import no_downloads
from iqarena.images.memory import one_at_a_time
from iqarena.images.sets.database import Database
from iqarena.images.tensors import to_float
from iqarena.runner.driver import shard_items
from iqarena.suite.plan import Plan
from iqarena.tools.memory import peak_memory
from iqarena.worker.batch import ASKED_AGAIN
from iqarena.worker.threads import cores, single_threaded

SMALL = 2**18  # pixels of images that are timed several at a call, as they are evaluated in a run
USUAL = (500, 500)  # pixels, for timing a database whose images differ in size and are not here


def describe_plan(plan: Plan, device: str = "cpu") -> str:
    """Pairs, model evaluations and the time they take on ``device``, from a few timed ones per model, and the memory.

    On the CPU every core evaluates at once, with all models loaded, as they do in a run: the process then takes about
    the memory that a run of images like the first one takes. What is missing (a database, weights) is named; the images
    are then counted as published.
    """
    missing: list[str] = []
    count, x = _images(plan, missing)
    times = count * plan.suite.repeats
    gradients, elsewhere = plan.gradients(), _trained(plan)
    table, loaded = [], []
    with single_threaded(device == "cpu"), no_downloads():
        for model in plan.models:
            scores, about = _scores(plan, model)
            counts = [scores * times, gradients.get(repr(model), 0) * times]
            try:
                loaded.append(Scorer(model, device))
                each = _timed(loaded[-1], x)
                seconds = about * times * each[0] + counts[1] * each[1]
                for image, trained in elsewhere:
                    if n := trained.get(repr(model), 0) * times:
                        seconds += n * (_timed(loaded[-1], image)[1] - each[1])
                table.append((repr(model), *counts, *(1000 * s for s in each), seconds))
            except (IqarenaError, ImportError) as error:
                missing.append(f"{model!r}: {error}")
                table.append((repr(model), *counts, None, None, None))
    pairs = len({(source, target) for _, source, target in plan.results()})
    headers = ["model", "scores ≤", "gradients ≤", "ms a score", "ms a gradient", "seconds"]
    seconds, at_once = [row[-1] for row in table if row[-1] is not None], cores() if device == "cpu" else 1
    where = f"{at_once} cores of this machine" if device == "cpu" else torch.cuda.get_device_name(device)
    timed = f" for {len(seconds)} of {len(table)} models" if len(seconds) < len(table) else ""
    total = f"about {_duration(sum(seconds) / at_once)}{timed} on {where}"
    if device == "cpu" and (memory := peak_memory()):
        total += f", and about {memory / 1e9:.1f} GB of memory"
    lines = [
        f"suite {plan.suite.name}: {count} images × {len(plan.attacks)} attacks × {pairs} pairs"
        f" × {plan.suite.repeats} repeats = {times * len(plan.results())} rows",
        f"images {plan.images!r}, timed on one of {x.shape[-1]}×{x.shape[-2]}\n",
        tabulate(table, headers=headers, floatfmt=".0f", missingval="?"),
        f"\n{total if seconds else 'no model is here to be timed'}",
        *(f"missing: {line}" for line in missing),
        *(
            f"{model!r}: only relatives attack it, so that it is on no held-out board"
            for model in plan.without_strangers
        ),
    ]
    return "\n".join(lines)


def _scores(plan: Plan, model: Model) -> tuple[int, float]:
    """Scores that ``model`` gives per image, at most and about.

    They are the clean one and its repetitions; for each adversarial image of which it is the target (a floor's is the
    same from every source) three, and a fourth where rounding changed the image, which is reckoned for half of them
    (of ``pocket``'s none are changed, of ``transfer``'s 60 %); one for each other image that it was a source of; and
    what query attacks ask and leave behind.
    """
    met = [(attack, source) for attack, source, target in plan.results() if target == model]
    crafted = {(attack, None if attack.floor else source) for attack, source in met if attack.eps > 0}
    lent = {(a, s) for a, s, _ in plan.results() if model in s.models and a.eps > 0 and not (a.floor or a.queries)}
    asked = sum(attack.queries + 2 * sum(at <= attack.queries for at in CHECKPOINTS) for attack, _ in crafted)
    most = 1 + sum(at <= len(met) for at in ASKED_AGAIN) + 4 * len(crafted) + len(lent - crafted) + asked
    return most, most - len(crafted) / 2


def _trained(plan: Plan) -> list[tuple[Tensor, dict[str, int]]]:
    """An image of each size that attacks train on, with the gradients of such that each model gives per image."""
    sizes = {attack.trains_on for attack in plan.attacks if attack.trains_on}
    attacks = {size: [attack for attack in plan.attacks if attack.trains_on == size] for size in sizes}
    return [(torch.full((1, 3, *size), 0.5), plan.gradients(attacks=own)) for size, own in attacks.items()]


def _images(plan: Plan, missing: list[str]) -> tuple[int, Tensor]:
    """How many images there are and the first one; grey ones, as published, for a database that is not here."""
    try:
        return len(shard_items(plan)), first_image(plan)
    except ImageError as error:
        if not isinstance(plan.images, Database):
            raise
        missing.append(str(error))
    count = min(plan.images.published, plan.suite.limit or plan.images.published)
    width, height = (plan.images.crop,) * 2 if plan.images.crop else plan.images.size or USUAL
    return count, torch.full((1, 3, height, width), 0.5)


def _timed(scorer: Scorer, x: Tensor) -> tuple[float, float]:
    """Seconds that a score and a gradient take per image, of which each core works on one; 0 for a gradient that there
    is not."""
    on_cpu = scorer.device.type == "cpu"
    images = max(1, min(4, SMALL // x[0, 0].numel())) if on_cpu else CUDA_BATCH
    batch = x.expand(images, -1, -1, -1)
    at_once = cores() if on_cpu else 1
    with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def together(job: Callable[[], object]) -> None:
            for done in [pool.submit(_in_turn, job, batch) for _ in range(at_once)]:
                done.result()

        score, gradient = (
            timed_seconds(partial(together, evaluation(scorer, batch, gradient=kind)), 3)
            for kind in (False, scorer.model.differentiable)
        )
    return score / len(batch), gradient / len(batch)


def _in_turn(job: Callable[[], object], x: Tensor) -> None:
    with one_at_a_time(x[:, 0].numel()):
        job()


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"


def first_image(plan: Plan) -> Tensor:
    """The first image that can be read, ``(1, 3, H, W)`` in [0, 1]."""
    failure: Exception | None = None
    for item in shard_items(plan):
        try:
            return to_float([plan.images.read(item)])
        except ImageError as error:
            failure = failure or error
    raise failure or ImageError("the image set is empty")


def evaluation(scorer: Scorer, x: Tensor, *, gradient: bool) -> Callable[[], object]:
    """A job that has ended when it returns, on a GPU too."""
    return (lambda: scorer.value_and_gradient(x)[0].cpu()) if gradient else (lambda: scorer.score(x).cpu())


def timed_seconds(job: Callable[[], object], times: int) -> float:
    job() if times > 1 else None
    started = time.perf_counter()
    for _ in range(times):
        job()
    return (time.perf_counter() - started) / times
