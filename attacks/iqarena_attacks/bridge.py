"""torchattacks' own attacks, unedited, as score attacks (Kim, arXiv 2010.01950): ``torchattacks.PGD`` and others.

They maximise a cross-entropy. With the two logits ``[(f(x) − f) / 20, 0]`` and label 0 its gradient is, for each
image, a positive multiple of ``∇f``; sign attacks and ℓ1-normalised momentum cancel the multiple. Where gradients of
several points are summed before that (SINIFGSM with m > 1), each has its own multiple, larger where the attack has
come further: a weighting that the paper does not know. Attacks that stop when a class is "fooled" (Square, CW, APGD)
or weigh neighbours against the point itself (VMI, VNI) are not valid this way and are refused by name.

Defaults are torchattacks', but for ``alpha``: ``none`` is eps / steps, and PGD's random start, which is off. DIFGSM and
TIFGSM draw from torch's global stream: that is seeded for each image from its own stream, images go one by one, and
no two threads draw at once. Their diverse inputs are squares of the image's width, whatever its height.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torchattacks
from annotated_types import Ge, Gt, Interval
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

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        if not self.stochastic:
            return self._run(x, source)
        seeds = (2**31 * streams.uniform(x.new_empty(len(x), 1).double())).long().flatten().tolist()
        perturbed = []
        for i, seed in enumerate(seeds):
            with _global_stream, torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(seed)
                perturbed.append(self._run(x[i : i + 1], source.of([i])))
        return torch.cat(perturbed)

    def _run(self, x: Tensor, source: Source) -> Tensor:
        theirs = getattr(torchattacks, self.name.partition(".")[2])
        attack = theirs(_Logits(source).eval(), **self.options())
        return attack(x, torch.zeros(len(x), dtype=torch.long, device=x.device)).detach()


@dataclass(frozen=True, kw_only=True, repr=False)
class Bim(Fgsm):
    """BIM of torchattacks, unedited.

    steps: points at which a gradient is taken
    alpha: length of a step in [0, 1] units; none is eps / steps
    """

    name = "torchattacks.BIM"

    steps: Annotated[int, Ge(1)] = 10
    alpha: Annotated[float, Gt(0)] | None = None

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
    """MIFGSM of torchattacks, unedited.

    decay: share of the momentum that stays from step to step
    """

    name = "torchattacks.MIFGSM"

    decay: Annotated[float, Ge(0)] = 1.0

    def options(self) -> dict[str, Any]:
        return super().options() | {"decay": self.decay}


@dataclass(frozen=True, kw_only=True, repr=False)
class NiFgsm(MiFgsm):
    """NIFGSM of torchattacks, unedited."""

    name = "torchattacks.NIFGSM"


@dataclass(frozen=True, kw_only=True, repr=False)
class SiniFgsm(MiFgsm):
    """SINIFGSM of torchattacks, unedited.

    m: scaled copies
    """

    name = "torchattacks.SINIFGSM"

    m: Annotated[int, Ge(1)] = 5

    @property
    def cost(self) -> int:
        return self.steps * self.m

    def options(self) -> dict[str, Any]:
        return super().options() | {"m": self.m}


@dataclass(frozen=True, kw_only=True, repr=False)
class DiFgsm(MiFgsm):
    """DIFGSM of torchattacks, unedited.

    diversity_prob: probability of another size and place, for each image and step
    resize_rate: other size as a multiple of the image's, not 1
    """

    name = "torchattacks.DIFGSM"

    decay: float = 0.0
    diversity_prob: Annotated[float, Interval(ge=0, le=1)] = 0.5
    resize_rate: Annotated[float, Interval(gt=0, lt=2)] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resize_rate == 1:
            raise SpecError(f"{self.name}: expected resize_rate in (0, 1) or (1, 2), found 1")

    @property
    def stochastic(self) -> bool:
        return self.diversity_prob > 0

    def options(self) -> dict[str, Any]:
        return super().options() | {"diversity_prob": self.diversity_prob, "resize_rate": self.resize_rate}


@dataclass(frozen=True, kw_only=True, repr=False)
class TiFgsm(DiFgsm):
    """TIFGSM of torchattacks, unedited.

    len_kernel: side of the kernel in pixels
    nsig: standard deviations from its middle to its end
    """

    name = "torchattacks.TIFGSM"

    len_kernel: int = 15
    nsig: int = 3

    def options(self) -> dict[str, Any]:
        return super().options() | {"len_kernel": self.len_kernel, "nsig": self.nsig}


@dataclass(frozen=True, kw_only=True, repr=False)
class PiFgsm(Fgsm):
    """PIFGSM of torchattacks, unedited.

    steps: points at which a gradient is taken
    amplification: how many times a step is amplified
    """

    name = "torchattacks.PIFGSM"

    steps: Annotated[int, Ge(1)] = 10
    amplification: Annotated[float, Gt(0)] = 10.0

    @property
    def cost(self) -> int:
        return self.steps

    def options(self) -> dict[str, Any]:
        return {"max_epsilon": self.eps, "num_iter_set": self.steps, "amplification": self.amplification}


class _Logits(nn.Module):
    """Two logits from a score; the gradient comes from the counted source, so no graph is built here."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.clean: Tensor | None = None
        self.register_parameter("place", nn.Parameter(torch.zeros((), device=source.sign.device)))  # tells the device

    def forward(self, x: Tensor) -> Tensor:
        f = _Score.apply(x, self.source)
        if self.clean is None:
            self.clean = f.detach()
        logit = (self.clean - f) / 20
        return torch.stack([logit, torch.zeros_like(logit)], 1)


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Source) -> Tensor:
        value, gradient = source.value_and_gradient(x.detach())
        ctx.save_for_backward(gradient)
        return value.to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].view(-1, 1, 1, 1) * ctx.saved_tensors[0], None
