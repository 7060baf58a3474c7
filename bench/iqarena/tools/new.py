"""A plugin to start from: a short working file and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from iqarena.errors import SpecError, StoreError, nearest
from iqarena.files.atomic import plain_errors
from iqarena.registry.tables import names

_ATTACK = '''"""NAME — what it is (authors, venue, year, arXiv id of its paper).

    x' = x + eps · g / max|g|,   g = ∇f(x)

Official values of its parameters, and what is changed for scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import Tensor

from iqarena.api import Attack, Source, Streams


@dataclass(frozen=True, kw_only=True, repr=False)
class CLASS(Attack):
    """power: of the gradient's size in a step; 0 leaves its sign alone"""

    name = "NAME"
    bibtex = "@misc{NAME, title = {What it is}, author = {Its authors}, year = {2026}}"
    reconstructed = ""  # what is your reading and not the paper's, in one sentence

    power: Annotated[float, Interval(ge=0, le=1)] = 0.5

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        """``x`` is (N, 3, H, W) in [0, 1]; budget, rounding and direction are the harness's."""
        g = source.gradient(x)
        largest = g.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
        return x + self.eps * g.sign() * (g.abs() / largest) ** self.power
'''
_ATTACK_TEST = '''"""NAME does what it declares: budget, seeds, batches, cost. Run with pytest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from iqarena.testing import add_file, build_attack, check_attack

add_file(Path(__file__).with_name("NAME.py"))


@pytest.mark.parametrize(
    ("name", "check"), [*check_attack(build_attack("NAME")), *check_attack(build_attack("NAME(power=0)"))]
)
def test_it_does_what_it_declares(name: str, check: Callable[[], None]) -> None:
    check()
'''
TEMPLATES = {"attack": (_ATTACK, _ATTACK_TEST)}  # kind → plugin and test


def write(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``NAME.py`` and ``test_NAME.py`` into ``folder`` and return their places.

    Raises ``SpecError`` for a kind without a template and a name that cannot be used or is taken, ``StoreError`` for a
    file that is there already (nothing is written then) and for a folder that cannot be written.
    """
    if kind not in TEMPLATES:
        raise SpecError(f"no template for {kind!r}{nearest(kind, TEMPLATES)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise SpecError(f"expected a name of small letters, digits and _, such as my_attack, found {name!r}")
    if name in names(kind):
        raise SpecError(f"{kind} {name!r} is there already (see: iqarena describe {name}); choose another name")
    texts = dict(zip((folder / f"{name}.py", folder / f"test_{name}.py"), TEMPLATES[kind], strict=True))
    for path in texts:
        if path.exists():
            raise StoreError(f"{path} is there already and is not overwritten; choose another name or --out")
    with plain_errors(f"cannot write into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            class_name = "".join(part.title() for part in name.split("_"))
            path.write_text(text.replace("NAME", name).replace("CLASS", class_name), encoding="utf-8")
    plugin, test = texts
    return plugin, test
