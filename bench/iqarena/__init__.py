"""iqarena: a benchmark of adversarial attacks on no-reference image quality models.

The Python API, in the order it is usually needed; each says more in its docstring::

    scorer = iqarena.scorer("hyper")                    # or a torch module: iqarena.scorer(net, range=(0, 1))
    attack = iqarena.attack("sega(eps=8/255)", sources=["bilinear", "vit"])
    adversarial = attack(image)                         # tensor, uint8 array, PIL image, path, or a list of them
    run = iqarena.run("pocket", limit=8)                # a suite: run.pairs, run.attacks, run.models are data frames
    run = iqarena.load("results/runs/pocket")           # a run that is stored

What a user can mend is one line, and an :class:`IqarenaError`. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from iqarena.errors import IqarenaError

if TYPE_CHECKING:
    from iqarena.client.attack import attack
    from iqarena.client.run import run
    from iqarena.client.scorer import scorer
    from iqarena.client.stored import load

__version__ = "0.1.0"
__all__ = ["IqarenaError", "attack", "load", "run", "scorer"]

_LAZY = {"scorer": "scorer", "attack": "attack", "run": "run", "load": "stored"}  # name → module of iqarena.client


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"iqarena.client.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
