"""An image file attacked, stored and measured: what ``iqarena attack`` does."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from iqarena.api.attack import Policy
from iqarena.client.attack import Cost, attack
from iqarena.client.inputs import Images, ImagesLike, to_array
from iqarena.client.scorer import Scorer, scorer
from iqarena.errors import StoreError
from iqarena.files.atomic import write_atomically
from iqarena.images.tensors import to_uint8
from iqarena.metrics.distortion import distortion
from iqarena.registry.tables import build_attack


@dataclass(frozen=True)
class Effect:
    """``scores`` holds (clean, adversarial) on 0–100 by the scorer's name; ``linf`` is in [0, 1]."""

    scores: dict[str, tuple[float, float]]
    ssim: float
    linf: float


def effect(clean: ImagesLike, adversarial: ImagesLike, scorers: Sequence[Scorer]) -> Effect:
    """What ``scorers`` say of two images, and how far the second is from the first; ``ValueError`` for two sizes."""
    before, after = (to_array(to_uint8(Images.of(image).x[0])) for image in (clean, adversarial))
    scores = {one.name: (one(before), one(after)) for one in scorers}
    moved = distortion(before, after)
    return Effect(scores, moved["ssim"], moved["linf"])


def attack_file(
    image: Path, out: Path, spec: str, sources: Sequence[str], target: str | None, *, direction: Policy = "mid",
    seed: int = 0, device: str = "auto",
) -> tuple[Effect, Cost]:  # fmt: skip
    """Attack the file ``image`` and store the result in ``out``, as PNG; ``target`` is asked by a query attack alone.

    Raises ``StoreError`` for a place that cannot be written (before anything is computed, where that can be seen), and
    what :func:`iqarena.attack` raises.
    """
    _check_out(out, image)
    queried = target if "score" in build_attack(spec).access else None
    bound = attack(spec, sources, target=queried, direction=direction, seed=seed, device=device)
    measured = [*bound.sources]
    if target is not None:
        measured.append(bound.target or scorer(target, device=device))
    adversarial: Image.Image = bound(image)
    measurement = effect(image, adversarial, measured)
    png = io.BytesIO()
    adversarial.save(png, format="PNG")
    write_atomically(out, png.getvalue())
    return measurement, bound.cost


def _check_out(path: Path, image: Path) -> None:
    if path.suffix.lower() != ".png":
        raise StoreError(f"{path}: expected a name that ends in .png, which loses nothing; write {path.stem}.png")
    if path.exists() and image.exists() and path.samefile(image):
        raise StoreError(f"{path}: expected another place than the image itself, which would be lost")
    if path.is_dir() or not path.absolute().parent.is_dir():
        present = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise StoreError(f"{path}: expected a file in a folder that is there, found {present}; make it first")
