"""Fuzz: image files and weights."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import TIMES, cases, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from iqarena.images.decode import FORMATS, decode
from iqarena.registry.tables import build_model
from iqarena_models.common_scale import filled, read_tensors


def _encoded(mode: str, kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


IMAGES = [_encoded(mode, kind) for kind in FORMATS for mode in ("RGB", "L")] + [_encoded("P", "PNG")]


@cases(80)
@given(data=damaged(IMAGES))
@pytest.mark.filterwarnings("ignore")  # pillow's remarks on damaged metadata
def test_images(data: bytes) -> None:
    decoded: list[np.ndarray] = []
    if not outcome(lambda: decoded.append(decode(data, "x"))):
        assert decoded[0].dtype == np.uint8
        assert decoded[0].ndim == 3


def _checkpoint(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


NET = torch.nn.Linear(3, 2)
TENSORS = dict(NET.state_dict())
OTHERS: list[Any] = [
    {"weight": torch.zeros(1)}, {**TENSORS, "bias": torch.zeros(3)}, {**TENSORS, "more": 1}, {"weight": "x"},
    {1: 2}, {"params": None}, [TENSORS], None, 5, {}, {"model": [1], "k": [], "b": "x"},
    {"model": {}, "k": [1], "b": [1]}, {"model": {}, "k": [], "b": []}, {"model": {}, "k": 1, "b": "x"},
    {"a": {"b": {"c": TENSORS}}}, {**TENSORS, "weight": torch.zeros(2, 3).to_sparse()},
]  # fmt: skip
CHECKPOINTS = [_checkpoint(TENSORS), save(TENSORS)]


@cases(40)
@given(data=st.one_of(damaged(CHECKPOINTS), st.sampled_from(OTHERS).map(_checkpoint)))
def test_weights(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "own.pth"
        path.write_bytes(data)

        def filled_net() -> None:
            tensors = read_tensors(path)
            filled(lambda: torch.nn.Linear(3, 2), tensors.get("params", tensors), path)

        outcome(filled_net)
        patch.setenv("IQARENA_WEIGHTS_DIR", folder)
        outcome(build_model("gradient_norm(weights=own.pth)|cnn").load)
        if TIMES > 1:  # building a ResNet takes half a second
            outcome(build_model("linearityiqa(resnet=resnet18, weights=own.pth)").load)
