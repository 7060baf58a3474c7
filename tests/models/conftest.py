from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def tiny_ladders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure a card's ladder of blur alone, on one tiny image instead of the embedded images."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    monkeypatch.setattr("iqarena_models.training.measure.images", lambda: [image])
    monkeypatch.setattr("iqarena_models.training.measure.LADDERS", {"blur": ()})
