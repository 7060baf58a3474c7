"""``csiq`` — Categorical Subjective Image Quality: 30 reference images, six kinds of distortion, 866 images.

Larson, Chandler, "Most apparent distortion: full-reference image quality assessment and the role of strategy",
Journal of Electronic Imaging 19(1), 2010. The folder holds ``csiq.DMOS.xlsx`` (sheet all_by_image, columns image,
dst_type, dst_lev, dmos) and ``dst_imgs`` with a folder for each kind: ``dst_imgs/awgn/1600.AWGN.1.png``. DMOS is on
0–1 with 0 the best; mos is 1 − DMOS, so that higher = better. Images of one reference image are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqarena.api import ImageError, ImageItem
from iqarena.errors import nearest
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite
from iqarena.images.sets.workbook import read_sheet

TABLE = "csiq.DMOS.xlsx"
# as the table calls it → as folders and files do
_KINDS = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Csiq(Database):
    name = "csiq"
    title = "CSIQ, Categorical Subjective Image Quality database (2009)"
    home = "https://s2.smu.edu/~eclarson/csiq.html"
    terms = "none known to us beyond citing the paper; see its page"
    layout = (TABLE, "dst_imgs/")
    splits = {"all": 866}
    pixels = (512, 512)

    def entries(self, root: Path) -> Iterable[ImageItem]:
        for row in read_sheet(root / TABLE, ["image", "dst_type", "dst_lev", "dmos"], sheet="all_by_image"):
            image, kind, level = (str(row[key]).strip() for key in ("image", "dst_type", "dst_lev"))
            if kind not in _KINDS:
                raise ImageError(f"{root / TABLE}: unknown dst_type {kind!r} of {image}{nearest(kind, _KINDS)}")
            folder, word = _KINDS[kind]
            name = f"{folder}/{image}.{word}.{level.removesuffix('.0')}.png"
            yield ImageItem(id=name, cluster=image, mos=1 - finite(row["dmos"], str(root / TABLE), name))

    def file(self, id: str) -> str:
        return f"dst_imgs/{id}"
