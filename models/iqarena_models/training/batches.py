"""From stored views to what a network is fed: frozen stem features, computed once, and seeded batches."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from iqarena_models.pocket.net import PocketNet
from iqarena_models.training.data import TrainingData
from iqarena_models.training.recipes import Recipe


def stem_features(net: PocketNet, data: TrainingData, cache: Path, progress: bool) -> np.ndarray | None:
    """fp16 stem features of every view, ``(4, n, C, h, w)``, kept in ``cache`` for all scorers with the same stem."""
    if net.stem is None:
        return None
    stem = net.stem.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
    weights = hashlib.sha256(b"".join(p.cpu().contiguous().numpy().tobytes() for p in stem.state_dict().values()))
    path = cache / f"features-{data.key}-{weights.hexdigest()[:16]}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part.npy")
        device = next(net.parameters()).device
        views, n = data.views.shape[:2]
        made: np.ndarray | None = None
        with torch.inference_mode():
            for start in tqdm(range(0, n, 16), desc="stem features", leave=False, disable=not progress):
                for view in range(views):
                    half = half_size(data.views[view, start : start + 16], device)
                    z = stem(half).half().cpu().numpy()
                    if made is None:
                        made = np.lib.format.open_memmap(part, "w+", np.float16, (views, n, *z.shape[1:]))
                    made[view, start : start + 16] = z
        part.rename(path)
    return np.load(path, mmap_mode="r")


def half_size(pictures: np.ndarray, device: str | torch.device) -> Tensor:
    """uint8 half-size pictures → float in [0, 1]."""
    half = torch.from_numpy(np.array(pictures)).to(device).float() / 255
    return half.contiguous(memory_format=torch.channels_last)


def to_features(stored: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(stored).to(device).float().contiguous(memory_format=torch.channels_last)


def draw_batch(
    data: TrainingData, features: np.ndarray | None, rows: np.ndarray, recipe: Recipe, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Half-size pictures, stem features and opinion scores: the rows (mirrored at random), then weak, then strong."""
    mirror = torch.randint(0, 2, (len(rows),)).numpy()
    ranked = rows[: recipe.ranked]
    view = np.concatenate([mirror, np.full(len(ranked), 2), np.full(len(ranked), 3)])
    row = np.concatenate([rows, ranked, ranked])
    half = half_size(data.views[view, row], device)
    y = torch.from_numpy(data.mos[rows]).to(device)
    if features is not None:
        return half, to_features(features[view, row], device), y
    top, left = torch.randint(0, half.shape[-1] - recipe.crop + 1, (2,)).tolist()
    half = half[..., top : top + recipe.crop, left : left + recipe.crop].contiguous(memory_format=torch.channels_last)
    return half, half, y
