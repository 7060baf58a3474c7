"""Perceptual attack (Zhang, Li, Min, Zhai, Guo, Yang, Ma, NeurIPS 2022, arXiv 2210.00933), with SSIM as the distance.

    maximise  f(z) − weight · (1 − SSIM(x, z)),   or with ``squared``  d·|d| − weight · (1 − SSIM),  d = f(z) − f(x)
    z_{t+1} = Π( z_t + 2 alpha · (1 − t / steps) · sign g_t ),   g_t the gradient of the objective

As published: the score is traded against one of four distances without a budget, and people choose the Lagrange
multiplier for which the change just stays unseen; the score's term is ``d²``, whose gradient is zero at the clean
image, so that the start has noise of −1/255 or 0 in each value (``noise``); 200 steps of Adam. Ours: the plain score
and no noise unless asked for; ``d·|d|`` for ``d²``, which would go on where the noise happens to lead, up or down;
``weight``, 100 as a guess; ten sign steps that shrink, so that they settle where the terms balance, of 1.1 · eps/10 on
average; SSIM (Wang et al. 2004) of each channel under a Gaussian window of 11 pixels, σ = 1.5; and the eps ball that
all attacks here keep to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn.functional import conv2d

from iqarena.api import SpecError
from iqarena_attacks._frame import Iterative, State


@dataclass(frozen=True, kw_only=True, repr=False)
class Perceptual(Iterative):
    """weight: of the distance, in points of score, or squared points, for the whole of SSIM
    squared: whether the change of the score counts with its square
    noise: by how much half of the values are lowered at the start, in [0, 1] units
    """

    name = "perceptual"
    reconstructed = (
        "the weight, which people choose in the paper, the steps, the budget and the sign of the square are ours"
    )
    bibtex = """@inproceedings{zhang2022perceptual,
  title = {Perceptual Attacks of No-Reference Image Quality Models with Human-in-the-Loop},
  author = {Zhang, Weixia and Li, Dingquan and Min, Xiongkuo and Zhai, Guangtao and Guo, Guodong and Yang, Xiaokang and
            Ma, Kede},
  booktitle = {NeurIPS}, year = {2022}, eprint = {2210.00933}
}"""

    weight: Annotated[float, Ge(0)] = 100.0
    squared: bool = False
    noise: Annotated[float, Interval(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.squared and not self.noise:
            raise SpecError(
                f"{self.name}: expected noise > 0 with squared, as a square has no slope at the clean image, "
                "found 0; the paper has noise=1/255"
            )

    @property
    def stochastic(self) -> bool:
        return self.noise > 0

    def start(self, s: State) -> None:
        if self.noise:
            s.z = self.project(s.x + self.noise * (s.streams.signs(s.x) - 1) / 2, s)
        if self.squared:
            s.memory["clean"] = s.source.sign.flatten() * s.source.score(s.x)

    def gradient(self, z: Tensor, s: State) -> Tensor:
        value, g = s.source.value_and_gradient(z)
        if self.squared:
            g = 2 * (value - s.memory["clean"]).abs().view(-1, 1, 1, 1).to(g) * g
        return g + self.weight * similarity_gradient(s.x, z)

    def move(self, s: State) -> Tensor:
        return 2 * self.stride * (1 - s.t / self.steps) * s.m.sign()


def similarity_gradient(x: Tensor, z: Tensor) -> Tensor:
    """``∂ SSIM(x, z) / ∂ z``, ``(N, 3, H, W)``; image by image, as a convolution of many may round differently."""
    g = torch.zeros_like(x)  # exactly that where nothing has moved, and not the rounding of an optimum
    for i in range(len(x)):
        if torch.equal(x[i], z[i]):
            continue
        leaf = z[i : i + 1].detach().requires_grad_(True)
        with torch.enable_grad():
            g[i] = torch.autograd.grad(similarity(x[i : i + 1], leaf), leaf)[0][0]
    return g


def similarity(x: Tensor, z: Tensor) -> Tensor:
    """Mean SSIM of one image ``(1, 3, H, W)`` in [0, 1] and another, where the window fits."""
    line = (-((torch.arange(-5.0, 6.0).to(x) / 1.5) ** 2) / 2).softmax(0)

    def mean(t: Tensor) -> Tensor:
        return conv2d(conv2d(t.transpose(0, 1), line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    mx, mz = mean(x), mean(z)
    vx, vz, covariance = mean(x * x) - mx**2, mean(z * z) - mz**2, mean(x * z) - mx * mz
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mx * mz + c1) * (2 * covariance + c2) / ((mx**2 + mz**2 + c1) * (vx + vz + c2))).mean()
