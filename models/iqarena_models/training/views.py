"""What a batch is made of: crops and resized full images, mirrored half of the time, some of them also degraded.

Every view is drawn from ``(seed, epoch, image)``, so neither threads nor a restart change it. The images of a batch
share one size, drawn from ``(seed, epoch)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from iqarena.images.degrade import degrade
from iqarena_models.training.data import Images, Opinions, prefetch

# Weakest and strongest: standard deviations in pixels and grey levels, and JPEG's quality.
STRENGTHS = {"blur": (0.4, 6.0), "noise": (3.0, 60.0), "jpeg": (70.0, 4.0)}

Size = int | tuple[int, int]


class Batch(NamedTuple):
    """``images`` ``(N + 2P, 3, h, w)`` in [0, 1]: N with opinion scores ``mos`` ``(N,)`` on 0–100, then the first P of
    them weakly degraded, then strongly; ``strength`` ``(P, 2)`` is 0–1 over the range of the kind."""

    images: Tensor
    mos: Tensor
    strength: Tensor

    def to(self, device: str, layout: torch.memory_format) -> Batch:
        images = self.images.to(device).float().div_(255).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        return Batch(images, self.mos.to(device), self.strength.to(device))


@dataclass(frozen=True)
class Views:
    """``sizes`` are drawn equally often, one for a batch: a number is the side of a random crop at the image's own
    resolution (a smaller image is first enlarged), a pair ``(height, width)`` the full image resized to it.
    ``degraded`` images of each batch also come weakly and strongly degraded, in one kind of any two strengths."""

    sizes: tuple[Size, ...] = (224,)
    mirror: bool = True
    degraded: int = 0

    def __str__(self) -> str:
        kinds = [f"random {s}² crops" if isinstance(s, int) else f"full images at {s[0]}×{s[1]}" for s in self.sizes]
        mirror = ", mirrored half of the time" if self.mirror else ""
        pairs = f", {self.degraded} of a batch also weakly and strongly degraded" if self.degraded else ""
        return ", ".join(kinds) + mirror + pairs


def batches(
    views: Views, images: Images, opinions: Opinions, size: int, *, seed: int, epoch: int
) -> tuple[int, Iterator[Batch]]:
    """Number of batches of an epoch, and the batches (uint8 images ``(N + 2P, h, w, 3)``), prefetched in threads."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(opinions.train)
    size = min(size, len(order))
    number = len(order) // size  # never a smaller batch at the end: statistics of one image are not defined
    sides = rng.integers(len(views.sizes), size=number)
    jobs = zip(np.split(order[: number * size], number), sides, strict=True)

    def make(job: tuple[np.ndarray, int]) -> Batch:
        rows, side = job
        plain, pairs, strength = [], [], []
        for i, row in enumerate(rows):
            draw = np.random.default_rng([seed, epoch, int(row)])
            plain.append(view(images[row], views.sizes[side], views.mirror, draw))
            if i < views.degraded:
                *two, distances = degraded_pair(plain[-1], draw)
                pairs.append(two)
                strength.append(distances)
        stack = np.stack([*plain, *(weak for weak, _ in pairs), *(strong for _, strong in pairs)])
        return Batch(
            torch.from_numpy(stack),
            torch.from_numpy(opinions.mos[rows]),
            torch.tensor(strength, dtype=torch.float32).view(-1, 2),
        )

    return number, prefetch(jobs, make)


def view(image: np.ndarray, size: Size, mirror: bool, rng: np.random.Generator) -> np.ndarray:
    """A crop or the resized image, uint8 ``(h, w, 3)``."""
    if isinstance(size, int):
        image = resize(image, *at_least(image.shape[:2], size))
        top, left = (int(rng.integers(n - size + 1)) for n in image.shape[:2])
        image = image[top : top + size, left : left + size]
    else:
        image = resize(image, *size)
    return np.ascontiguousarray(image[:, ::-1] if mirror and rng.integers(2) else image)


def degraded_pair(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """The image weakly and strongly degraded in one kind, and both strengths from 0 to 1."""
    kind = str(rng.choice(list(STRENGTHS)))
    weak, strong = sorted(rng.uniform(0, 1, 2).tolist())
    seed = int(rng.integers(2**31))
    one, other = (degrade(image, kind, in_units(kind, u), seed) for u in (weak, strong))
    return one, other, (weak, strong)


def in_units(kind: str, u: float) -> float:
    """What ``degrade`` takes, for 0 to 1 in equal ratios of deviations and of JPEG's quality (10 to 5 is 50 to 25)."""
    low, high = STRENGTHS[kind]
    value = low * (high / low) ** u
    return 100 - value if kind == "jpeg" else value


def at_least(sides: Sequence[int], side: int) -> tuple[int, ...]:
    """The sides of an image, in pixels, enlarged alike when one of them is shorter than ``side``."""
    short = min(sides)
    return tuple(sides) if short >= side else tuple(max(side, round(n * side / short)) for n in sides)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, antialiased where it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
