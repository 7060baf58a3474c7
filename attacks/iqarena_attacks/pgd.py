"""PGD — Projected Gradient Descent (Madry, Makelov, Schmidt, Tsipras, Vladu, ICLR 2018, arXiv 1706.06083).

    z_0 = x (+ U(−eps, eps) with a random start),   z_{t+1} = Π( z_t + alpha · sign ∇f(z_t) )

Without the random start this is I-FGSM (Kurakin et al. 2017). For scores: the loss is the score itself. The start
is off by default so that the sign-flip control and the oracle see one deterministic perturbation.
"""

from __future__ import annotations

from dataclasses import dataclass

from iqarena_attacks._frame import Iterative, State


@dataclass(frozen=True, kw_only=True, repr=False)
class Pgd(Iterative):
    """random_start: whether it begins at a random point of the budget"""

    name = "pgd"
    bibtex = """@inproceedings{madry2018towards,
  title = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  author = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian},
  booktitle = {ICLR}, year = {2018}, eprint = {1706.06083}
}"""

    alpha: float | None = 2 / 255
    random_start: bool = False

    @property
    def stochastic(self) -> bool:
        return self.random_start

    def start(self, s: State) -> None:
        if self.random_start:
            s.z = (s.x + self.eps * (2 * s.streams.uniform(s.x) - 1)).clamp(0, 1)
