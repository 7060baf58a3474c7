"""VNI-FGSM — Variance Tuning on NI-FGSM (Wang, He, CVPR 2021, arXiv 2103.15571).

    g_t = ∇f( z_t + alpha · decay · s · m_t ),   then as VMI-FGSM

The neighbours whose mean gradient makes the variance lie around ``z_t``, as in the authors' code. Official values are
those of VMI-FGSM: 20 samples, beta 1.5, 10 steps of eps/10, decay 1. For scores: the loss is the score itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena_attacks.vmi_fgsm import VmiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class VniFgsm(VmiFgsm):
    name = "vni_fgsm"

    def view(self, z: Tensor, memory: Tensor, direction: Tensor) -> Tensor:
        return z + self.decay * self.stride * direction * memory
