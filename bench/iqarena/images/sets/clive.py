"""``clive`` — LIVE In the Wild Image Quality Challenge Database: 1,162 phone images with their own faults.

Ghadiyaram, Bovik, "Massive Online Crowdsourced Study of Subjective and Objective Image Quality", IEEE TIP 25(1),
2016. The folder is ``ChallengeDB_release`` as it unpacks: names, mean opinion scores (0–100, higher = better) and
their deviations are in three MATLAB files of equal length. Their first seven entries are the images that the
observers were trained with; they lie in a folder of their own and are left out, unless ``split=training`` asks for
nothing but them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from iqarena.api import ImageError, ImageItem
from iqarena.images.sets.database import Database
from iqarena.images.sets.table import finite

TRAINING = 7  # entries at the head of the tables


@dataclass(frozen=True, kw_only=True, repr=False)
class Clive(Database):
    name = "clive"
    title = "LIVE In the Wild Image Quality Challenge Database (2015)"
    home = "https://live.ece.utexas.edu/research/ChallengeDB/index.html"
    terms = (
        "use, copy, change and pass on for any purpose, without fee, with the complete copyright notice of its"
        " README.txt in every copy and the laboratory (LIVE, UT Austin) named as the source"
    )
    layout = ("Data/AllMOS_release.mat", "Data/AllImages_release.mat", "Images/", "Images/trainingImages/")
    splits = {"test": 1162, "training": TRAINING}
    sha256 = {
        "Images/trainingImages/t1.bmp": "0417f2f954c9d9f96930e772fa599cfa734104d0620addff3412df7c863f5306",
        "Images/trainingImages/t2.bmp": "08bc4c87920833acd09d1d3b78a5f696ebb0ae4b13d112b708733001664b7095",
        "Images/trainingImages/t3.bmp": "817faf2266fb836476736839a7cab8852714dde28533fa867e847502fe63a23e",
        "Images/trainingImages/t4.bmp": "d3a422a80e8dcdc54a1d297bab0554962096dcd7071d221ea90ad19726d51492",
        "Images/trainingImages/t5.bmp": "af492f513506418ec4357d4d95fc7e2e4325418bdda556a8bcbc62dbfad2ccb6",
        "Images/trainingImages/t6.bmp": "8b370b0b46c306038e2ba7ca320e1bdd48016f59336874f6ad27cd5052c92bff",
        "Images/trainingImages/t7.bmp": "ebbce18058549d8215810a16b2ce5fb440589c290077a799ae3d1873aa5f3a2c",
    }

    split: str = "test"

    def entries(self, root: Path) -> Iterable[ImageItem]:
        names = _column(root / "Data" / "AllImages_release.mat")
        scores = _column(root / "Data" / "AllMOS_release.mat")
        if len(names) != len(scores):
            raise ImageError(
                f"{root / 'Data'}: expected as many scores as names, found {len(scores)} and {len(names)};"
                " unpack the set again"
            )
        wanted = slice(TRAINING) if self.split == "training" else slice(TRAINING, None)
        for name, score in zip(names[wanted], scores[wanted], strict=True):
            yield ImageItem(id=str(name), cluster=str(name), mos=finite(score, "AllMOS_release.mat", str(name)))

    def file(self, id: str) -> str:
        return f"Images/trainingImages/{id}" if self.split == "training" else f"Images/{id}"


def _column(path: Path) -> list[object]:
    """The one variable of a MATLAB file, which is called like the file, as a flat list."""
    expected = f"{path}: expected a MATLAB file with the variable {path.stem}"
    try:
        with path.open("rb") as file:
            content = scipy.io.loadmat(file, variable_names=[path.stem])
    except FileNotFoundError:
        raise ImageError(f"{expected}, found no such file; unpack the set again") from None
    except Exception as error:  # the reader raises nearly anything for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{expected}, cannot be read ({reason}); unpack the set again") from None
    if path.stem not in content:
        raise ImageError(f"{expected}, found {[k for k, *_ in scipy.io.whosmat(path)]}; unpack the set again")
    cells = np.asarray(content[path.stem]).ravel()
    return [cell.item() if np.size(cell) == 1 else cell for cell in cells]
