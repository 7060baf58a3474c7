"""Fuzz: run folders, their rows and manifests."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fuzzing import ODD_TEXT, ODD_VALUES, TIMES, cases, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st
from toyrows import make_manifest, make_rows
from toyruns import paint

from iqarena.client.run import run
from iqarena.client.stored import load
from iqarena.runner.merge import merge
from iqarena.store import rowfile
from iqarena.store.folder import Store
from iqarena.store.schema import COLUMNS

ROWS = make_rows(images=2)


def _store(folder: Path) -> Store:
    store = Store(folder)
    store.create()
    for image, rows in ROWS.groupby("image"):
        store.replace(str(image), rows.to_dict("records"))  # pyright: ignore[reportArgumentType]
    images = [{"id": i, "cluster": i} for i in ROWS["image"].unique()]
    store.write_manifest(make_manifest(ROWS, images=images))
    return store


def _used(folder: Path, report: bool) -> None:
    """What all that reads a run begins with; and the boards, which take a second."""
    run = load(folder)
    _ = run.failed, run.complete
    if report:
        _ = run.attacks, run.models


REPORT = st.integers(0, 9).map(lambda n: n == 9 and TIMES > 1)


with tempfile.TemporaryDirectory() as _folder:
    ROW_FILE = next(_store(Path(_folder)).rows_folder.iterdir()).read_bytes()


@cases(25)
@given(data=damaged([ROW_FILE]))
def test_row_files_that_are_damaged(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        path.write_bytes(data)
        if not outcome(lambda: rowfile.read(path)):
            assert data == ROW_FILE or b"iqarena:sha256:" not in data, "the checksum notices every change"


def _gaps(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.assign(**{column: [None, *table[column][1:]]})


REWRITES: list[Callable[[pd.DataFrame, str], pd.DataFrame]] = [
    lambda table, column: table.drop(columns=column),
    lambda table, column: table.assign(**{column: table[column].astype(str)}),
    lambda table, column: table.assign(**{column: table[column].astype("category")}),
    lambda table, column: table.assign(**{column: pd.to_numeric(table[column], errors="coerce")}),
    lambda table, column: table.rename(columns={column: "x"}),
    lambda table, column: table.assign(**{column: pd.Series([[1]] * len(table), index=table.index)}),
    lambda table, column: table.assign(**{column: pd.Timestamp("2026-01-01")}),
    lambda table, column: table.set_index(column),
    lambda table, column: table[:0],
    lambda table, column: pd.concat([table, table]),
    _gaps,
]


@cases(25)
@given(
    column=st.sampled_from([*COLUMNS]),
    rewrites=st.lists(st.sampled_from(REWRITES), max_size=2),
    value=st.none() | ODD_TEXT.filter(lambda text: text.isprintable()) | st.floats(),
    report=REPORT,
)
def test_row_files_that_others_rewrite(column: str, rewrites: list[Any], value: Any, report: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        path = next(store.rows_folder.iterdir())
        table = pd.read_parquet(path)
        for rewrite in rewrites:
            table = rewrite(table, column) if column in table else table
        if value is not None:
            table = table.assign(**{column: value})
        table.to_parquet(path)
        outcome(lambda: _used(Path(folder), report))
        outcome(lambda: store.stored(str(ROWS["image"][0])))


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from _places(one, (*at, key))


VALUES = st.one_of(ODD_VALUES, st.sampled_from(["cnn", "ensemble(", "ensemble(cnn, vit)"]))


def _edit(path: Path, data: st.DataObject, value: Any) -> None:
    manifest = json.loads(path.read_text())
    *at, last = data.draw(st.sampled_from([*_places(manifest)][1:]))
    inside = manifest
    for key in at:
        inside = inside[key]
    if data.draw(st.booleans()):
        inside[last] = value
    else:
        del inside[last]
    path.write_text(json.dumps(manifest))


@cases(25)
@given(data=st.data(), value=VALUES)
def test_manifests_that_are_edited(data: st.DataObject, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _edit(_store(Path(folder)).folder / "manifest.json", data, value)
        outcome(lambda: _used(Path(folder), data.draw(REPORT)))


def _run(photos: Path, folder: Path, *attacks: str) -> None:
    keys = {"images": {"path": str(photos)}, "targets": ["toy_curved"], "attacks": [*attacks]}
    run(keys, folder, limit=1, workers=1, progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos = tmp_path_factory.mktemp("photos")
    paint(photos / "p0.png", 0)
    _run(photos, photos / "run", "fgsm")
    return photos / "run"


@cases(6)
@given(data=st.data(), value=VALUES)
def test_runs_into_folders_whose_manifest_is_edited_and_merges_of_them(
    finished: Path, data: st.DataObject, value: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        edited = shutil.copytree(finished, Path(folder) / "run")
        _edit(edited / "manifest.json", data, value)
        outcome(lambda: merge([finished, edited], Path(folder) / "merged"))
        outcome(lambda: _run(finished.parent, edited, "fgsm", "noise"))


@cases(25)
@given(data=st.data())
def test_manifests_that_are_damaged(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = _store(Path(folder)).folder / "manifest.json"
        deep = st.tuples(st.sampled_from(["[", '{"a":']), st.integers(1, 9000)).map(lambda p: (p[0] * p[1]).encode())
        path.write_bytes(data.draw(st.one_of(damaged([path.read_bytes()]), deep)))
        outcome(lambda: _used(Path(folder), data.draw(REPORT)))
