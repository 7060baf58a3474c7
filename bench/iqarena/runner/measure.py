"""One attack from one source on a batch: crafted or read from what is kept, scored on every target, measured, rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from iqarena.api import AttackError, IqarenaError
from iqarena.api.streams import Streams
from iqarena.engine.budget import displaced, mirrored
from iqarena.engine.craft import craft
from iqarena.engine.direction import directions
from iqarena.engine.score_oracle import ScoreOracle
from iqarena.engine.scorer import Scorer
from iqarena.engine.source import Source
from iqarena.errors import StoreError, plain
from iqarena.runner.batch import Batch, hashes, to_images, to_pixels
from iqarena.runner.diagnostics import own_diagnostics, target_diagnostics, watched
from iqarena.runner.work import Bench, Crafting, Row
from iqarena.store.adversarials import packed
from iqarena.store.schema import CRAFTED

IRREPRODUCIBLE = "crafted again it is another image"


@dataclass
class Result:
    """What a cell yields, for the driver to write: rows, and files that belong to them.

    ``cells`` counts images, ``evaluated`` what its worker evaluated since the cell before, by model.
    """

    rows: list[Row] = field(default_factory=list)
    files: dict[Path, bytes] = field(default_factory=dict)
    cells: int = 0
    evaluated: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attacked:
    """Adversarial images of one attack from one source, uint8 ``(N, 3, H, W)``, before any target scores them."""

    adversarial: Tensor
    shift: Tensor  # int16, whole grey levels before the box cut them: what controls are made from
    sha256: list[str]
    columns: list[Row]  # per image, the columns that are the same for all targets
    failures: list[str]  # per image, why it has no rows; empty where it has
    unrounded: Tensor | None = None  # none for an image that was kept with 8 bits
    changed: Tensor | None = None  # whether rounding changed anything
    on_the_way: dict[int, Tensor] = field(default_factory=dict)  # a query attack's answers, by queries


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
        return Result([failed(head, reason(error)) for of_image in row_ids for head in of_image])
    result = Result(files=_files(bench, crafting, batch, attacked, [of_image[0] for of_image in row_ids]))
    controls = _controls(batch, attacked.shift)
    ascent = _ascent(batch, attacked) if bench.plan.suite.diagnostics else None
    for k, target in enumerate(crafting.targets):
        of_target = [of_image[k] for of_image in row_ids]
        try:
            scores = _target_scores(bench.scorers[target], batch, attacked, controls)
            why = target_diagnostics(bench.scorers[target], batch, ascent)
            certificates = batch.certificate(bench.scorers[target])
            score_seconds = {"score_seconds": batch.score_seconds(target)}
        except (Exception, SystemExit) as error:
            result.rows += [failed(head, reason(error)) for head in of_target]
            continue
        for i, head in enumerate(of_target):
            numbers = {name: float(values[i]) for name, values in scores.items()}
            if attacked.failures[i]:
                result.rows.append(failed(head, attacked.failures[i]))
            elif not np.isfinite(list(numbers.values())).all():
                result.rows.append(failed(head, f"{target!r} gave a score that is not finite"))
            elif attacked.sha256[i] == batch.pixels_sha256[i] and (
                message := _unequal(bench.scorers[target], numbers["score_clean"], numbers["score_adv"])
            ):
                result.rows.append(failed(head, message))
            else:
                result.rows.append(
                    {
                        **head,
                        "status": "ok",
                        **numbers,
                        **attacked.columns[i],
                        **why[i],
                        **certificates[i],
                        **score_seconds,
                    }
                )
    return result


def attack_images(bench: Bench, crafting: Crafting, batch: Batch, stored: Sequence[Row]) -> Attacked:
    """The adversarial images of a crafting: the kept ones, else crafted, and compared with what is stored of them."""
    kept = [bench.adversarials.load(row["craft_key"], row["sha256"]) for row in stored]
    images = [image for image in kept if image is not None]
    if kept and len(images) == len(kept):
        columns = [_of_image(row) for row in stored]
        image, beyond = (to_pixels(part).to(batch.device) for part in zip(*images, strict=True))
        shift = image.short() - batch.pixels.short()
        shift += torch.where(image == 0, -beyond.short(), beyond.short())
        return Attacked(image, shift, [row["sha256"] for row in stored], columns, [""] * len(stored))
    attack, source = crafting.attack, crafting.source
    members = [bench.scorers[model] for model in source.models]
    guides = [bench.scorers[model] for model in crafting.targets] if attack.queries else members
    clean = None if stored and not attack.queries else np.mean([batch.clean(guide) for guide in guides], axis=0)
    if clean is not None and not np.isfinite(clean).all():
        raise AttackError(f"{source.spec} gave a score that is not finite")
    policy = bench.plan.suite.direction
    direction = np.array([row["direction"] for row in stored]) if clean is None else directions(policy, clean)
    streams = Streams([item.id for item in batch.items], attack.label, bench.plan.suite.seed, crafting.repeat)
    oracle = None
    if clean is not None and attack.queries:
        oracle = ScoreOracle(guides[0], batch.pixels, torch.from_numpy(clean), eps=attack.eps, budget=attack.queries)
    sign, memo = torch.from_numpy(direction), batch.gradients
    view = Source(members, batch.x, streams, sign=sign, access=attack.access, memo=memo, target=oracle)
    diagnosed, filters = watched(attack) if bench.plan.suite.diagnostics else (attack, {})
    started = time.perf_counter()
    crafted = craft(diagnosed, batch.pixels, batch.x, view, streams)
    seconds = (time.perf_counter() - started) / len(batch.items)
    images = to_images(crafted.adversarial)
    shas = hashes(images)
    failures = ["" if finite else f"{attack.name} gave NaN or infinite pixels" for finite in crafted.finite]
    if stored or clean is None:
        columns = [_of_image(row) for row in stored]
        failures = [failure or _difference(row, sha) for failure, row, sha in zip(failures, stored, shas, strict=True)]
    else:
        own_gain = direction * (_mean_scores(guides, batch, crafted.adversarial, shas) - clean)
        columns = [
            {
                **batch.distance(i, shas[i], image),
                "direction": direction[i],
                "own_gain": own_gain[i],
                "zero_gradient": float("nan") if view.zero_gradient is None else float(view.zero_gradient[i]),
                "forwards": view.forwards,
                "backwards": view.backwards,
                "queries": float(oracle.queries[i]) if oracle else 0.0,
                "no_response": float(oracle.no_response[i]) if oracle else float("nan"),
                "seconds": seconds,
                "sha256": shas[i],
            }
            for i, image in enumerate(images)
        ]
    on_the_way = dict(oracle.kept(crafted.adversarial)) if oracle else {}
    attacked = Attacked(
        crafted.adversarial, crafted.shift, shas, columns, failures, crafted.unrounded, crafted.changed, on_the_way
    )
    if bench.plan.suite.diagnostics and not stored:
        for of_image, diagnostics in zip(columns, own_diagnostics(_ascent(batch, attacked), filters), strict=True):
            of_image |= diagnostics
    return attacked


def _unequal(scorer: Scorer, clean: float, adversarial: float) -> str:
    """Why two scores of equal pixels cannot both be right; empty when they agree or the scorer is random."""
    if scorer.model.stochastic or abs(clean - adversarial) <= scorer.tolerance:
        return ""
    return f"{scorer.model!r} gave equal pixels the scores {clean:.9g} and {adversarial:.9g}; run again"


def _difference(row: Row, sha256: str) -> str:
    """Why an image that was crafted again is not the one of a stored row; empty when it is."""
    if row["sha256"] == sha256:
        return ""
    return (
        f"{IRREPRODUCIBLE}: expected sha256 {row['sha256'][:12]}…, found {sha256[:12]}…; run all afresh with"
        " --overwrite always, and with keep = 'adversarials' to add targets later"
    )


def _of_image(row: Row) -> Row:
    """Of a stored row, what holds for its adversarial image whoever scores it."""
    return {name: row[name] for name in ("sha256", *CRAFTED)}


def _ascent(batch: Batch, attacked: Attacked) -> Tensor:
    """``s·δ`` of the 8-bit images, ``(N, 3, H, W)``."""
    sign = torch.tensor([columns["direction"] for columns in attacked.columns]).to(batch.x).view(-1, 1, 1, 1)
    return sign * (attacked.adversarial.to(batch.x) / 255 - batch.x)


def _files(
    bench: Bench, crafting: Crafting, batch: Batch, attacked: Attacked, row_ids: Sequence[Row]
) -> dict[Path, bytes]:
    """What of the images is saved: all of them if the suite keeps them, and the gallery's examples."""
    images, files = to_images(attacked.adversarial), {}
    if crafting.repeat == 0:
        files |= bench.gallery.files(crafting.attack, crafting.source, batch.items, batch.images, images)
    if bench.plan.suite.keep == "adversarials" and attacked.unrounded is not None:
        good = [i for i, failure in enumerate(attacked.failures) if not failure]
        beyond = (batch.pixels.short() + attacked.shift - attacked.adversarial.short()).abs().to(torch.uint8)
        levels = to_images(beyond)
        files |= {bench.adversarials.path(row_ids[i]["craft_key"]): packed(images[i], levels[i]) for i in good}
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
    scores = {
        "score_clean": batch.clean(scorer),
        "score_adv": batch.score(scorer, attacked.adversarial, attacked.sha256),
        **{name: batch.score(scorer, *control) for name, control in controls.items()},
    }
    if attacked.unrounded is not None and attacked.changed is not None:
        scores["score_float"] = unrounded = scores["score_adv"].copy()
        if len(changed := attacked.changed.nonzero()[:, 0]):
            unrounded[changed.cpu().numpy()] = scorer.score(attacked.unrounded[changed]).cpu().numpy()
    for at, answers in attacked.on_the_way.items():
        control = displaced(batch.pixels, answers.short() - batch.pixels.short(), batch.spare_signs)
        for name, pixels in ((f"score_at_{at}", answers), (f"displaced_at_{at}", control)):
            scores[name] = batch.score(scorer, pixels, hashes(to_images(pixels)))
    return scores


def _mean_scores(members: Sequence[Scorer], batch: Batch, pixels: Tensor, shas: list[str]) -> np.ndarray:
    return np.mean([batch.score(scorer, pixels, shas) for scorer in members], axis=0)


def failed(head: Row, message: str) -> Row:
    return {**head, "status": "error", "message": plain(message)[:500]}


def reason(error: BaseException) -> str:
    return str(error) if isinstance(error, IqarenaError) else f"{type(error).__name__}: {error}"
