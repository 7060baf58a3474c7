"""The one training loop of the published architectures: whole networks on pictures of any size, seeded, resumable.

Adam with one rate for the trunk and one for the head. Views are drawn from ``(seed, epoch, picture)``, so that neither
threads nor a restart change them. Nothing is selected on the validation split: it is measured after each epoch, on
whole pictures and by the path that scores them later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from iqarena.api import IqarenaError, file_sha256
from iqarena.metrics.correlation import agreement
from iqarena_models.training.crops import ahead, read_picture, whole
from iqarena_models.training.data import read_table, to_hundred
from iqarena_models.training.loop import CHECKPOINT, resume_state, save_state

View = Callable[[Tensor, np.random.Generator], Tensor]  # a picture (1, 3, H, W) in [0, 1] → what a batch is made of


@dataclass(frozen=True)
class Course:
    """How a network is trained. ``rate`` is the head's learning rate, ``trunk`` names the part that learns
    ``trunk_rate`` times as fast; ``ratings`` are what ``loss`` compares with opinion scores on 0–100 ``(N,)``."""

    net: nn.Module
    trunk: str
    view: View
    ratings: Callable[[Tensor], Tensor]  # views (N, 3, h, w) → (N,) or (N, R)
    score: Callable[[Tensor], Tensor]  # a whole picture (1, 3, H, W) → (1,)
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    batch: int
    rate: float
    trunk_rate: float
    options: dict[str, Any]  # what else the result depends on; part of its facts


@dataclass(frozen=True)
class Pictures:
    """Training data: files, opinion scores on 0–100, and the rows of both splits."""

    name: str
    files: list[Path]
    mos: np.ndarray
    train: np.ndarray
    val: np.ndarray
    digest: str

    @classmethod
    def of(cls, folder: Path, limit: int | None) -> Pictures:
        table, digest = read_table(folder, limit)
        train, val = (np.flatnonzero(table["split"] == split) for split in ("train", "val"))
        files = [folder / "images" / name for name in table["image"]]
        return cls(folder.name, files, to_hundred(table["mos"].to_numpy(np.float64)), train, val, digest)


def finetune(
    course: Course, pictures: Pictures, out: Path, *, seed: int, epochs: int | None, device: str,
    say: Callable[[str], None],
) -> list[dict[str, float]]:  # fmt: skip
    """Train ``course.net`` in place; returns one entry per epoch (loss, srocc, p, plcc, seconds)."""
    total, net = course.epochs if epochs is None else epochs, course.net.to(device)
    named = [(name.startswith(course.trunk), p) for name, p in net.named_parameters() if p.requires_grad]
    groups = [
        ([p for own, p in named if own], course.rate * course.trunk_rate),
        ([p for own, p in named if not own], course.rate),
    ]
    optimizer = torch.optim.Adam([{"params": some, "lr": rate} for some, rate in groups if some])
    out.mkdir(parents=True, exist_ok=True)
    state, run = {"net": net, "optimizer": optimizer}, f"{pictures.digest} {course.options} {course.rate}"
    log = resume_state(out / CHECKPOINT, state, seed, total, run)
    if log:
        say(f"going on after epoch {len(log)} of {total}")
    for epoch in range(len(log), total):
        started, losses = time.perf_counter(), []
        torch.manual_seed(seed * 100_003 + epoch)
        order = np.random.default_rng([seed, epoch]).permutation(pictures.train)
        size = min(course.batch, len(order))
        batches = np.split(order[: len(order) // size * size], len(order) // size)  # never a batch of one

        def draw(row: int, epoch: int = epoch) -> Tensor:
            return course.view(read_picture(pictures.files[row]), np.random.default_rng([seed, epoch, row]))

        net.train()
        views = ahead(batches, lambda rows: torch.cat([draw(int(row)) for row in rows]))
        for rows, x in zip(batches, tqdm(views, f"epoch {epoch + 1}/{total}", len(batches), leave=False), strict=True):
            y = torch.from_numpy(pictures.mos[rows]).float().to(device)
            loss = course.loss(course.ratings(x.to(device)), y)
            if not loss.isfinite():
                raise IqarenaError(f"epoch {epoch + 1}: expected a finite loss, found {float(loss)}; lower the rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        log.append(_measured(course, pictures, device) | {"loss": float(np.mean(losses))})
        log[-1]["seconds"] = time.perf_counter() - started
        say(
            f"epoch {epoch + 1}/{total}  loss {log[-1]['loss']:.4f}  validation SROCC {log[-1]['srocc']:.4f}"
            f" (p {log[-1]['p']:.1g})  PLCC {log[-1]['plcc']:.4f}  {log[-1]['seconds']:.0f} s"
        )
        save_state(out / CHECKPOINT, state, log, seed, total, run)
    return log


def scores(course: Course, pictures: Pictures, rows: np.ndarray, device: str) -> np.ndarray:
    """Scores ``(len(rows),)`` of whole pictures."""
    course.net.eval()
    with torch.inference_mode():
        found = [course.score(x.to(device)) for x in whole([pictures.files[row] for row in rows])]
    return torch.cat(found).double().cpu().numpy()


def leave(
    name: str, checkpoint: dict[str, Any], course: Course, pictures: Pictures, log: list[dict[str, float]], out: Path,
    *, seed: int, spec: str, say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Store ``<name>.pth``, its facts and its card in ``out``; returns the facts."""
    path = out / f"{name}.pth"
    with path.open("wb") as stream:
        torch.save(checkpoint, stream)
    last = log[-1]
    facts = {
        "name": name, **course.options, "rate": course.rate, "epochs": len(log), "seed": seed,
        "data": f"{pictures.name}: {len(pictures.train)} training and {len(pictures.val)} validation pictures"
        f" (digest {pictures.digest})",
        "validation_srocc": round(last["srocc"], 4), "validation_p": last["p"],
        "validation_plcc": round(last["plcc"], 4), "validation_size": len(pictures.val),
        "training_seconds": round(sum(entry["seconds"] for entry in log)), "use": spec, "sha256": file_sha256(path),
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in facts.items())
    head = f"# Model card: `{name}`\n\nMade by `iqarena train`; validation is on whole pictures.\n\n| | |\n|---|---|\n"
    path.with_suffix(".md").write_text(head + rows + "\n", encoding="utf-8")
    say(f"use it: iqarena --weights-dir {out} run SUITE, as {spec}")
    return facts


def crop_and_mirror(side: int) -> View:
    """A random ``side`` × ``side`` part, mirrored half of the time; a smaller picture is first enlarged."""

    def view(x: Tensor, rng: np.random.Generator) -> Tensor:
        x = at_least(x, side)
        top, left = (int(rng.integers(n - side + 1)) for n in x.shape[-2:])
        x = x[..., top : top + side, left : left + side]
        return x.flip(-1) if rng.integers(2) else x

    return view


def at_least(x: Tensor, side: int) -> Tensor:
    """The picture, enlarged when a side is shorter than ``side`` pixels."""
    short = min(x.shape[-2:])
    if short >= side:
        return x
    return F.interpolate(x, [max(side, round(n * side / short)) for n in x.shape[-2:]], mode="bilinear")


def _measured(course: Course, pictures: Pictures, device: str) -> dict[str, float]:
    found, mos = scores(course, pictures, pictures.val, device), pictures.mos[pictures.val]
    values = agreement(found, mos)
    p = float("nan") if np.isnan(values["srocc"]) else float(spearmanr(found, mos).pvalue)  # pyright: ignore
    return {"srocc": values["srocc"], "p": p, "plcc": values["plcc"]}
