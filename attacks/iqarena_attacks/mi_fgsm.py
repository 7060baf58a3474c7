"""MI-FGSM — Momentum Iterative FGSM (Dong, Liao, Pang, Su, Zhu, Hu, Li, CVPR 2018, arXiv 1710.06081).

    m_{t+1} = decay · m_t + g_t / mean|g_t|,   z_{t+1} = Π( z_t + alpha · sign m_{t+1} )

Official values: 10 steps of eps/10, decay 1. For scores: the loss is the score itself, and from several sources it is
their mean score: the paper's ensemble in the loss (in the gradients: ``ens_mi_fgsm``). Changed: an image whose gradient
is zero everywhere keeps a zero momentum instead of dividing by zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from iqarena_attacks._frame import Iterative, State, unit


@dataclass(frozen=True, kw_only=True, repr=False)
class MiFgsm(Iterative):
    """decay: share of the momentum that stays from step to step"""

    name = "mi_fgsm"
    bibtex = """@inproceedings{dong2018boosting,
  title = {Boosting Adversarial Attacks with Momentum},
  author = {Dong, Yinpeng and Liao, Fangzhou and Pang, Tianyu and Su, Hang and Zhu, Jun and Hu, Xiaolin and
            Li, Jianguo},
  booktitle = {CVPR}, year = {2018}, eprint = {1710.06081}
}"""

    decay: Annotated[float, Ge(0)] = 1.0

    def ahead(self, s: State) -> Tensor:
        """Where the next step would lead by the momentum alone: Nesterov's look-ahead, for variants of this attack."""
        return s.z + self.decay * self.stride * s.m

    def accumulate(self, g: Tensor, m: Tensor) -> Tensor:
        return self.decay * m + unit(g)
