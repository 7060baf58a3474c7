"""Adversarial training with a corrected label.

A. Chistyakova, A. Antsiferova, M. Khrebtov, S. Lavrushkin, K. Arkhipenko, D. Vatolin, D. Turdakov, "Increasing the
Robustness of Image Quality Assessment Models Through Adversarial Training", Technologies 12(11):220, 2024. Each batch
is trained on as it is and once more attacked, with the opinion score lowered by what the attack did to the image::

    x'   = clip(x + eps · sign ∇ₓ|f(x) − mos|, 0, 1)
    mos' = clip(mos − (1 − SSIM(x, x')) · 100, 0, 100)
    L    = ½ · mean|f(x) − mos| + ½ · mean|f(x') − mos'|

Official values: FGSM with eps 4/255 from the image itself, SSIM as the measure, clean and attacked images in equal
shares. Changed for scores of any scorer: the paper trains LinearityIQA with its own norm-in-norm loss, which is of a
whole batch; here the loss is the absolute error on 0–100, as in :mod:`iqarena_models.defenses.gradient_norm`, and a
finished scorer is trained on. SSIM is of the lumas, as everywhere here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval, Unit
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena.images.tensors import luma
from iqarena_models.defenses.hardened import Hardened, scores_and_signs


@dataclass(frozen=True, kw_only=True, repr=False)
class Adversarial(Hardened):
    """Trained on with attacked images, opinion scores lowered by 1 − SSIM (Chistyakova et al., 2024).

    eps: of the attack in training, in [0, 1] units
    weights: file in the folder of weights; none is the one that is shipped
    """

    name = "adversarial"
    bibtex = """@article{chistyakova2024increasing,
  title={Increasing the Robustness of Image Quality Assessment Models Through Adversarial Training},
  author={Chistyakova, Anna and Antsiferova, Anastasia and Khrebtov, Maksim and Lavrushkin, Sergey
          and Arkhipenko, Konstantin and Vatolin, Dmitriy and Turdakov, Denis},
  journal={Technologies},
  volume={12},
  number={11},
  pages={220},
  year={2024}
}"""
    reconstructed = "absolute error instead of the norm-in-norm loss; trains a finished scorer on"

    eps: Annotated[float, Interval(ge=0, le=1), Unit("(write 4/255)")] = 4 / 255
    weights: str | None = None

    def loss(self, module: nn.Module, x: Tensor, mos: Tensor) -> Tensor:
        scores, s = scores_and_signs(module, x)
        away = torch.where(scores.detach() < mos, -1.0, 1.0).view(-1, 1, 1, 1)  # the sign of ∂|f − mos| / ∂f
        attacked = (x + self.eps * away * s).clamp(0, 1)
        lowered = (mos - (1 - ssim(x, attacked)) * 100).clamp(0, 100)
        return ((scores - mos).abs().mean() + (module(attacked) - lowered).abs().mean()) / 2


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM ``(N,)`` of the lumas of images in [0, 1]; constants as in :mod:`iqarena.metrics.distortion`."""
    window = torch.exp(-(torch.arange(-5.0, 6.0, device=x.device) ** 2) / (2 * 1.5**2))
    window = window / window.sum()

    def smooth(plane: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(plane, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))

    a, b = luma(x), luma(y)
    mean_a, mean_b = smooth(a), smooth(b)
    spread = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    together = smooth(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + 0.01**2) * (2 * together + 0.03**2)
    return (similar / ((mean_a**2 + mean_b**2 + 0.01**2) * (spread + 0.03**2))).mean((1, 2, 3))
