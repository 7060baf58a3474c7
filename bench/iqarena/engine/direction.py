"""Which way an attack pushes a score."""

from __future__ import annotations

import numpy as np

from iqarena.api.attack import Policy


def directions(policy: Policy, clean: np.ndarray) -> np.ndarray:
    """+1 (raise) or −1 (lower) for each clean score of the source ``(N,)``.

    ``mid``: lower a score above 50, raise any other (both author groups' rule, decided on the source).
    """
    if policy == "mid":
        return np.where(clean > 50, -1.0, 1.0)
    return np.full_like(clean, 1.0 if policy == "raise" else -1.0)
