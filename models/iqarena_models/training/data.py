"""Training pictures in the form the pocket scorers learn from.

A data folder holds ``images/`` and ``mos.csv`` with the columns ``image, mos, split`` (``train`` or ``val``).
Pictures are brought to 512×512 (short side, centre crop), degraded at that size, then halved to 256×256, which is
what the pocket scorers look at. Four views of each are kept as uint8 on disk: the picture, its mirror image, and a
weak and a strong degradation of one kind, for the ranking term (Liu et al., RankIQA, ICCV 2017).
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from iqarena.api import ImageError
from iqarena.images.degrade import degrade

SIDE = 256
LEAST = {"train": 8, "val": 4}  # pictures, for the statistics to be defined
VIEWS = ("plain", "mirror", "weak", "strong")
_RANGES = {"blur": (0.4, 6.0), "noise": (3.0, 60.0), "jpeg": (30.0, 96.0)}


@dataclass(frozen=True)
class TrainingData:
    """``views`` uint8 ``(4, n, 3, 256, 256)`` (memory-mapped), ``mos`` 0–100 ``(n,)``, index arrays of the split.

    ``strength`` ``(n, 2)`` says how strong the weak and the strong degradation are, 0 to 1 over their kind's range.
    """

    views: np.ndarray
    mos: np.ndarray
    strength: np.ndarray
    train: np.ndarray
    val: np.ndarray
    digest: str  # of the table: names, scores and split
    key: str  # of the stored views: the table and the pictures' sizes


def load_training_data(
    folder: Path, cache: Path, *, limit: int | None = None, apart: bool = True, progress: bool = True
) -> TrainingData:
    """Read ``folder`` (see module docstring), keeping the views under ``cache``; ``limit`` takes the first pictures
    of each split, ``apart`` leaves 0.4 or more between the two degradations of a picture. Opinion scores are mapped
    linearly from their range's natural ends (0–1, or 0–100) to 0–100."""
    table, digest = read_table(folder, limit)
    sizes = [(folder / "images" / name).stat().st_size for name in table["image"]]
    key = hashlib.sha256(f"{digest} {sizes}".encode()).hexdigest()[:16] + ("" if apart else "-even")
    path = cache / f"views-{key}.npy"
    shape = (len(VIEWS), len(table), 3, SIDE, SIDE)
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part.npy")  # another training may be making the same
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)

        def fill(i: int) -> None:
            out[:, i] = _views(folder / "images" / table["image"][i], i, apart)

        with ThreadPoolExecutor(2) as pool:
            jobs = pool.map(fill, range(len(table)))
            for _ in tqdm(jobs, total=len(table), desc="reading pictures", disable=not progress):
                pass
        out.flush()
        part.rename(path)
    mos = table["mos"].to_numpy(np.float32)
    split = table["split"].to_numpy()
    return TrainingData(
        np.load(path, mmap_mode="r"),
        to_hundred(mos),
        np.array([_degradation(i, apart)[1:] for i in range(len(table))], np.float32),
        np.flatnonzero(split == "train"),
        np.flatnonzero(split == "val"),
        digest,
        key,
    )


def read_table(folder: Path, limit: int | None = None) -> tuple[pd.DataFrame, str]:
    """Columns ``image, mos, split`` of ``folder/mos.csv``, checked, and their digest; ``limit`` as above."""
    table = _checked_table(folder)
    if limit is not None:
        table = table.groupby("split", sort=False).head(limit).reset_index(drop=True)
    return table, hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16]


def to_hundred(mos: np.ndarray) -> np.ndarray:
    """Opinion scores mapped from their range's natural ends (0–1, or 0–100) to 0–100."""
    return mos * (100 if mos.max() <= 1 else 1)


def _checked_table(folder: Path) -> pd.DataFrame:
    path = folder / "mos.csv"
    if not path.is_file():
        raise ImageError(f"expected {path} with columns image, mos, split; found no such file")
    try:
        table = pd.read_csv(path, dtype={"image": str})
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: expected a csv with columns image, mos, split; cannot be read: {error}") from None
    missing = {"image", "mos", "split"} - set(table.columns)
    if missing:
        raise ImageError(f"{path}: expected columns image, mos, split; missing {', '.join(sorted(missing))}")
    table["mos"] = pd.to_numeric(table["mos"], errors="coerce")
    unscored = table.loc[~np.isfinite(table["mos"]), "image"]
    if len(unscored):
        raise ImageError(f"{path}: {len(unscored)} pictures without an opinion score, the first is {unscored.iloc[0]}")
    absent = [name for name in table["image"] if not (folder / "images" / name).is_file()]
    if absent:
        raise ImageError(f"{folder}/images: {len(absent)} pictures of mos.csv are missing, the first is {absent[0]}")
    for split, least in LEAST.items():
        scores = table.loc[table["split"] == split, "mos"]
        if len(scores) < least or scores.nunique() < 2:
            raise ImageError(
                f"{path}: expected at least {least} pictures of split {split!r} and unequal scores, found {len(scores)}"
            )
    return table


def _views(path: Path, seed: int, apart: bool) -> np.ndarray:
    """uint8 ``(4, 3, 256, 256)``: see :data:`VIEWS`; kind and strengths are drawn from ``seed``."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ImageError(f"{path}: expected a picture, found something that cannot be decoded")
    picture = _square(np.ascontiguousarray(picture[..., ::-1]))
    kind, *strengths = _degradation(seed, apart)
    degraded = (degrade(picture, kind, _in_units(kind, u, apart), seed) for u in strengths)
    versions = [picture, picture[:, ::-1], *degraded]
    return np.stack([cv2.resize(v, (SIDE, SIDE), interpolation=cv2.INTER_AREA).transpose(2, 0, 1) for v in versions])


def _degradation(seed: int, apart: bool) -> tuple[str, float, float]:
    """Kind, and a weak and a strong strength from 0 to 1."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(_RANGES)))
    weak, strong = sorted(rng.uniform(0, 1, 2))
    return (kind, 0.6 * weak, 0.4 + 0.6 * strong) if apart else (kind, weak, strong)


def _in_units(kind: str, u: float, apart: bool) -> float:
    """What :func:`degrade` takes, for 0 to 1: in equal steps of it, or (not ``apart``) in equal ratios of blur's and
    noise's deviation and of JPEG's quality, which look more alike: from 10 to 5 is as far as from 50 to 25."""
    low, high = _RANGES[kind]
    if apart:
        return low + (high - low) * u
    if kind == "jpeg":
        return 100 - (100 - low) * ((100 - high) / (100 - low)) ** u
    return low * (high / low) ** u


def _square(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = 2 * SIDE / min(height, width)
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)
        height, width = picture.shape[:2]
    top, left = (height - 2 * SIDE) // 2, (width - 2 * SIDE) // 2
    return picture[top : top + 2 * SIDE, left : left + 2 * SIDE]
