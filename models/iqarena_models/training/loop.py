"""The one training loop: seeded, resumable, the same for embedded, published and hardened scorers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from iqarena.api import IqarenaError, progress_bar
from iqarena_models.training import card
from iqarena_models.training.checkpoint import State
from iqarena_models.training.data import Images, Opinions, read_opinions
from iqarena_models.training.measure import Measure
from iqarena_models.training.views import batches

if TYPE_CHECKING:
    from iqarena_models.training.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
LOGGED = 128  # validation images that are scored after an epoch, where nothing is selected on them
CALIBRATED = 512  # training images that the line from ratings to opinion scores is fitted to


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    limit: int | None = None,
    leave_out: str | None = None,
    device: str = "cpu",
    command: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train on the folder ``data``; weights, facts and card go into ``out``; returns the facts.

    ``limit`` takes the first images of each split; images whose name holds ``leave_out`` are kept apart and reported
    on. A checkpoint in ``out`` after every epoch lets a killed training go on. Raises ``ImageError`` for unusable data
    and ``IqarenaError`` for a loss that is not finite.
    """
    total = recipe.epochs if epochs is None else epochs
    opinions = read_opinions(data, limit=limit, leave_out=leave_out)
    torch.manual_seed(seed)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    net = recipe.build().to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    for key, parameter in net.named_parameters():
        if key.startswith(recipe.frozen):
            parameter.requires_grad_(False)
    out.mkdir(parents=True, exist_ok=True)
    images = Images(opinions.files, out.parent / "cache", log)
    measure = Measure(recipe, net, images, opinions, device)
    if recipe.calibrate:  # until it is fitted: a rating of 0 ± 1 is a mean opinion ± one deviation
        mos = opinions.mos[opinions.train]
        recipe.calibrate(net, float(mos.std()), float(mos.mean()))
    before = measure.probes()
    state = State(net, _optimizer(recipe, net), [seed, total, card.identity(recipe, opinions)])
    state.resume(out / CHECKPOINT)
    if state.log:
        log(f"going on after epoch {len(state.log)} of {total}")
    elif (out / CHECKPOINT).exists():
        raise IqarenaError(
            f"{out / CHECKPOINT} is of another recipe, data, seed or number of epochs;"
            " choose another --out, or remove it"
        )
    rows = opinions.val if recipe.patience else opinions.val[:: -(-len(opinions.val) // LOGGED)]
    while len(state.log) < total and not (recipe.patience and len(state.log) - state.best >= recipe.patience):
        started, epoch = time.perf_counter(), len(state.log)
        loss = _epoch(recipe, state, images, opinions, seed, total, device)
        with state.kept_weights() if recipe.ema else nullcontext():
            values = measure.agreement(rows)
        state.log.append({"loss": loss, **values, "seconds": time.perf_counter() - started})
        if recipe.patience and state.best == len(state.log):
            state.keep()
        state.store(out / CHECKPOINT)
        log(
            f"epoch {epoch + 1}/{total}  loss {loss:.4f}  validation SROCC {values['srocc']:.4f} (p {values['p']:.1g},"
            f" {len(rows)} images)  PLCC {values['plcc']:.4f}  {state.log[-1]['seconds']:.0f} s"
        )
    if state.kept:
        net.load_state_dict(state.kept)
    if recipe.calibrate:
        recipe.calibrate(net, *measure.line(opinions.train[:: -(-len(opinions.train) // CALIBRATED)]))
    card.round_to_half(recipe, net)
    facts = measure.facts(before) | {
        "selected": f"epoch {state.best} of {len(state.log)}, by validation SROCC"
        if recipe.patience
        else "the last epoch",
        "seed": seed,
        "device": device,
        "precision": "bfloat16 autocast" if recipe.autocast else "float32",
        "epochs": len(state.log),
        "training_seconds": round(sum(entry["seconds"] for entry in state.log)),
        "command": command,
    }
    return card.write(recipe, net.cpu(), opinions, facts, out)


def _epoch(
    recipe: Recipe, state: State, images: Images, opinions: Opinions, seed: int, total: int, device: str
) -> float:
    """One pass over the training images; returns the mean loss."""
    epoch, net, parameters = len(state.log), state.net, _trainable(state.net)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    torch.manual_seed(seed * 100_003 + epoch)
    net.train(not recipe.evaluation)
    steps, prepared = batches(recipe.views, images, opinions, recipe.batch, seed=seed, epoch=epoch)
    losses = []
    for step, batch in enumerate(
        progress_bar(prepared, f"epoch {epoch + 1}/{total}", steps, leave=False, disable=None)
    ):
        for group in state.optimizer.param_groups:
            group["lr"] = group["peak"] * recipe.schedule((epoch * steps + step) / (total * steps))
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.autocast):
            loss = recipe.loss(net, batch.to(device, layout))
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise IqarenaError(f"epoch {epoch + 1}: expected a finite loss, found {losses[-1]}; lower the lr")
        state.optimizer.zero_grad()
        loss.backward(inputs=parameters)
        if recipe.clip:
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
        state.optimizer.step()
        if recipe.ema:
            state.average(recipe.ema)
    return float(np.mean(losses))


def _trainable(net: nn.Module) -> list[nn.Parameter]:
    return [p for p in net.parameters() if p.requires_grad]


def _optimizer(recipe: Recipe, net: nn.Module) -> torch.optim.Optimizer:
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            factor = recipe.backbone_lr if name.startswith(recipe.backbone) else 1.0
            groups.setdefault(factor, []).append(parameter)
    if not groups:
        raise IqarenaError(f"{recipe.name}: expected parameters to train, found none; take another scorer")
    options = [
        {"params": group, "lr": recipe.lr * factor, "peak": recipe.lr * factor} for factor, group in groups.items()
    ]
    return recipe.optimizer(options, weight_decay=recipe.weight_decay)
