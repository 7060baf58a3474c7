"""What a trained scorer is measured by: agreement with opinion scores, and ladders of growing degradation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from iqarena.api import progress_bar
from iqarena.images.degrade import LADDERS, ladder
from iqarena.images.sets.pocket import PocketImages
from iqarena.images.tensors import to_float
from iqarena.metrics.correlation import agreement
from iqarena_models.training.data import Images, Opinions, prefetch
from iqarena_models.training.views import at_least

if TYPE_CHECKING:
    from iqarena_models.training.recipe import Recipe

CROP = 224  # pixels, the side of the central crops
MAX_SLOPE = 30_000.0  # fp16 holds it; before anything is learned, ratings hardly differ
PROBED = 64  # validation images
IMAGES = 16  # for the ladders


@dataclass(frozen=True)
class Measure:
    """A network on its images, one at a time (they may differ in size), in evaluation mode."""

    recipe: Recipe
    net: nn.Module
    images: Images
    opinions: Opinions
    device: str

    def agreement(self, rows: np.ndarray, crop: int | None = None) -> dict[str, float]:
        """SROCC, its p-value and PLCC on full images, or on central crops of at most ``crop`` pixels a side."""
        scores, mos = self._each(self.net, rows, crop), self.opinions.mos[rows].astype(np.float64)
        values = agreement(scores, mos)
        p = float("nan") if np.isnan(values["srocc"]) else float(spearmanr(scores, mos).pvalue)  # pyright: ignore
        return {"srocc": values["srocc"], "p": p, "plcc": values["plcc"]}

    def line(self, rows: np.ndarray) -> tuple[float, float]:
        """Slope and intercept of the straight line from ratings to opinion scores."""
        rating, mos = self.recipe.rating, self.opinions.mos[rows].astype(np.float64)
        assert rating is not None, "a recipe that calibrates says what"
        ratings = self._each(lambda x: rating(self.net, x), rows)
        slope = ((ratings - ratings.mean()) * (mos - mos.mean())).mean() / max(ratings.var(), 1e-12)
        slope = float(np.clip(slope, -MAX_SLOPE, MAX_SLOPE))
        return slope, float(mos.mean() - slope * ratings.mean())

    def probes(self, full: dict[str, float] | None = None) -> dict[str, float]:
        """The recipe's probes, means over the first validation images, and the agreement on all of them."""
        if not self.recipe.probes:
            return {}
        probes = {
            name: float(np.mean(self._each(lambda x, probe=probe: probe(self.net, x), self.opinions.val[:PROBED])))
            for name, probe in self.recipe.probes.items()
        }
        values = full or self.agreement(self.opinions.val)
        return probes | {"srocc": values["srocc"], "plcc": values["plcc"]}

    def facts(self, before: dict[str, float]) -> dict[str, Any]:
        """Everything that the card says of the finished scorer."""
        full, crops = (self.agreement(self.opinions.val, crop) for crop in (None, CROP))
        facts: dict[str, Any] = {
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "validation_srocc": round(full["srocc"], 4),
            "validation_plcc": round(full["plcc"], 4),
            "validation_p": full["p"],
            "validation_size": len(self.opinions.val),
            "validation_crops": crops,
        }
        if len(apart := self.opinions.excluded):
            facts["excluded"] = {
                "images": len(apart),
                "full": self.agreement(apart),
                "crops": self.agreement(apart, CROP),
            }
        if before:
            facts |= {"before": before, "after": self.probes(full), "probed": len(self.opinions.val[:PROBED])}
        self.net.eval()
        return facts | {"monotone": falls_on_ladders(self._score, embedded_images())}

    def _score(self, x: Tensor) -> Tensor:
        return self.net(enlarged(x, self.recipe.min_size).to(self.device))

    @torch.no_grad()
    def _each(self, score: Callable[[Tensor], Tensor], rows: np.ndarray, crop: int | None = None) -> np.ndarray:
        """``score`` of each image, ``(n,)`` float64."""
        self.net.eval()
        shown = prefetch(
            rows.tolist(), lambda row: enlarged(to_float([central_part(self.images[row], crop)]), self.recipe.min_size)
        )
        bar = progress_bar(shown, "scoring", len(rows), leave=False, disable=None)
        return np.array([float(score(x.to(self.device))) for x in bar])


def enlarged(x: Tensor, side: int) -> Tensor:
    """Images ``(N, 3, H, W)``, enlarged as by :func:`at_least`, bilinearly."""
    sides = at_least(x.shape[-2:], side)
    return x if sides == x.shape[-2:] else F.interpolate(x, sides, mode="bilinear")


def central_part(image: np.ndarray, crop: int | None) -> np.ndarray:
    """The middle of an image ``(H, W, 3)``, at most ``crop`` pixels a side."""
    height, width = (n if crop is None else min(n, crop) for n in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def embedded_images() -> list[np.ndarray]:
    """Embedded images as they were taken."""
    images = PocketImages()
    items = [item for item in images.items() if "+" not in item.id]
    chosen = np.linspace(0, len(items) - 1, min(IMAGES, len(items))).round().astype(int)
    return [images.read(items[i]) for i in chosen]


@torch.no_grad()
def falls_on_ladders(score: Callable[[Tensor], Tensor], images: Sequence[np.ndarray]) -> dict[str, dict[str, Any]]:
    """Per ladder: the share of images whose score falls at every step, and the share of all steps that fall."""
    ladders = {}
    for kind in LADDERS:
        scores = np.array([[float(score(to_float([step]))) for step in ladder(image, kind)] for image in images])
        falls = np.diff(scores, axis=1) < 0
        ladders[kind] = {
            "images": len(images),
            "fall_at_every_step": round(float(falls.all(1).mean()), 3),
            "steps_that_fall": round(float(falls.mean()), 3),
            "mean_scores": [round(float(s), 2) for s in scores.mean(0)],
        }
    return ladders
