"""Gradient-norm regularisation (NT).

Y. Liu, C. Yang, D. Li, J. Ding, T. Jiang, "Defense Against Adversarial Attacks on No-Reference Image Quality Models
with Gradient Norm Regularization", CVPR 2024, arXiv 2403.11397. To first order, the most that a perturbation inside
``eps`` changes a score is ``eps · ‖∇f(x)‖₁``, so training holds that norm down::

    L = |f(x) − mos| + weight · ½ · mean[((f(x + h·s) − f(x)) / h)²],   s = sign ∇f(x), a constant

The quotient is a finite difference of ``f`` along ``s``, which is ``‖∇f(x)‖₁`` for small ``h``; the weights' gradient
flows through both evaluations of ``f``. ``x + h·s`` is not clipped to the box, there as here.

Official values: weight 1e-3 (for HyperIQA), h 1e-2, scores on 0–100, images normalised by ImageNet's mean and
standard deviation. Changed for images in [0, 1]: dividing by a deviation stretches distances, by 1 / 0.226 on average
of the three channels, so the step is ``0.226 · h`` in [0, 1] and the quotient is still taken over ``h``: both
parameters mean what they mean in the paper. The paper trains HyperIQA from its ImageNet backbone for 16 epochs; here a
finished scorer is trained on (:mod:`iqarena_models.training.harden`), with its batch normalisation frozen.

The default weight is 1e-5 instead: compact scorers are so steep that with 1e-3 the first term is hardly seen. One epoch
with 1e-3 on BIQ2021 (crops of 192²) took ``linearity`` of the first zoo from a validation SROCC of 0.79 to 0.31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from iqarena_models.defenses.hardened import Hardened, scores_and_signs

DEVIATION = (0.229 + 0.224 + 0.225) / 3  # ImageNet's, of images in [0, 1]


@dataclass(frozen=True, kw_only=True, repr=False)
class GradientNorm(Hardened):
    """Trained on with the gradient's ℓ1 norm held down (Liu et al., CVPR 2024).

    weight: of the regularisation, for scores on 0–100
    h: step of the finite difference, in images normalised as ImageNet's
    weights: file in the folder of weights; none is the one that is shipped
    """

    name = "gradient_norm"
    bibtex = """@inproceedings{liu2024defense,
  title={Defense Against Adversarial Attacks on No-Reference Image Quality Models with Gradient Norm Regularization},
  author={Liu, Yujia and Yang, Chenxi and Li, Dingquan and Ding, Jianhao and Jiang, Tingting},
  booktitle={CVPR},
  year={2024}
}"""
    reconstructed = (
        "weight 1e-5 instead of 1e-3; trains a finished scorer on, for fewer epochs, not from ImageNet weights"
    )

    weight: Annotated[float, Ge(0)] = 1e-5
    h: Annotated[float, Gt(0)] = 1e-2
    weights: str | None = None

    def loss(self, module: nn.Module, x: Tensor, mos: Tensor) -> Tensor:
        scores, steepness = score_and_steepness(module, x, self.h * DEVIATION)
        normalised = DEVIATION * steepness
        return (scores - mos).abs().mean() + self.weight * normalised.square().mean() / 2


def score_and_steepness(module: nn.Module, x: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """``f(x)`` and ``(f(x + step·s) − f(x)) / step`` ``(N,)``, ``s = sign ∇f(x)``; both with a graph."""
    scores, s = scores_and_signs(module, x)
    return scores, (module(x + step * s) - scores) / step


def gradient_l1(module: nn.Module, x: Tensor) -> Tensor:
    """Exact ``‖∇f(x)‖₁`` ``(N,)`` in points of score per unit of [0, 1], by automatic differentiation."""
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(module(leaf).sum(), leaf)
    return gradient.abs().sum((1, 2, 3))
