"""``iqarena train linearityiqa``: the paper's training of LinearityIQA on any folder of pictures with opinion scores.

Li, Jiang, Jiang, ACM MM 2020: norm-in-norm loss (p = 1, q = 2) on the ratings of the two taps and of both together,
weighted 0.1, 0.1, 1; Adam at 1e-4, a tenth of that for the trunk, batches of 8, 30 epochs; then a straight line from
ratings to opinion scores. The paper's variant of the loss and its monotonicity term are off by default there and left
out here. What is left behind is a checkpoint in the authors' layout.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.models import get_model_weights
from tqdm import tqdm

from iqarena.api import WeightFile
from iqarena.imagesets.decode import decode_file
from iqarena.metrics.correlation import agreement
from iqarena.weights import digest, obtain
from iqarena_models.common_scale import read_tensors
from iqarena_models.linearityiqa import LinearityNet, resized
from iqarena_models.training.data import read_table, to_hundred
from iqarena_models.training.loop import CHECKPOINT, resume_state, save_state
from iqarena_models.training.losses import norm_in_norm

EPOCHS, BATCH, RATE, TRUNK_RATE = 30, 8, 1e-4, 0.1
WEIGHTS = (0.1, 0.1, 1.0)  # of the losses of tap 6, tap 7 and both


def train_linearityiqa(
    name: str,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    device: str = "cpu",
    trunk: str = "resnext101_32x8d",
    from_scratch: bool = False,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, store ``<name>.pth`` and its facts in ``out``; returns the facts.

    The trunk starts from torchvision's ImageNet weights unless ``from_scratch``. Raises ``ImageError`` for unusable
    data and ``WeightsError`` when the ImageNet weights cannot be had.
    """
    total = EPOCHS if epochs is None else epochs
    table, key = read_table(data, limit)
    mos = to_hundred(table["mos"].to_numpy(np.float64))
    pictures = [data / "images" / name for name in table["image"]]
    train, val = (np.flatnonzero(table["split"] == split) for split in ("train", "val"))
    torch.manual_seed(seed)
    net = LinearityNet(trunk, None if from_scratch else _imagenet(trunk)).to(device)
    head = [p for name, p in net.named_parameters() if not name.startswith("features.")]
    groups = [{"params": net.features.parameters(), "lr": RATE * TRUNK_RATE}, {"params": head, "lr": RATE}]
    optimizer = torch.optim.Adam(groups)
    out.mkdir(parents=True, exist_ok=True)
    state = {"net": net, "optimizer": optimizer}
    log = resume_state(out / CHECKPOINT, state, seed, total, f"{key}-{trunk}")
    if log:
        say(f"going on after epoch {len(log)} of {total}")
    for epoch in range(len(log), total):
        started, losses = time.perf_counter(), []
        order = np.random.default_rng([seed, epoch]).permutation(train)
        batches = np.split(order[: len(order) // BATCH * BATCH], len(order) // BATCH)  # never a batch of one
        net.train()
        for rows, x in tqdm(_read(pictures, batches), f"epoch {epoch + 1}/{total}", len(batches), leave=False):
            y = torch.from_numpy(mos[rows]).float().to(device)
            ratings = net.ratings(x.to(device))
            loss = cast(Tensor, sum(w * norm_in_norm(ratings[:, i], y) for i, w in enumerate(WEIGHTS)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        measured = agreement(_rate(net, pictures, val, device), mos[val])
        seconds = time.perf_counter() - started
        log.append({"loss": float(np.mean(losses)), **{k: measured[k] for k in ("srocc", "plcc")}, "seconds": seconds})
        say(f"epoch {epoch + 1}/{total}  loss {log[-1]['loss']:.4f}  validation SROCC {log[-1]['srocc']:.4f}"
            f"  PLCC {log[-1]['plcc']:.4f}  {seconds:.0f} s")  # fmt: skip
        save_state(out / CHECKPOINT, state, log, seed, total, f"{key}-{trunk}")
    slope, shift = np.polyfit(_rate(net, pictures, train, device), mos[train], 1)
    path = out / f"{name}.pth"
    torch.save({"model": net.cpu().state_dict(), "k": [float(slope)], "b": [float(shift)]}, path)
    facts = {
        "trunk": trunk, "starts_from": "random" if from_scratch else "ImageNet-1k (torchvision)", "epochs": total,
        "data": f"{data.name}: {len(train)} training and {len(val)} validation pictures (digest {key})", "seed": seed,
        "validation_srocc": round(log[-1]["srocc"], 4), "validation_plcc": round(log[-1]["plcc"], 4),
        "sha256": digest(path),
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    say(f"use it: iqarena --weights-dir {out} run SUITE, as {name}(weights={path.name}, trunk={trunk})")
    return facts


def _imagenet(trunk: str) -> dict[str, Tensor]:
    url = get_model_weights(trunk)["IMAGENET1K_V1"].url
    return read_tensors(obtain(WeightFile(url.rpartition("/")[2], url=url)))


def _read(pictures: list[Path], batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Rows and pictures ``(len(rows), 3, 498, 664)`` of each batch; the next batch is decoded in the meantime."""

    def batch(rows: np.ndarray) -> Tensor:
        return torch.cat([resized(_tensor(decode_file(pictures[row]))) for row in rows])

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(batch, batches[0])
        for i, rows in enumerate(batches):
            ready, coming = coming, pool.submit(batch, batches[i + 1]) if i + 1 < len(batches) else coming
            yield rows, ready.result()


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


@torch.inference_mode()
def _rate(net: LinearityNet, pictures: list[Path], rows: np.ndarray, device: str) -> np.ndarray:
    """Final ratings ``(len(rows),)``."""
    net.eval()
    parts = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    return np.concatenate([net.ratings(x.to(device))[:, 2].cpu().numpy() for _, x in _read(pictures, parts)])
