"""Training with a defense's loss: a finished scorer is trained on, and what changes is stored.

Adam at a rate that falls to nothing in a straight line, random crops. The scorer stays in evaluation mode (batch
statistics are frozen, nothing is dropped out), and so does a part of it that it calls ``stem``. The weights kept are
those of the epoch with the highest validation SROCC on full images. Everything is float32, but for the sign of the
gradient on a GPU (bfloat16): the difference that :mod:`iqarena_models.defenses.gradient_norm` divides by ``h`` is
smaller than what bfloat16 rounds away.
"""

from __future__ import annotations

import json
from typing import cast

import torch
from torch import Tensor, nn

from iqarena.api import Model
from iqarena_models.defenses.gradient_norm import gradient_l1
from iqarena_models.defenses.hardened import HardenedModel, file_name, origin
from iqarena_models.training.recipe import Recipe, linear_fall
from iqarena_models.training.views import Views


def train_hardened(model: Model, *, lr: float = 2e-4, crop: int = 256) -> Recipe:
    """``model`` is a defended scorer such as ``gradient_norm|cnn``; ``crop`` is a side in pixels."""
    model = cast(HardenedModel, model)
    defense, scorer = model.defense, model.model
    about = origin(defense, scorer)  # one entry: safetensors stores several in any order

    def build() -> nn.Module:
        net = scorer.load().eval()
        for key, parameter in net.named_parameters():
            parameter.requires_grad_(not key.startswith("stem."))
        return net

    def changed(net: nn.Module) -> dict[str, Tensor]:
        own = scorer.load().state_dict()
        tensors = {key: value.cpu().half() for key, value in net.state_dict().items() if value.is_floating_point()}
        return {key: value for key, value in tensors.items() if not torch.equal(value, own[key].half())}

    return Recipe(
        name=file_name(defense, scorer).removesuffix(".safetensors"),
        design=f"`{scorer.name}` hardened by `{defense.label}`.",
        build=build, loss=lambda net, batch: defense.loss(net, batch.images, batch.mos),
        loss_name=f"the loss of {defense.training}, signs of gradients in bfloat16 on a GPU", views=Views((crop,)),
        epochs=3, batch=16, lr=lr, optimizer=torch.optim.Adam, weight_decay=5e-4, schedule=linear_fall,
        evaluation=True, channels_last=scorer.channels_last, min_size=scorer.min_size, patience=2,
        probes={"gradient_l1": gradient_l1}, tensors=changed, 
        metadata={"iqarena": json.dumps(about)},
        starts_from=f"`{scorer.label}`, sha256 {scorer.weights_sha256 or 'none'}", facts=about,
    )  # fmt: skip
