"""VNI-FGSM — Variance Tuning on NI-FGSM (Wang, He, CVPR 2021, arXiv 2103.15571).

    g_t = ∇f( z_t + alpha · decay · m_t ),   then as VMI-FGSM

The neighbours lie around ``z_t``, as in the authors' code. Official values and what is changed: as VMI-FGSM.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from iqarena_attacks._frame import State
from iqarena_attacks.vmi_fgsm import VmiFgsm


@dataclass(frozen=True, kw_only=True, repr=False)
class VniFgsm(VmiFgsm):
    name = "vni_fgsm"

    def view(self, s: State) -> Tensor:
        return self.ahead(s)
