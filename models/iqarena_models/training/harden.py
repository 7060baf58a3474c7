"""``iqarena train SCORER --defense …``: a finished scorer trained on with a defense's loss.

Adam at a rate that falls to nothing in a straight line, weight decay 5e-4, batches of 16 random crops, mirrored half of
the time. The scorer stays in evaluation mode (batch statistics are frozen, nothing is dropped out), and so does a part
of it that it calls ``stem``. After each epoch whole validation pictures are scored; the weights kept are those of the
epoch with the highest SROCC, and ``PATIENCE`` epochs without a higher one end the training. The gradient's norm is
measured before and after on the first ``MEASURED`` validation pictures. Everything is float32, but for the sign of the
gradient on a GPU (bfloat16): the difference that :mod:`iqarena_models.defenses.gradient_norm` divides by ``h`` is
smaller than what bfloat16 rounds away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from iqarena.api import IqarenaError, Model
from iqarena.metrics.correlation import agreement
from iqarena_models.defenses.gradient_norm import gradient_l1
from iqarena_models.defenses.hardened import Hardened
from iqarena_models.training.card import publish_hardened
from iqarena_models.training.crops import crops, whole
from iqarena_models.training.data import read_table, to_hundred
from iqarena_models.training.loop import CHECKPOINT, resume_state, save_state

EPOCHS, BATCH, CROP, RATE, DECAY = 3, 16, 256, 2e-4, 5e-4
PATIENCE, MEASURED = 2, 64


def harden(
    defense: Hardened,
    model: Model,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    rate: float = RATE,
    crop: int = CROP,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train ``model`` on with ``defense.loss``; changed tensors, facts and card go into ``out``; returns the facts.

    ``limit`` takes the first pictures of each split, ``crop`` is a side in pixels. Raises ``ImageError`` for unusable
    data. A checkpoint in ``out`` after every epoch lets a killed training go on.
    """
    total = EPOCHS if epochs is None else epochs
    table, digest = read_table(data, limit)
    mos = torch.from_numpy(to_hundred(table["mos"].to_numpy(np.float32))).to(device)
    paths = [data / "images" / name for name in table["image"]]
    train, val = (np.flatnonzero(table["split"] == split) for split in ("train", "val"))
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    check = _Validation([paths[row] for row in val], mos[val].cpu().double().numpy(), device, layout)

    def untouched() -> nn.Module:
        return model.load().eval().to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]

    torch.manual_seed(seed)
    module, best = untouched(), untouched()  # a copy would not do: some scorers hold a lock
    trained = _trainable(module, model)
    untrained = {key: value.detach().cpu().clone() for key, value in trained.items()}
    before = {"gradient_l1": check.gradient_l1(module), **check.agreement(module)}
    say(f"before  validation SROCC {before['srocc']:.4f}  mean gradient norm {before['gradient_l1']:.1f}")
    steps = max(1, len(train) // BATCH)
    optimizer = torch.optim.Adam(trained.values(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (total * steps))
    state = {"module": module, "best": best, "optimizer": optimizer, "schedule": schedule}
    run = f"{digest} {defense.training} {model!r} {model.weights_sha256} {rate} {crop}"
    out.mkdir(parents=True, exist_ok=True)
    log = resume_state(out / CHECKPOINT, state, seed, total, run)
    if log:
        say(f"going on after epoch {len(log)} of {total}")
    while len(log) < total and len(log) - _best(log) < PATIENCE:
        started, epoch = time.perf_counter(), len(log)
        torch.manual_seed(seed * 100_003 + epoch)
        order = np.random.default_rng([seed, epoch]).permutation(train)[: steps * BATCH]
        batches = np.array_split(order, steps)
        losses = []
        pictures = crops(paths, batches, crop, (seed, epoch))
        for rows, x in zip(batches, tqdm(pictures, f"epoch {epoch + 1}/{total}", steps, leave=False), strict=True):
            loss = defense.loss(module, x.to(device, memory_format=layout), mos[rows])
            optimizer.zero_grad()
            loss.backward(inputs=list(trained.values()))
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        found = check.agreement(module)
        log.append({"loss": float(np.mean(losses)), **found, "seconds": time.perf_counter() - started})
        if _best(log) == len(log):
            best.load_state_dict(module.state_dict())
        say(f"epoch {epoch + 1}/{total}  loss {log[-1]['loss']:.4f}  validation SROCC {found['srocc']:.4f}"
            f"  PLCC {found['plcc']:.4f}  {log[-1]['seconds']:.0f} s")  # fmt: skip
        save_state(out / CHECKPOINT, state, log, seed, total, run)
    kept = {key: best.state_dict()[key].half().cpu() for key in trained}
    kept = {key: value for key, value in kept.items() if not torch.equal(value, untrained[key].half())}
    best.load_state_dict({key: value.float() for key, value in kept.items()}, strict=False)
    after = {"gradient_l1": check.gradient_l1(best), **check.agreement(best)}
    options = {"epochs": epochs, "limit": limit, "rate": rate if rate != RATE else None}
    options["crop"] = crop if crop != CROP else None
    facts = {
        "before": before,
        "after": after,
        "gradient_pictures": len(check.paths[:MEASURED]),
        "data": f"{data.name}: {len(train)} training and {len(val)} validation pictures"
        f" with mean opinion scores (digest {digest})",
        "recipe": f"Adam {rate:g}, falling to 0, weight decay {DECAY:g}, batches of {BATCH} random {crop}² crops",
        "selected": f"epoch {_best(log)} of {len(log)}, by validation SROCC",
        "seed": seed,
        "device": device,
        "precision": "float32, the gradient's sign in bfloat16" if device.startswith("cuda") else "float32",
        "command": f"iqarena train '{model.label}' --defense '{defense.label}' --data {data.name} --seed {seed}"
        + "".join(f" --{key} {value}" for key, value in options.items() if value is not None),
        "training_seconds": round(sum(entry["seconds"] for entry in log)),
    }
    return publish_hardened(defense, model, kept, out, facts)


@dataclass(frozen=True)
class _Validation:
    """Whole validation pictures, one at a time: they may differ in size."""

    paths: list[Path]
    mos: np.ndarray  # float64, 0–100
    device: str
    layout: torch.memory_format

    @torch.no_grad()
    def agreement(self, module: nn.Module) -> dict[str, float]:
        scores = np.array([float(module(x)) for x in self._shown(self.paths, "validation")])
        found = agreement(scores, self.mos)
        return {"srocc": found["srocc"], "plcc": found["plcc"]}

    def gradient_l1(self, module: nn.Module) -> float:
        """Mean exact norm over the first pictures, in points of score per unit of [0, 1]."""
        return float(np.mean([float(gradient_l1(module, x)) for x in self._shown(self.paths[:MEASURED], "gradients")]))

    def _shown(self, paths: list[Path], what: str) -> Iterator[Tensor]:
        return (x.to(self.device, memory_format=self.layout) for x in tqdm(whole(paths), what, len(paths), leave=False))


def _trainable(module: nn.Module, model: Model) -> dict[str, nn.Parameter]:
    """Every parameter by name, but for those of a part that the scorer calls ``stem``."""
    for key, p in module.named_parameters():
        p.requires_grad_(not key.startswith("stem."))
    found = {key: p for key, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise IqarenaError(f"{model.label}: expected parameters to train, found none; take another scorer")
    return found


def _best(log: list[dict[str, float]]) -> int:
    """The epoch, counted from 1, with the highest validation SROCC; 0 before the first."""
    return int(np.argmax([entry["srocc"] for entry in log])) + 1 if log else 0
