"""torchattacks' own attacks, unedited, as score attacks (Kim, arXiv 2010.01950).

They maximise a cross-entropy. With the two logits ``[−s · (f − f(x)) / 20, 0]`` and label 0 its gradient is, for each
image, a positive multiple of ``s · ∇f``; sign attacks and ℓ1-normalised momentum cancel the multiple. Attacks that
stop when "fooled" (Square, CW, APGD) or weigh gradients of neighbours (VMI) are not valid this way and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchattacks
from torch import Tensor, nn

from iqarena.api import Attack, SpecError
from iqarena.seeding import Streams
from iqarena.source import Source


@dataclass(frozen=True, kw_only=True, repr=False)
class TorchAttacks(Attack):
    name = "torchattacks"
    bibtex = """@misc{kim2020torchattacks,
  title = {Torchattacks: A PyTorch Repository for Adversarial Attacks},
  author = {Kim, Hoki}, year = {2020}, eprint = {2010.01950}
}"""

    method: Literal["FGSM", "BIM", "PGD", "MIFGSM"] = "PGD"
    steps: int = 10
    alpha: float | None = None  # none: eps / steps; FGSM uses neither

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise SpecError(f"{self.name}: expected steps ≥ 1, found {self.steps}")

    @property
    def cost(self) -> int:
        return 1 if self.method == "FGSM" else self.steps

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        options: dict[str, Any] = {"eps": self.eps}
        if self.method != "FGSM":
            options |= {"steps": self.steps, "alpha": self.eps / self.steps if self.alpha is None else self.alpha}
        if self.method == "PGD":
            options["random_start"] = False
        attack = getattr(torchattacks, self.method)(_Logits(model, direction.flatten()).eval(), **options)
        labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return attack(x, labels).detach()


class _Logits(nn.Module):
    """Two logits from a score; the gradient comes from the counted source, so no graph is built here."""

    def __init__(self, model: Source, direction: Tensor) -> None:
        super().__init__()
        self.model, self.direction = model, direction
        self.clean: Tensor | None = None
        self.register_parameter("place", nn.Parameter(torch.zeros((), device=direction.device)))  # tells the device

    def forward(self, x: Tensor) -> Tensor:
        f = _Score.apply(x, self.model)
        if self.clean is None:
            self.clean = f.detach()
        logit = -self.direction * (f - self.clean) / 20
        return torch.stack([logit, torch.zeros_like(logit)], 1)


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, model: Source) -> Tensor:
        value, gradient = model.value_and_gradient(x.detach())
        ctx.save_for_backward(gradient)
        return value.to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].view(-1, 1, 1, 1) * ctx.saved_tensors[0], None
