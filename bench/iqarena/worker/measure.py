"""One attack from one source on a batch: its adversarial images scored on every target and measured, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iqarena.api import IqarenaError
from iqarena.engine.budget import displaced, mirrored
from iqarena.engine.scorer import Scorer
from iqarena.errors import StoreError, plain
from iqarena.images.tensors import to_images
from iqarena.store.adversarials import packed
from iqarena.worker.attacked import Attacked, ascent, attack_images
from iqarena.worker.batch import Batch, hashes
from iqarena.worker.diagnostics import target_diagnostics
from iqarena.worker.work import Bench, Crafting, Row


@dataclass
class Result:
    """What a worker yields, for the driver to write: rows, and files that belong to them.

    ``craftings`` counts those that are done with it, one an image, ``parts`` the parts of its task that it holds;
    ``unread`` says of images that have rows why they cannot be read any more;
    ``evaluated`` is what the worker evaluated since the result before, by model, ``seconds`` what it took.
    """

    rows: list[Row] = field(default_factory=list)
    files: dict[Path, bytes] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    craftings: int = 0
    parts: int = 0
    evaluated: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: Result) -> None:
        """Take the rows and files of ``other`` too."""
        self.rows += other.rows
        self.files |= other.files


def attack_rows(
    bench: Bench, crafting: Crafting, batch: Batch, row_ids: Sequence[Sequence[Row]], stored: Sequence[Row]
) -> Result:
    """Rows of one crafting, all targets; ``row_ids`` by image and target, ``stored`` a row of each image if known.

    What fails becomes error rows: an attack or a source for all targets, a target for its own.
    """
    try:
        attacked = attack_images(bench, crafting, batch, stored)
    except StoreError:
        raise
    except (Exception, SystemExit) as error:  # an attack or a model may fail in any way; the run goes on and says so
        return Result([failed(one, reason(error)) for of_image in row_ids for one in of_image])
    result = Result(files=_files(bench, crafting, batch, attacked, [of_image[0] for of_image in row_ids]))
    controls = _controls(batch, attacked.shift)
    perturbation = ascent(batch, attacked) if bench.plan.suite.diagnostics else None
    for k, target in enumerate(crafting.targets):
        of_target = [of_image[k] for of_image in row_ids]
        try:
            scores = _target_scores(bench.scorers[target], batch, attacked, controls)
            why = target_diagnostics(bench.scorers[target], batch, perturbation)
            certificates = batch.certificate(bench.scorers[target])
            score_seconds = {"score_seconds": batch.score_seconds(target)}
        except (Exception, SystemExit) as error:
            result.rows += [failed(row_id, reason(error)) for row_id in of_target]
            continue
        for i, row_id in enumerate(of_target):
            numbers = {name: float(values[i]) for name, values in scores.items()}
            if attacked.failures[i]:
                result.rows.append(failed(row_id, attacked.failures[i]))
            elif not np.isfinite(list(numbers.values())).all():
                result.rows.append(failed(row_id, f"{target!r} gave a score that is not finite"))
            elif attacked.sha256[i] == batch.pixels_sha256[i] and (
                message := _unequal(bench.scorers[target], numbers["score_clean"], numbers["score_adv"])
            ):
                result.rows.append(failed(row_id, message))
            else:
                result.rows.append(
                    {
                        **row_id,
                        "status": "ok",
                        **numbers,
                        **attacked.columns[i],
                        **why[i],
                        **certificates[i],
                        **score_seconds,
                    }
                )
    return result


def _unequal(scorer: Scorer, clean: float, adversarial: float) -> str:
    """Why two scores of equal pixels cannot both be right; empty when they agree or the scorer is random."""
    if scorer.model.stochastic or abs(clean - adversarial) <= scorer.tolerance:
        return ""
    return f"{scorer.model!r} gave equal pixels the scores {clean:.9g} and {adversarial:.9g}; run again"


def _files(
    bench: Bench, crafting: Crafting, batch: Batch, attacked: Attacked, row_ids: Sequence[Row]
) -> dict[Path, bytes]:
    """What of the images is saved: all of them if the suite keeps them, and the gallery's examples."""
    files = {}
    if crafting.repeat == 0:
        files |= bench.gallery.files(
            crafting.attack, crafting.source, crafting.targets, batch.items, batch.images, attacked.images
        )
    if bench.plan.suite.keep == "adversarials" and attacked.unrounded is not None:
        good = [i for i, failure in enumerate(attacked.failures) if not failure]
        beyond = (batch.pixels.short() + attacked.shift - attacked.adversarial.short()).abs().to(torch.uint8)
        levels = to_images(beyond)
        files |= {bench.adversarials.path(row_ids[i]["craft_key"]): packed(attacked.images[i], levels[i]) for i in good}
    return files


def _controls(batch: Batch, shift: Tensor) -> dict[str, tuple[Tensor, list[str]]]:
    """Control images with their hashes, by the column of their score."""
    images = {
        "score_control": mirrored(batch.pixels, shift),
        "score_displaced": displaced(batch.pixels, shift, batch.spare_signs),
    }
    return {name: (pixels, hashes(to_images(pixels))) for name, pixels in images.items()}


def _target_scores(
    scorer: Scorer, batch: Batch, attacked: Attacked, controls: dict[str, tuple[Tensor, list[str]]]
) -> dict[str, np.ndarray]:
    images = {"score_adv": (attacked.adversarial, attacked.sha256), **controls}
    for at, answers in attacked.on_the_way.items():
        control = displaced(batch.pixels, answers.short() - batch.pixels.short(), batch.spare_signs)
        for name, pixels in ((f"score_at_{at}", answers), (f"displaced_at_{at}", control)):
            images[name] = (pixels, hashes(to_images(pixels)))
    scores = {"score_clean": batch.clean(scorer), **batch.scores(scorer, images)}
    if attacked.unrounded is not None and attacked.changed is not None:
        scores["score_float"] = unrounded = scores["score_adv"].copy()
        if len(changed := attacked.changed.nonzero()[:, 0]):
            unrounded[changed.cpu().numpy()] = scorer.score(attacked.unrounded[changed]).cpu().numpy()
    return scores


def failed(row_id: Row, message: str) -> Row:
    return {**row_id, "status": "error", "message": plain(message)[:500]}


def reason(error: BaseException) -> str:
    return str(error) if isinstance(error, IqarenaError) else f"{type(error).__name__}: {error}"
