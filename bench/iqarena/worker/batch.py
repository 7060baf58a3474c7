"""Images that travel together through all cells of a run, with everything that is worked out once for them."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqarena.api import ImageItem, Model, ScorerError
from iqarena.api.streams import Streams
from iqarena.engine.scorer import Scorer
from iqarena.images.tensors import to_pixels
from iqarena.metrics.distortion import Reference, distortion
from iqarena.store.adversarials import pixels_sha256

MAX_VALUES = 2**24  # values of the images that one call scores; of larger images one at a time
ASKED_AGAIN = frozenset(4**k for k in range(10))  # uses of a clean score after which it is worked out once more


@dataclass
class Batch:
    """Images of one size, uint8 RGB ``(H, W, 3)``, and what has been found out about them.

    ``gradients`` is the memo of :class:`~iqarena.engine.source.Source`; scores and distances are kept by the place
    and the hash of what was scored, so that nothing is scored twice by one model.
    """

    items: list[ImageItem]
    images: list[np.ndarray]
    references: list[Reference]
    device: torch.device
    gradients: dict[Any, Any] = field(default_factory=dict)
    _scores: dict[tuple[Model, int, str], float] = field(default_factory=dict)
    _first: dict[Model, np.ndarray] = field(default_factory=dict)  # clean scores when they were first worked out here
    _uses: dict[Model, int] = field(default_factory=dict)  # of clean scores since then
    _seconds: defaultdict[Model, list[float]] = field(default_factory=lambda: defaultdict(list))
    _certificates: dict[Model, list[dict[str, float]]] = field(default_factory=dict)
    _distances: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)

    @cached_property
    def pixels(self) -> Tensor:
        """uint8 ``(N, 3, H, W)``."""
        return to_pixels(self.images).to(self.device)

    @cached_property
    def x(self) -> Tensor:
        """The same as float32 in [0, 1]."""
        return self.pixels.float() / 255

    @cached_property
    def spare_signs(self) -> Tensor:
        """Random ±1 for :func:`~iqarena.engine.budget.displaced`, by the pixels alone, int8 ``(N, 3, H, W)``."""
        return Streams(self.sha256, "displaced control").signs(torch.empty_like(self.pixels, dtype=torch.int8))

    @cached_property
    def sha256(self) -> list[str]:
        return [clean_sha256(image) for image in self.images]

    @cached_property
    def pixels_sha256(self) -> list[str]:
        """The hashes that adversarial images with the clean ones' pixels have."""
        return hashes(self.images)

    def singles(self) -> list[Batch]:
        """The images as batches of one, with the scores that are known of each."""
        singles = []
        for i, (item, image, reference) in enumerate(zip(self.items, self.images, self.references, strict=True)):
            scores = {(model, 0, sha): score for (model, j, sha), score in self._scores.items() if i == j}
            first = {model: own[i : i + 1] for model, own in self._first.items()}
            known = {"_scores": scores, "_first": first, "_uses": dict(self._uses), "_seconds": self._seconds}
            singles.append(Batch([item], [image], [reference], self.device, **known))
        return singles

    def remember(self, model: Model, i: int, scores: Mapping[str, float], seconds: float) -> None:
        """Scores of the ``i``-th image that are stored, by hash, and the time such a score took."""
        self._scores.update({(model, i, sha): score for sha, score in scores.items()})
        self._seconds[model].append(seconds)

    def score(self, scorer: Scorer, pixels: Tensor, sha256: Sequence[str]) -> np.ndarray:
        """Scores ``(N,)`` of uint8 images ``(N, 3, H, W)`` with these hashes."""
        return self.scores(scorer, {"": (pixels, sha256)})[""]

    def scores(self, scorer: Scorer, images: Mapping[str, tuple[Tensor, Sequence[str]]]) -> dict[str, np.ndarray]:
        """The same of several at once, by name; what nobody has scored yet goes to the scorer in one call."""
        keys = {name: [(scorer.model, i, sha) for i, sha in enumerate(sha256)] for name, (_, sha256) in images.items()}
        missing: list[tuple[Model, int, str]] = []
        parts: list[Tensor] = []
        for name, (pixels, _) in images.items():
            new = [i for i, key in enumerate(keys[name]) if key not in self._scores and key not in missing]
            missing += [keys[name][i] for i in new]
            parts += [pixels if len(new) == len(pixels) else pixels[new]]
        if missing:
            started, values = time.perf_counter(), []
            for unscored in torch.cat(parts).split(max(1, MAX_VALUES // self.pixels[0].numel())):
                values += scorer.score(unscored.to(self.x).div_(255)).tolist()
            self._seconds[scorer.model].append((time.perf_counter() - started) / len(missing))
            self._scores.update(zip(missing, values, strict=True))
        return {name: np.array([self._scores[key] for key in own]) for name, own in keys.items()}

    def clean(self, scorer: Scorer) -> np.ndarray:
        """Scores ``(N,)`` of the clean images, believed when a second evaluation says the same.

        They are asked again at a few later uses too. Raises :class:`ScorerError`, and forgets them, for a scorer that
        then answers otherwise and does not declare itself stochastic. Stored scores may be another processor's, whose
        last digits differ: they are taken as they are, and what is compared is worked out here.
        """
        model, keys = scorer.model, [(scorer.model, i, sha) for i, sha in enumerate(self.sha256)]
        stored = any(key in self._scores for key in keys)
        scores = self.score(scorer, self.pixels, self.sha256)
        if model.stochastic:
            return scores
        if model not in self._first:
            self._first[model] = scorer.score_again(self.x).cpu().numpy() if stored else scores
            self._uses[model] = 0
        self._uses[model] += 1
        if self._uses[model] in ASKED_AGAIN:
            again, first = scorer.score_again(self.x).cpu().numpy(), self._first[model]
            for i in (abs(again - first) > scorer.tolerance).nonzero()[0]:
                del self._first[model]
                for key in keys:
                    self._scores.pop(key, None)
                raise ScorerError(
                    f"{model!r}: scored the same image {first[i]:.9g} and then {again[i]:.9g}; run again,"
                    " and if it happens again let it declare itself stochastic"
                )
        return scores

    def certificate(self, scorer: Scorer) -> list[dict[str, float]]:
        """Columns with the certified bounds of each clean image's score; empty where the scorer has none."""
        if scorer.model not in self._certificates:
            bounds = scorer.certificate(self.x)
            pairs = [] if bounds is None else bounds.tolist()
            named = [{"certified_low": low, "certified_high": high} for low, high in pairs]
            self._certificates[scorer.model] = named or [{}] * len(self.items)
        return self._certificates[scorer.model]

    def score_seconds(self, model: Model) -> float:
        """What a score of ``model`` has taken so far, per image: the median of the calls that scored anything."""
        return statistics.median(self._seconds[model] or [float("nan")])

    def distance(self, i: int, sha256: str, adversarial: np.ndarray) -> dict[str, float]:
        """Distortion of the ``i``-th image, whose adversarial one has this hash."""
        if (i, sha256) not in self._distances:
            self._distances[i, sha256] = distortion(self.references[i], adversarial)
        return self._distances[i, sha256]


def clean_sha256(image: np.ndarray) -> str:
    """Hash of a clean image's size and pixels, a row's ``image_sha256``."""
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()


def hashes(images: Sequence[np.ndarray]) -> list[str]:
    return [pixels_sha256(image) for image in images]
