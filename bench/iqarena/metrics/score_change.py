"""How far an attack moved a score, in the field's several spellings (scores on 0–100, higher = better).

``f`` clean score, ``f'`` attacked score, ``s`` the direction (+1 raise, −1 lower), all ``(N,)``::

    gain            s · (f' − f)
    aligned         s · (f(x + δ) − f(x + δ'))     δ' the displaced control: the signs of half an image away
    directed        s · (f(x + δ) − f(x − δ)) / 2
    RGO             |f' − f| / max(100 − f, f)
    boundary ratio  |f' − f| / (100 − f when raising, f when lowering)
    R               log10( max(f, 100 − f) / |f' − f| )

R is of Zhang et al., "Perceptual attacks of no-reference image quality models with human-in-the-loop"
(NeurIPS 2022, arXiv 2210.00933), who average it over images; lower R = stronger attack. The boundary ratio is what the
score-boundary attack (arXiv 2401.05217) raises step by step. The aligned and the directed effect are ours: undirected
noise has about 0.
"""

from __future__ import annotations

import numpy as np

from iqarena.metrics.statistics import Floats

GUARD = 1e-6  # smallest score change (and headroom to the end of the scale) that is told from zero


def gain(clean: Floats, attacked: Floats, direction: Floats) -> Floats:
    """Score change in the wanted direction, in score points, ``(N,)``."""
    return direction * (attacked - clean)


def directed_effect(attacked: Floats, control: Floats, direction: Floats) -> Floats:
    """Half the difference to the sign-flipped perturbation, in score points, ``(N,)``."""
    return direction * (attacked - control) / 2


def aligned_effect(attacked: Floats, displaced: Floats, direction: Floats) -> Floats:
    """Difference to the displaced control, in score points, ``(N,)``."""
    return direction * (attacked - displaced)


def relative_gain(clean: Floats, attacked: Floats) -> Floats:
    """RGO: the change as a share of the larger headroom on the scale, ``(N,)``."""
    return np.abs(attacked - clean) / np.maximum(100 - clean, clean)


def boundary_ratio(clean: Floats, attacked: Floats, direction: Floats) -> Floats:
    """The change as a share of the headroom in the wanted direction, ``(N,)``."""
    headroom = np.where(direction > 0, 100 - clean, clean)
    return np.abs(attacked - clean) / np.maximum(headroom, GUARD)


def past_boundary(clean: Floats, attacked: Floats, direction: Floats, b: float) -> Floats:
    """Whether ``f' > f + (100 − f)·b`` (raising) or ``f' < f − f·b`` (lowering): 0 or 1, ``(N,)``."""
    headroom = np.where(direction > 0, 100 - clean, clean)
    return (gain(clean, attacked, direction) > headroom * b).astype(np.float64)


def robustness(clean: Floats, attacked: Floats) -> Floats:
    """R of each image, ``(N,)``; lower = stronger attack."""
    return np.log10(np.maximum(clean, 100 - clean) / np.maximum(np.abs(attacked - clean), GUARD))
