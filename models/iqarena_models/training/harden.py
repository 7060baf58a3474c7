"""Training with a defense's loss: a finished scorer is trained on, and what changes is stored.

One epoch of random crops by Adam, at a rate that falls to nothing in a straight line; the weights at its end are kept,
since validation images, which are clean, would select the least hardened ones. The scorer stays in evaluation mode
(batch statistics are frozen, nothing is dropped out). An embedded scorer's layers that its own recipe leaves alone are
left alone here too, and so are those of :data:`ALSO_FROZEN`. Everything is float32: the difference that
:mod:`iqarena_models.defenses.gradient_norm` divides by ``h`` is smaller than what bfloat16 rounds away.
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
from iqarena_models.training.recipes import RECIPES
from iqarena_models.training.views import Views
from iqarena_models.zoo.backbones.dino import LINEAR
from iqarena_models.zoo.vit import DEPTH

# The bulk of three scorers, 1.2, 7.5 and 18 MB, so that ten hardened ones take no more than 40 MB: deepest modules of
# SqueezeNet, the deepest stage of the ResNet, and the transformer's blocks but for their norms and the last one, as its
# own recipe leaves the first three. (With the last one left alone too it gave all images nearly one score.)
ALSO_FROZEN = {
    "bilinear": tuple(f"backbone.distortion.fires.{i}." for i in range(4, 8)),
    "hyper": ("backbone.stages.3.",),
    "vit": ("backbone.position", *(f"backbone.blocks.{i}.{part}." for i in range(DEPTH - 1) for part in LINEAR)),
}


def train_hardened(model: Model, *, lr: float = 2e-4, crop: int = 192) -> Recipe:
    """``model`` is a defended scorer such as ``gradient_norm|cnn``; ``crop`` is a side in pixels."""
    model = cast(HardenedModel, model)
    defense, scorer = model.defense, model.model
    about = origin(defense, scorer)  # one entry: safetensors stores several in any order
    frozen = (RECIPES[scorer.name].frozen if scorer.name in RECIPES else ()) + ALSO_FROZEN.get(scorer.name, ())
    start = f"`{scorer.label}`, sha256 {scorer.weights_sha256 or 'none'}"

    def changed(net: nn.Module) -> dict[str, Tensor]:
        own = scorer.load().state_dict()
        tensors = {key: value.cpu().half() for key, value in net.state_dict().items() if value.is_floating_point()}
        return {key: value for key, value in tensors.items() if not torch.equal(value, own[key].half())}

    return Recipe(
        name=file_name(defense, scorer).removesuffix(".safetensors"),
        design=f"`{scorer.name}` hardened by `{defense.label}`.",
        build=lambda: scorer.load().eval().requires_grad_(),
        loss=lambda net, batch: defense.loss(net, batch.images, batch.mos),
        loss_name=f"the loss of {defense.training}", views=Views((crop,)),
        epochs=1, batch=16, lr=lr, backbone_lr=0.5, optimizer=torch.optim.Adam, weight_decay=5e-4,
        schedule=linear_fall, frozen=frozen, evaluation=True,
        channels_last=scorer.channels_last, min_size=scorer.min_size,
        probes={"gradient_l1": gradient_l1}, tensors=changed, metadata={"iqarena": json.dumps(about)},
        starts_from=f"{start}; not trained: {', '.join(frozen)}" if frozen else start, facts=about,
    )  # fmt: skip
