from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from opinions import write_opinions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with opinion scores."""
    return write_opinions(tmp_path_factory.mktemp("training") / "opinions")


@pytest.fixture
def tiny_ladders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure a card's ladder of blur alone, on one tiny image instead of the embedded images."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    monkeypatch.setattr("iqarena_models.training.measure.embedded_images", lambda: [image])
    monkeypatch.setattr("iqarena_models.training.measure.LADDERS", {"blur": ()})
