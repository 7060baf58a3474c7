"""The one training loop of the pocket scorers: seeded, resumable, with progress.

AdamW under a one-cycle schedule, bfloat16 autocast; the weights kept are an exponential moving average (decay 0.99 per step). Each
batch holds ``batch`` pictures with opinion scores, and for ``ranked`` of them a weak and a strong degradation that
must be rated in that order (RankIQA). Nothing is selected on the validation split: it is measured after each epoch
for the log and reported for the last.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from iqarena_models.pocket.net import PocketNet
from iqarena_models.training.data import TrainingData
from iqarena_models.training.losses import rank_hinge
from iqarena_models.training.recipes import Recipe

RANK_WEIGHT, STRONG_MARGIN, WEAK_MARGIN = 0.5, 0.3, 0.05
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Trained:
    """The averaged network in evaluation mode and its log: one dict per epoch (loss, srocc, plcc, seconds)."""

    net: PocketNet
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
    features = _stem_features(net, data, out.parent / "cache", progress)
    mean, std = data.mos[data.train].mean(), data.mos[data.train].std()
    net.shift.fill_(float(mean))
    net.scale.fill_(float(std))
    steps = len(data.train) // recipe.batch
    optimizer = torch.optim.AdamW(_groups(net, recipe), weight_decay=0.02)
    peaks = [float(g["lr"]) for g in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=max(2, total * steps), pct_start=0.15)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    state = {"net": net, "average": average, "optimizer": optimizer, "schedule": schedule}
    log = _resume(out / CHECKPOINT, state, seed, total, data.digest)
    if log:
        say(f"going on after epoch {len(log)} of {total}")
    for epoch in range(len(log), total):
        started = time.perf_counter()
        torch.manual_seed(seed * 100_003 + epoch)
        order = np.random.default_rng([seed, epoch]).permutation(data.train)[: steps * recipe.batch]
        net.train()
        _freeze(net)
        losses = []
        for rows in tqdm(np.split(order, steps), desc=f"epoch {epoch + 1}/{total}", leave=False, disable=not progress):
            half, z, y = _batch(data, features, rows, recipe, device)
            with torch.autocast(device, torch.bfloat16):
                ratings = recipe.ratings(net, half, z)
            loss, r = recipe.loss(ratings.float(), (y - float(mean)) / float(std))
            weak, strong = r[len(y) :].chunk(2)
            ranking = rank_hinge(weak, strong, STRONG_MARGIN) + rank_hinge(r[: len(weak)], weak, WEAK_MARGIN)
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
        _save(out / CHECKPOINT, state, log, seed, total, data.digest)
    (out / "log.json").write_text(json.dumps(log, indent=1))
    return Trained(average.module.eval().cpu(), log)  # pyright: ignore[reportArgumentType]


def _stem_features(net: PocketNet, data: TrainingData, cache: Path, progress: bool) -> np.ndarray | None:
    """fp16 stem features of every view, ``(4, n, C, h, w)``, kept in ``cache`` for all scorers with the same stem."""
    if net.stem is None:
        return None
    stem = net.stem.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
    weights = hashlib.sha256(b"".join(p.cpu().contiguous().numpy().tobytes() for p in stem.state_dict().values()))
    path = cache / f"features-{data.digest}-{weights.hexdigest()[:16]}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        part = path.with_suffix(".part.npy")
        device = next(net.parameters()).device
        views, n = data.views.shape[:2]
        made: np.ndarray | None = None
        with torch.inference_mode():
            for start in tqdm(range(0, n, 16), desc="stem features", leave=False, disable=not progress):
                for view in range(views):
                    half = _half(data.views[view, start : start + 16], device)
                    z = stem(half).half().cpu().numpy()
                    if made is None:
                        made = np.lib.format.open_memmap(part, "w+", np.float16, (views, n, *z.shape[1:]))
                    made[view, start : start + 16] = z
        part.rename(path)
    return np.load(path, mmap_mode="r")


def _half(pictures: np.ndarray, device: str | torch.device) -> Tensor:
    """uint8 half-size pictures → float in [0, 1]."""
    half = torch.from_numpy(np.array(pictures)).to(device).float() / 255
    return half.contiguous(memory_format=torch.channels_last)


def _batch(
    data: TrainingData, features: np.ndarray | None, rows: np.ndarray, recipe: Recipe, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Half-size pictures, stem features and opinion scores: the rows (mirrored at random), then weak, then strong."""
    mirror = torch.randint(0, 2, (len(rows),)).numpy()
    ranked = rows[: recipe.ranked]
    view = np.concatenate([mirror, np.full(len(ranked), 2), np.full(len(ranked), 3)])
    row = np.concatenate([rows, ranked, ranked])
    half = _half(data.views[view, row], device)
    y = torch.from_numpy(data.mos[rows]).to(device)
    if features is not None:
        return half, torch.from_numpy(features[view, row]).to(device).float(), y
    top, left = torch.randint(0, half.shape[-1] - recipe.crop + 1, (2,)).tolist()
    half = half[..., top : top + recipe.crop, left : left + recipe.crop].contiguous(memory_format=torch.channels_last)
    return half, half, y


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
def _ratings(net: PocketNet, data: TrainingData, features: np.ndarray | None, rows: np.ndarray, device: str) -> np.ndarray:
    net.eval()
    parts = []
    for some in np.array_split(rows, max(1, len(rows) // 32)):
        half = _half(data.views[0, some], device)
        z = half if features is None else torch.from_numpy(features[0, some]).to(device).float()
        parts.append(net.rate(half, z).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def _calibrate(net: PocketNet, data: TrainingData, features: np.ndarray | None, device: str) -> float:
    """Fit the straight line from ratings to opinion scores on 512 training pictures; returns its slope."""
    rows = data.train[:512]
    slope, intercept = np.polyfit(_ratings(net, data, features, rows, device), data.mos[rows], 1)
    net.scale.fill_(float(slope))
    net.shift.fill_(float(intercept))
    return float(slope)


def _validate(net: PocketNet, data: TrainingData, features: np.ndarray | None, device: str) -> tuple[float, float]:
    ratings, mos = _ratings(net, data, features, data.val, device), data.mos[data.val]
    return float(spearmanr(ratings, mos).statistic), float(pearsonr(ratings, mos).statistic)


def _save(path: Path, state: dict, log: list, seed: int, total: int, digest: str) -> None:
    part = path.with_suffix(".part")
    saved = {name: thing.state_dict() for name, thing in state.items()}
    torch.save({**saved, "log": log, "run": [seed, total, digest]}, part)
    part.replace(path)


def _resume(path: Path, state: dict, seed: int, total: int, digest: str) -> list[dict[str, float]]:
    """Load a checkpoint of the same seed, length and data, if there is one; returns its log."""
    if not path.exists():
        return []
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["run"] != [seed, total, digest]:
        return []
    for name, thing in state.items():
        thing.load_state_dict(saved[name])
    return saved["log"]
