"""Ensemble MI-FGSM in the gradients — MI-FGSM (Dong et al., CVPR 2018, arXiv 1710.06081) with one vote for each source.

    m_{t+1} = decay · m_t + 1/K Σ_k g_t^k / mean|g_t^k|,   z_{t+1} = Π( z_t + alpha · sign m_{t+1} )

The paper joins models in the logits, the predictions or the loss; ``mi_fgsm`` on an ensemble does the last, and the
steepest scorer decides. Here the gradients are joined, each of them normalised as the paper normalises the sum, so that
all sources weigh the same: ours. Values as MI-FGSM. With one source this is MI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena_attacks._frame import State, unit
from iqarena_attacks.mi_fgsm import MiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class EnsMiFgsm(MiFgsm):
    name = "ens_mi_fgsm"
    reconstructed = "joining normalised gradients is ours; the paper joins logits, predictions or losses"

    def gradient(self, z: Tensor, s: State) -> Tensor:
        return unit(s.source.members(z)[1]).mean(0)

    def accumulate(self, g: Tensor, m: Tensor) -> Tensor:
        return self.decay * m + g
