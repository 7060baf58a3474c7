"""Random search — try a random step, else its opposite, keep what helps: the floor of query attacks.

    z ← Π(z + alpha·q) if that raises s·f,  else Π(z − alpha·q) if that does;   q of random signs

The acceptance rule is that of SimBA (Guo, Gardner, You, Wilson, Weinberger, ICML 2019, arXiv 1905.07121), whose steps
are single pixels or DCT waves; dense signs are ours. For scores: the score itself instead of a class probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from iqarena_attacks.query._frame import Case, Query, Search, ask, begin


@dataclass(frozen=True, kw_only=True, repr=False)
class RandomSearch(Query):
    """alpha: length of a step in [0, 1] units"""

    name = "random_search"
    reconstructed = "steps of dense random signs are ours; SimBA's acceptance rule is the paper's"
    bibtex = """@inproceedings{guo2019simple,
  title = {Simple Black-box Adversarial Attacks},
  author = {Guo, Chuan and Gardner, Jacob R. and You, Yurong and Wilson, Andrew Gordon and Weinberger, Kilian Q.},
  booktitle = {ICML}, year = {2019}, eprint = {1905.07121}
}"""

    alpha: Annotated[float, Gt(0)] = 1 / 255

    def search(self, case: Case) -> Search:
        best = yield from begin(case)
        while True:
            q = self.alpha * case.draw.signs(case.x[None])[0]
            for step in (q, -q):
                z = case.box(case.answer + step)
                gain = yield from ask(z)
                if gain > best:
                    best, case.answer = gain, z
                    break
