"""The contracts: everything that a plugin author needs.

A plugin imports :mod:`iqarena.api`, :mod:`iqarena.images` and :mod:`iqarena.metrics`, and nothing else of iqarena.
Images are float32 tensors ``(N, 3, H, W)`` in ``[0, 1]``; scores are ``(N,)`` on 0–100, higher = better; budgets are
in ``[0, 1]`` units, written ``8/255``. Importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iqarena.api.attack import CHECKPOINTS, Attack
from iqarena.api.bounds import EVEN, ODD
from iqarena.api.filter import Filter, FilterChain
from iqarena.api.imageset import ImageItem, ImageSet
from iqarena.api.model import Defended, Defense, Model
from iqarena.api.plugin import Plugin
from iqarena.api.purification import Certified, Purification, RandomPurification
from iqarena.api.source import EXACT, Estimate, Exact, Member, Oracle, Source
from iqarena.errors import (
    AttackError,
    ImageError,
    IqarenaError,
    ScorerError,
    SpecError,
    StoreError,
    WeightsError,
)
from iqarena.files.atomic import write_atomically
from iqarena.files.hashing import file_sha256, known_sha256
from iqarena.files.progress import progress_bar
from iqarena.files.weights import WeightFile, obtain

if TYPE_CHECKING:
    from iqarena.api.streams import Streams

__all__ = [
    "CHECKPOINTS", "EVEN", "EXACT", "ODD", "Attack", "AttackError", "Certified", "Defended", "Defense", "Estimate",
    "Exact", "Filter", "FilterChain", "ImageError", "ImageItem", "ImageSet", "IqarenaError", "Member", "Model",
    "Oracle", "Plugin", "Purification", "RandomPurification", "ScorerError", "Source", "SpecError", "StoreError",
    "Streams", "WeightFile", "WeightsError", "file_sha256", "known_sha256", "obtain",
    "progress_bar", "write_atomically",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "Streams":  # needs torch
        from iqarena.api.streams import Streams

        return Streams
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
