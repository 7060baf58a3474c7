"""The scale that all scorers share."""

from __future__ import annotations

from torch import Tensor


def off_scale(scores: Tensor) -> str:
    """Why first ``scores`` do not look like 0–100; empty when they do."""
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        return ""
    return f"expected scores on 0–100, found {float(scores[0]):.4g}, which looks like 0–1"
