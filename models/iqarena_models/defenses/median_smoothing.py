"""Median smoothing (MS): the median score of noisy copies, which no small perturbation moves beyond known bounds.

E. Shumitskaya, M. Pautov, D. Vatolin, A. Antsiferova, "Stochastic BIQA: Median Randomized Smoothing for Certified Blind
Image Quality Assessment", CVIU 259, 2025, arXiv 2411.12575; the bounds are those of P. Chiang, M. Curry, A. Abdelkader,
A. Kumar, J. Dickerson, T. Goldstein, "Detection as Regression: Certified Object Detection by Median Smoothing", NeurIPS
2020, arXiv 2007.03730. With ``X = f(clip(x + σu, 0, 1))``, ``u ~ N(0, I)``, and ``h_p(x)`` its p-quantile::

    score   median of n draws of X, an estimate of h_½(x)
    bounds  h_Φ(−r/σ)(x)  ≤  h_½(x + δ)  ≤  h_Φ(r/σ)(x)    for every ‖δ‖₂ ≤ r

Both quantiles are in turn bounded by order statistics of the n draws, the innermost that the binomial distribution of
the number of draws below a quantile allows: with ``confidence``, both bounds hold. They are of the exact median
``h_½``, of which the score is an estimate. ``n`` draws carry to a radius of ``σ Φ⁻¹((α/2)^{1/n})``, α = 1 − confidence:
0.174 with the official values; beyond it the bounds are infinite. (Signs of 1/255 on 224×224 pixels are 1.5 long.)

Official values: σ 0.12, n 100, confidence 0.999. The paper's DMS-IQA has a denoiser of its own, trained with a ranking
loss, between noise and scorer. None is shipped: any purification written next takes its place, ``f`` then being that
purification and the scorer: ``median_smoothing|gaussian|cnn``. The bounds hold for it as well, and for every chain that
begins with this defense. Ours: each image's noise is seeded with its own pixels, as in every random purification here,
and an attack is given the mean gradient of ``draws`` copies, an estimate of the smoothed score's gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Interval

from iqarena.api import RandomPurification

if TYPE_CHECKING:
    from torch import Tensor, nn

    from iqarena.api import Streams
    from iqarena_models.defenses.smoothed import Smoothed


@dataclass(frozen=True, kw_only=True, repr=False)
class MedianSmoothing(RandomPurification):
    """The median score of noisy copies, with certified bounds (Shumitskaya et al., 2025).

    sigma: deviation of the noise, for images in [0, 1]
    n: noisy copies whose median is the score
    radius: ℓ2 norm, over all channels, of the perturbations that the bounds hold for; changes no score
    confidence: with which the bounds hold; changes no score
    """

    name = "median_smoothing"
    bibtex = """@article{shumitskaya2025stochastic,
  title={Stochastic {BIQA}: Median Randomized Smoothing for Certified Blind Image Quality Assessment},
  author={Shumitskaya, Ekaterina and Pautov, Mikhail and Vatolin, Dmitriy and Antsiferova, Anastasia},
  journal={Computer Vision and Image Understanding},
  volume={259},
  pages={104447},
  year={2025}
}"""
    reconstructed = "no trained denoiser (a purification written next is one); the radius; noise seeded with the pixels"

    sigma: Annotated[float, Gt(0)] = 0.12
    n: Annotated[int, Ge(1)] = 100
    radius: Annotated[float, Ge(0)] = 0.12
    confidence: Annotated[float, Interval(gt=0, lt=1)] = 0.999

    def apply(self, x: Tensor, streams: Streams) -> Tensor:
        return (x + self.sigma * streams.normal(x)).clamp(0, 1)

    def before(self, scorer: nn.Module) -> Smoothed:
        from iqarena_models.defenses.smoothed import Smoothed

        return Smoothed(self, scorer)
