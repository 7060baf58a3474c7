"""What travels between the driver and its workers: batches of images, and word of what is being done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from iqarena.api import ImageItem
from iqarena.worker.work import Row


@dataclass(frozen=True)
class Step:
    """What a worker is about to do: read an image, or run one attack from one source on images that travel together.

    ``target`` is that of an attack which asks its target for scores; all other attacks meet all targets in one step.
    """

    images: tuple[str, ...]
    attack: str = ""
    source: str = ""
    target: str = ""
    repeat: int = 0

    def __str__(self) -> str:
        images = self.images[0] + (f" and {len(self.images) - 1} more" if len(self.images) > 1 else "")
        if not self.attack:
            return f"reading {images}"
        return f"{self.attack} from {self.source}{f' against {self.target}' if self.target else ''} on {images}"


@dataclass(frozen=True)
class Task:
    """A batch of images, with what is stored of each (by id).

    One that comes back from a worker that was lost goes on elsewhere: after the ``done`` parts that were yielded, and
    with error rows in place of the steps in ``lost``, which hold why.
    """

    items: Sequence[ImageItem]
    stored: Mapping[str, list[Row]]
    done: int = 0
    lost: Mapping[Step, str] = field(default_factory=dict)
