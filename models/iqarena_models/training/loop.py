"""The one training loop of the pocket scorers: seeded, resumable, with progress.

AdamW under a one-cycle schedule; the weights kept are an exponential moving average (decay 0.99 per step). Each
batch holds ``batch`` pictures with opinion scores, and for ``ranked`` of them a weak and a strong degradation that
must be rated in that order (RankIQA). Nothing is selected on the validation split: it is measured after each epoch
for the log and reported for the last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from iqarena.metrics.correlation import agreement
from iqarena_models.pocket.net import PocketNet
from iqarena_models.training.batches import draw_batch, half_size, stem_features, to_features
from iqarena_models.training.data import TrainingData
from iqarena_models.training.losses import rank_hinge
from iqarena_models.training.recipes import Recipe

RANK_WEIGHT, STRONG_MARGIN, WEAK_MARGIN = 0.5, 0.3, 0.05
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Trained:
    """The averaged network in evaluation mode, its weights rounded to fp16 as they are stored; the correlations of
    its scores with the validation pictures' opinion scores; one log entry per epoch (loss, srocc, plcc, seconds)."""

    net: PocketNet
    srocc: float
    plcc: float
    log: list[dict[str, float]]


def train(
    recipe: Recipe,
    data: TrainingData,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train from ``recipe`` on ``data``; a checkpoint in ``out`` after every epoch lets a killed run go on."""
    total = recipe.epochs if epochs is None else epochs
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    net = recipe.start().to(device)
    (net if net.stem is None else net.tail).to(memory_format=torch.channels_last)  # pyright: ignore
    features = stem_features(net, data, out.parent / "cache", progress)
    mean, std = data.mos[data.train].mean(), data.mos[data.train].std()
    net.shift.fill_(float(mean))
    net.scale.fill_(float(std))
    batch = min(recipe.batch, len(data.train))
    steps = len(data.train) // batch
    optimizer = torch.optim.AdamW(_groups(net, recipe), weight_decay=0.02)
    peaks = [float(g["lr"]) for g in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=max(2, total * steps), pct_start=0.15)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    state = {"net": net, "average": average, "optimizer": optimizer, "schedule": schedule}
    log = resume_state(out / CHECKPOINT, state, seed, total, data.digest)
    if log:
        say(f"going on after epoch {len(log)} of {total}")
    for epoch in range(len(log), total):
        started = time.perf_counter()
        torch.manual_seed(seed * 100_003 + epoch)
        order = np.random.default_rng([seed, epoch]).permutation(data.train)[: steps * batch]
        net.train()
        _freeze(net)
        losses = []
        for rows in tqdm(np.split(order, steps), desc=f"epoch {epoch + 1}/{total}", leave=False, disable=not progress):
            half, z, y = draw_batch(data, features, rows, recipe, device)
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.autocast):
                ratings = recipe.ratings(net, half, z)
            loss, r = recipe.loss(ratings.float(), (y - float(mean)) / float(std))
            weak, strong = r[len(y) :].chunk(2)
            to_weak, to_strong = WEAK_MARGIN, STRONG_MARGIN
            if recipe.slope:
                first, second = torch.from_numpy(data.strength[rows[: len(weak)]]).to(device).T * recipe.slope
                to_weak, to_strong = first, second - first
            ranking = rank_hinge(r[: len(weak)], weak, to_weak) + rank_hinge(weak, strong, to_strong)
            total_loss = loss + RANK_WEIGHT * ranking
            optimizer.zero_grad()
            total_loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            losses.append(float(total_loss.detach()))
        kept: PocketNet = average.module  # pyright: ignore[reportAssignmentType]
        fit = _calibrate(kept, data, features, device)
        srocc, plcc = _validate(kept, data, features, device)
        seconds = time.perf_counter() - started
        log.append({"loss": float(np.mean(losses)), "srocc": srocc, "plcc": plcc, "seconds": seconds})
        say(f"epoch {epoch + 1}/{total}  loss {log[-1]['loss']:.4f}  validation SROCC {srocc:.4f}  PLCC {plcc:.4f}"
            f"  {seconds:.0f} s  fit {fit:.2f}")  # fmt: skip
        save_state(out / CHECKPOINT, state, log, seed, total, data.digest)
    (out / "log.json").write_text(json.dumps(log, indent=1))
    final: PocketNet = average.module.half().float()  # pyright: ignore[reportAssignmentType]
    return Trained(final.eval().cpu(), *_validate(final, data, features, device), log)


def _freeze(net: PocketNet) -> None:
    if net.stem is not None:
        net.stem.eval()


def _groups(net: PocketNet, recipe: Recipe) -> list[dict[str, object]]:
    tail = {id(p) for p in net.tail.parameters()} if net.stem is not None else set()  # pyright: ignore
    trained = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in tail], "lr": recipe.rate * recipe.tail_rate},
        {"params": [p for p in trained if id(p) not in tail], "lr": recipe.rate},
    ]
    return [g for g in groups if g["params"]]


@torch.inference_mode()
def _rate(net: PocketNet, data: TrainingData, features: np.ndarray | None, rows: np.ndarray, device: str) -> np.ndarray:
    net.eval()
    parts = []
    for some in np.array_split(rows, max(1, len(rows) // 32)):
        half = half_size(data.views[0, some], device)
        z = half if features is None else to_features(features[0, some], device)
        parts.append(net.rate(half, z).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def _calibrate(net: PocketNet, data: TrainingData, features: np.ndarray | None, device: str) -> float:
    """Fit the straight line from ratings to opinion scores on 512 training pictures; returns its slope."""
    rows = data.train[:512]
    slope, intercept = np.polyfit(_rate(net, data, features, rows, device), data.mos[rows], 1)
    net.scale.fill_(float(slope))
    net.shift.fill_(float(intercept))
    return float(slope)


def _validate(net: PocketNet, data: TrainingData, features: np.ndarray | None, device: str) -> tuple[float, float]:
    ratings = torch.from_numpy(_rate(net, data, features, data.val, device)).to(device)
    scores, mos = net.score(ratings).cpu().numpy(), data.mos[data.val]
    found = agreement(mos.astype(np.float64), scores.astype(np.float64))
    return found["srocc"], found["plcc"]


def save_state(path: Path, state: dict, log: list, seed: int, total: int, digest: str) -> None:
    """Keep everything that has a ``state_dict``, the log and what run it is of; whole or not at all."""
    part = path.with_suffix(".part")
    saved = {name: thing.state_dict() for name, thing in state.items()}
    with part.open("wb") as stream:  # given a path, torch says nothing of a full disk
        torch.save({**saved, "log": log, "run": [seed, total, digest]}, stream)
    part.replace(path)


def resume_state(path: Path, state: dict, seed: int, total: int, digest: str) -> list[dict[str, float]]:
    """Load a checkpoint of the same seed, length and data, if there is one; returns its log."""
    if not path.exists():
        return []
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["run"] != [seed, total, digest]:
        return []
    for name, thing in state.items():
        thing.load_state_dict(saved[name])
    return saved["log"]
