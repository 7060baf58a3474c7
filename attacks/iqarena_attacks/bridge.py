"""torchattacks' own attacks, unedited, as score attacks (Kim, arXiv 2010.01950): ``torchattacks.PGD`` and others.

They maximise a cross-entropy. With the two logits ``[−s · (f − f(x)) / 20, 0]`` and label 0 its gradient is, for each
image, a positive multiple of ``s · ∇f``; sign attacks and ℓ1-normalised momentum cancel the multiple. Where gradients
of several points are summed before that (SINIFGSM with m > 1), each has its own multiple, larger where the attack has
come less far: a weighting that the paper does not know. Attacks that stop when a class is "fooled" (Square, CW, APGD)
or weigh neighbours against the point itself (VMI, VNI) are not valid this way and are refused by name.

Defaults are torchattacks', but for ``alpha``: ``none`` is eps / steps, and PGD's random start, which is off. DIFGSM and
TIFGSM draw from torch's global stream: that is seeded for each picture from its own stream, pictures go one by one, and
no two threads draw at once. Their diverse inputs are squares of the picture's width, whatever its height.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
import torchattacks
from torch import Tensor, nn

from iqarena.api import Attack, Source, SpecError, Streams

_global_stream = threading.Lock()


# Each class below holds the parameters that torchattacks' class of the same name takes.


@dataclass(frozen=True, kw_only=True, repr=False)
class Fgsm(Attack):
    """FGSM of torchattacks, unedited."""

    name = "torchattacks.FGSM"
    bibtex = """@misc{kim2020torchattacks,
  title = {Torchattacks: A PyTorch Repository for Adversarial Attacks},
  author = {Kim, Hoki}, year = {2020}, eprint = {2010.01950}
}"""

    def options(self) -> dict[str, Any]:
        return {"eps": self.eps}

    def perturb(self, x: Tensor, direction: Tensor, model: Source, streams: Streams) -> Tensor:
        if not self.stochastic:
            return self._run(x, direction, model)
        seeds = (2**31 * streams.uniform(x.new_empty(len(x), 1).double())).long().flatten().tolist()
        made = []
        for i, seed in enumerate(seeds):
            with _global_stream, torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(seed)
                made.append(self._run(x[i : i + 1], direction[i : i + 1], model, torch.tensor([i])))
        return torch.cat(made)

    def _run(self, x: Tensor, direction: Tensor, model: Source, of: Tensor | None = None) -> Tensor:
        theirs = getattr(torchattacks, self.name.partition(".")[2])
        attack = theirs(_Logits(model, direction.flatten(), of).eval(), **self.options())
        return attack(x, torch.zeros(len(x), dtype=torch.long, device=x.device)).detach()


@dataclass(frozen=True, kw_only=True, repr=False)
class Bim(Fgsm):
    """BIM of torchattacks, unedited."""

    name = "torchattacks.BIM"

    steps: int = 10
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise SpecError(f"{self.name}: expected steps ≥ 1, found {self.steps}")
        if self.alpha is not None and self.alpha <= 0:
            raise SpecError(f"{self.name}: expected alpha > 0, found {self.alpha}")

    @property
    def cost(self) -> int:
        return self.steps

    def options(self) -> dict[str, Any]:
        return {"eps": self.eps, "steps": self.steps, "alpha": self.alpha or self.eps / self.steps}


@dataclass(frozen=True, kw_only=True, repr=False)
class Pgd(Bim):
    """PGD of torchattacks, unedited, without its random start."""

    name = "torchattacks.PGD"

    def options(self) -> dict[str, Any]:
        return super().options() | {"random_start": False}


@dataclass(frozen=True, kw_only=True, repr=False)
class MiFgsm(Bim):
    """MIFGSM of torchattacks, unedited."""

    name = "torchattacks.MIFGSM"

    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay < 0:
            raise SpecError(f"{self.name}: expected decay ≥ 0, found {self.decay}")

    def options(self) -> dict[str, Any]:
        return super().options() | {"decay": self.decay}


@dataclass(frozen=True, kw_only=True, repr=False)
class NiFgsm(MiFgsm):
    """NIFGSM of torchattacks, unedited."""

    name = "torchattacks.NIFGSM"


@dataclass(frozen=True, kw_only=True, repr=False)
class SiniFgsm(MiFgsm):
    """SINIFGSM of torchattacks, unedited."""

    name = "torchattacks.SINIFGSM"

    m: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.m < 1:
            raise SpecError(f"{self.name}: expected m ≥ 1, found {self.m}")

    @property
    def cost(self) -> int:
        return self.steps * self.m

    def options(self) -> dict[str, Any]:
        return super().options() | {"m": self.m}


@dataclass(frozen=True, kw_only=True, repr=False)
class DiFgsm(MiFgsm):
    """DIFGSM of torchattacks, unedited."""

    name = "torchattacks.DIFGSM"

    decay: float = 0.0
    diversity_prob: float = 0.5
    resize_rate: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.diversity_prob <= 1:
            raise SpecError(f"{self.name}: expected diversity_prob in [0, 1], found {self.diversity_prob}")
        if not 0 < self.resize_rate < 2 or self.resize_rate == 1:
            raise SpecError(f"{self.name}: expected resize_rate in (0, 1) or (1, 2), found {self.resize_rate}")

    @property
    def stochastic(self) -> bool:
        return self.diversity_prob > 0

    def options(self) -> dict[str, Any]:
        return super().options() | {"diversity_prob": self.diversity_prob, "resize_rate": self.resize_rate}


@dataclass(frozen=True, kw_only=True, repr=False)
class TiFgsm(DiFgsm):
    """TIFGSM of torchattacks, unedited."""

    name = "torchattacks.TIFGSM"

    len_kernel: int = 15
    nsig: int = 3

    def options(self) -> dict[str, Any]:
        return super().options() | {"len_kernel": self.len_kernel, "nsig": self.nsig}


@dataclass(frozen=True, kw_only=True, repr=False)
class PiFgsm(Fgsm):
    """PIFGSM of torchattacks, unedited."""

    name = "torchattacks.PIFGSM"

    steps: int = 10
    amplification: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise SpecError(f"{self.name}: expected steps ≥ 1, found {self.steps}")
        if self.amplification <= 0:
            raise SpecError(f"{self.name}: expected amplification > 0, found {self.amplification}")

    @property
    def cost(self) -> int:
        return self.steps

    def options(self) -> dict[str, Any]:
        return {"max_epsilon": self.eps, "num_iter_set": self.steps, "amplification": self.amplification}


class _Logits(nn.Module):
    """Two logits from a score; the gradient comes from the counted source, so no graph is built here."""

    def __init__(self, model: Source, direction: Tensor, of: Tensor | None) -> None:
        super().__init__()
        self.model, self.direction, self.of = model, direction, of
        self.clean: Tensor | None = None
        self.register_parameter("place", nn.Parameter(torch.zeros((), device=direction.device)))  # tells the device

    def forward(self, x: Tensor) -> Tensor:
        f = _Score.apply(x, self.model, self.of)
        if self.clean is None:
            self.clean = f.detach()
        logit = -self.direction * (f - self.clean) / 20
        return torch.stack([logit, torch.zeros_like(logit)], 1)


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, model: Source, of: Tensor | None) -> Tensor:
        value, gradient = model.value_and_gradient(x.detach(), of)
        ctx.save_for_backward(gradient)
        return value.to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].view(-1, 1, 1, 1) * ctx.saved_tensors[0], None, None
