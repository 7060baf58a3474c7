"""Row files: whole or not there, one row per name, the same columns whatever happened."""

from __future__ import annotations

import errno
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from pandas.testing import assert_frame_equal
from toymanifest import toy_manifest
from toyruns import files

from iqarena.client.stored import load
from iqarena.errors import StoreError
from iqarena.store.folder import Store
from iqarena.store.schema import COLUMNS, NAMES, RARE

HERE = Path(__file__).parents[2]


def row(**columns: Any) -> dict[str, Any]:
    names = {"image": "a.png", "repeat": 0, "attack": "fgsm(eps=8/255)", "source": "s", "target": "t"}
    return {**names, "key": "k", "status": "ok", "score_adv": 1.5, "forwards": 1, **columns}


def failed(**columns: Any) -> dict[str, Any]:
    built = row(status="error", message="why", **columns)
    return {k: v for k, v in built.items() if k not in ("score_adv", "forwards")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "run")
    store.create()
    return store


def test_every_column_has_its_type_also_where_a_row_failed(store: Store) -> None:
    store.write("a.png", [failed()])
    store.write("b.png", [row(image="b.png")])
    rows = store.rows()  # warnings are errors: pandas would warn of columns without any value
    assert list(rows.columns) == list(COLUMNS)
    types = pd.api.types
    is_kind = {str: types.is_string_dtype, int: types.is_integer_dtype, float: types.is_float_dtype}
    assert [name for name, kind in COLUMNS.items() if not is_kind[kind](rows[name].dtype)] == []
    first, second = rows.iloc[0], rows.iloc[1]
    assert (first["message"], second["message"], second["score_adv"], second["forwards"]) == ("why", "", 1.5, 1.0)
    assert np.isnan(first["score_adv"])


def test_a_run_with_no_rows_has_all_columns(store: Store) -> None:
    rows = store.rows()
    assert (len(rows), list(rows.columns)) == (0, list(COLUMNS))
    assert store.stored("a.png") == []


def test_a_row_replaces_the_one_of_the_same_names_and_no_other(store: Store) -> None:
    store.write("a.png", [row(key="old"), row(key="kept", target="u")])
    store.write("b.png", [row(key="other", image="b.png")])
    store.write("a.png", [row(key="new", score_adv=2.5), row(key="more", repeat=1)])
    actual = store.rows()
    assert not actual.duplicated(NAMES).any()
    assert sorted(actual["key"]) == ["kept", "more", "new", "other"]
    assert len(list(store.rows_folder.iterdir())) == 2


def test_a_row_replaces_the_one_of_the_same_key_under_another_name(store: Store) -> None:
    store.write("a.png", [row(key="k", attack="fgsm(eps=8/255)"), row(key="l", target="u")])
    store.write("a.png", [row(key="k", attack="fgsm(eps=8/255, decay=0)", mos=3.0)])
    assert store.rows()[["key", "attack", "mos"]].fillna(0.0).to_numpy().tolist() == [
        ["l", "fgsm(eps=8/255)", 0.0], ["k", "fgsm(eps=8/255, decay=0)", 3.0]
    ]  # fmt: skip


def test_a_changed_image_takes_all_its_old_rows_away_and_an_unreadable_one_none(store: Store) -> None:
    store.write("a.png", [row(key="k", image_sha256="old"), row(key="l", target="u", image_sha256="old")])
    store.write("a.png", [failed(key="m", target="v", image_sha256="")])
    assert sorted(store.rows()["key"]) == ["k", "l", "m"]
    store.write("a.png", [row(key="n", image_sha256="new")])
    assert sorted(store.rows()["key"]) == ["m", "n"]


def test_images_with_names_alike_have_files_of_their_own(store: Store) -> None:
    images = ["a b.png", "a-b.png", "a_b.png", "ä.png", "ö.png", "x" * 300 + ".png"]
    for image in images:
        store.write(image, [row(image=image)])
    assert sorted(store.rows()["image"]) == sorted(images)


def test_a_manifest_hides_no_rows(store: Store) -> None:
    for image in ("a.png", "b.png", "c.png"):
        store.write(image, [row(image=image)])
    named = [{"id": name, "cluster": ""} for name in ("a.png", "b.png", "c.png", "not yet")]
    store.write_manifest(toy_manifest(images=named))
    assert store.rows()["image"].tolist() == ["a.png", "b.png", "c.png"]
    store.write_manifest(toy_manifest(images=named[1:2]))
    line = r"manifest.json names no image 'a.png', but rows/a-png-\w{8}.parquet holds 1 rows of it, and so for 1 more;"
    for read in (store.rows, lambda: load(store.folder).rows, lambda: load(store.folder).report()):
        with pytest.raises(StoreError, match=line) as refused:
            read()
        assert "\n" not in str(refused.value)
        assert "; put back what it named, or remove such files" in str(refused.value)


def test_a_row_file_under_the_name_of_another_image_is_refused(store: Store) -> None:
    for image in ("a.png", "b.png"):
        store.write(image, [row(image=image)])
    a, b = sorted(store.rows_folder.iterdir())
    copied = a.read_bytes()
    b.write_bytes(copied)
    with pytest.raises(
        StoreError, match=rf"{b.name}: expected the rows of one image, that of this name, found 'a.png'"
    ):
        store.rows()
    b.rename(store.rows_folder / "my copy.parquet")
    assert store.rows()["image"].tolist() == ["a.png"], "no name that a run gives"


@pytest.mark.parametrize("place", ["fsync", "rename"])
def test_a_full_disk_is_one_line_and_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    store.write("a.png", [row()])
    before = files(store.folder)

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync", full) if place == "fsync" else (Path, "replace", full)))
    with pytest.raises(StoreError, match="No space left on device; what is stored stays") as refused:
        store.write("a.png", [row(key="new")])
    assert "\n" not in str(refused.value)
    assert files(store.folder) == before, "neither a half-written file nor a changed one"


def test_a_half_written_file_is_never_read_and_removed_when_nobody_else_is_there(store: Store) -> None:
    store.write("a.png", [row()])
    part = store.rows_folder / "a-png-0badcafe.parquet.123.part"
    part.write_bytes(b"half")
    store.create()
    assert len(store.rows()) == 1
    assert part.exists(), "another shard may be writing it"
    store.remove_leftovers()
    assert not part.exists()
    assert len(store.rows()) == 1


def test_a_damaged_row_file_is_named(store: Store) -> None:
    store.write("a.png", [row()])
    path = next(store.rows_folder.iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    for read in (store.rows, lambda: store.stored("a.png"), lambda: store.write("a.png", [row()])):
        with pytest.raises(StoreError, match=rf"{path.name}: not a readable row file .* remove it and run again"):
            read()


def test_no_flipped_bit_of_a_row_file_changes_a_row(store: Store) -> None:
    store.write("a.png", [row(target=f"t{i}", key=f"k{i}", score_adv=i / 7) for i in range(40)])
    path, before = next(store.rows_folder.iterdir()), store.rows()
    data = path.read_bytes()
    words, passed = [], 0
    for bit in random.Random(0).sample(range(8 * len(data)), 400):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert_frame_equal(store.rows(), before)
            passed += 1
        except StoreError as error:
            words.append(str(error))
    assert passed <= 2, "but for the name that the checksum itself is found by"
    line = re.compile(rf".*{path.name}: not a readable row file .* remove it and run again")
    assert [text for text in words if not line.fullmatch(text)] == []
    path.write_bytes(data)
    assert_frame_equal(pd.read_parquet(path)[list(COLUMNS)].fillna({"message": ""}), before, check_dtype=False)


def test_a_row_file_without_a_checksum_is_one_of_an_earlier_version(store: Store) -> None:
    store.write("a.png", [row()])
    path, before = next(store.rows_folder.iterdir()), store.rows()
    parquet.write_table(parquet.read_table(path).replace_schema_metadata(), path)
    assert_frame_equal(store.rows(), before)


def test_a_row_file_that_pandas_has_rewritten_has_the_same_rows(store: Store) -> None:
    store.write("a.png", [row(), row(target="u")])
    store.write("b.png", [row(image="b.png")])
    before = store.rows()
    path = next(iter(sorted(store.rows_folder.iterdir())))
    table = pd.read_parquet(path)
    table.assign(attack=table["attack"].astype("category"), other=1).set_index("key", drop=False).to_parquet(path)
    assert_frame_equal(store.rows(), before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repeat": "zero"}, "expected int64 in column 'repeat', found"),
        ({"score_adv": "high"}, "expected double in column 'score_adv', found"),
        ({"score_adv": [[1.0]]}, "expected double in column 'score_adv', found list"),
        ({"target": [None]}, "expected a column 'target' without gaps"),
        ({"status": "fine"}, "expected ok or error in column 'status', found 'fine'"),
    ],
    ids=str,
)
def test_a_row_file_that_no_run_writes_is_one_line(store: Store, changes: dict[str, Any], words: str) -> None:
    store.write("a.png", [row()])
    path = next(store.rows_folder.iterdir())
    pd.read_parquet(path).assign(**changes).to_parquet(path)
    for use in (store.rows, lambda: store.stored("a.png")):
        with pytest.raises(StoreError, match=f"not a readable row file \\({words}"):
            use()
    pd.read_parquet(path).drop(columns="image").to_parquet(path)
    with pytest.raises(StoreError):
        store.rows()


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", "[" * 50_000], ids=["open", "list", "empty", "null", "deep"])
def test_a_damaged_manifest_is_named(store: Store, text: str) -> None:
    (store.folder / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest.json: damaged .* run again"):
        store.manifest()


@pytest.mark.parametrize("file", ["manifest.json", "rows.parquet", "rows/"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    store.write_manifest(toy_manifest())
    store.write("a.png", [row()])
    if file == "rows.parquet":
        next(store.rows_folder.iterdir()).rename(store.folder / file)

    def closed(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text" if file == "manifest.json" else "read_bytes", closed)
    with pytest.raises(StoreError, match=f"cannot read .*{file}.*: Permission denied; what is stored stays") as refused:
        store.rows()
    assert "remove" not in str(refused.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot create .*file/run/rows: Not a directory"):
        Store(tmp_path / "file" / "run").create()


def test_clearing_touches_runs_only(tmp_path: Path) -> None:
    own = tmp_path / "gallery" / "mine.png"
    own.parent.mkdir()
    own.write_text("my image")
    store = Store(tmp_path)
    store.create()
    store.clear()
    assert own.exists(), "a folder without a manifest is no run"
    store.write("a.png", [row()])
    store.write_manifest(toy_manifest(images=[{"id": "a.png", "cluster": ""}]))
    store.clear()
    assert store.rows().empty
    assert not store.has_manifest()


RUN = ["rows/a-png-53b5fe1e.parquet", "adversarials/ab/ab" + 30 * "0" + ".zip", "gallery/gallery.json",
       "gallery/a-png-53b5fe__clean.png", "gallery/a-png-53b5fe__fgsm-53b5fe.png", "manifest.json",
       "rows.parquet", "same_ssim.csv", "leaderboard_attacks.csv", "ablation.md", "index.html", "report.json",
       "plots/heatmap_fgsm_eps_8_255.png", "plots/cost_gain_by_target.svg", "plots/gallery.jpg"]  # fmt: skip
STRANGERS = ["plots/thesis.pdf", "plots/mine.png", "gallery/mine.png", "rows/mine.parquet", "rows/notes.txt",
             "adversarials/mine.zip", "adversarials/ab/mine.zip", "thesis.pdf"]  # fmt: skip


def lay(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a file")


def test_clearing_removes_what_iqarena_wrote_and_nothing_else(store: Store) -> None:
    lay(store.folder, [*RUN, *STRANGERS])
    store.write_manifest(toy_manifest())
    store.clear()
    assert sorted(files(store.folder)) == sorted(STRANGERS)


@pytest.mark.parametrize("text", ['{"name": "my web app", "start_url": "/"}', "[]", "{", "not JSON"])
def test_a_strangers_manifest_costs_nothing(store: Store, text: str) -> None:
    lay(store.folder, [*RUN, *STRANGERS])
    (store.folder / "manifest.json").write_text(text)
    before = files(store.folder)
    with pytest.raises(StoreError, match=r"manifest.json: damaged or not iqarena's .* another folder"):
        store.clear()
    assert files(store.folder) == before


@pytest.mark.parametrize("name", ["rows", "gallery", "plots", "adversarials", "adversarials/ab"])
def test_clearing_follows_no_link_out_of_the_folder(store: Store, tmp_path: Path, name: str) -> None:
    lay(store.folder, RUN)
    store.write_manifest(toy_manifest())
    (store.folder / name).rename(tmp_path / "outside")
    (store.folder / name).symlink_to(tmp_path / "outside")
    before = files(tmp_path / "outside")
    with pytest.raises(StoreError, match=rf"run/{name}: expected a folder, found a link; .* choose another"):
        store.clear()
    assert files(tmp_path / "outside") == before
    assert store.has_manifest()


def test_a_link_in_the_place_of_a_row_file_loses_the_link_alone(store: Store, tmp_path: Path) -> None:
    store.write_manifest(toy_manifest())
    lay(tmp_path, ["mine.parquet"])
    (store.folder / RUN[0]).symlink_to(tmp_path / "mine.parquet")
    store.clear()
    assert (tmp_path / "mine.parquet").read_text() == "a file"


def test_temporary_files_of_others_stay(store: Store) -> None:
    own, theirs = "rows/a-png-53b5fe1e.parquet.12.part", ["film.mkv.part", "rows/film.part", "deep/er/x.json.12.part"]
    lay(store.folder, [own, *theirs])
    store.remove_leftovers()
    assert sorted(files(store.folder)) == sorted(theirs)


def test_a_run_stopped_while_it_clears_leaves_no_rows_without_a_manifest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(store.folder, RUN)
    store.write_manifest(toy_manifest())
    gone: list[str] = []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        gone.append(path.name)

    monkeypatch.setattr(Path, "unlink", unlink)
    store.clear()
    assert (len(gone), gone[-1]) == (len(RUN), "manifest.json")


def test_the_readme_explains_every_column() -> None:
    text = (HERE / "results" / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Rows") : text.index("## `pairs.csv`")]
    assert [name for name in COLUMNS if f"`{name}`" not in section] == []


def test_a_lean_frame_has_the_same_rows_in_the_same_order(store: Store) -> None:
    for image in ("ö", "z", "a"):
        for attack in ("pgd", "Fgsm"):
            cosine = {"cosine": 0.5} if image == "z" else {}
            store.write(image, [row(image=image, attack=attack, key=image + attack, image_sha256="0", **cosine)])
    rows, lean = store.rows(), store.rows(lean=True)
    assert set(map(str, rows)) - set(map(str, lean)) == set(RARE) - {"cosine"}
    assert_frame_equal(lean.astype(rows[[*lean]].dtypes), rows[[*lean]])
    for by in (["attack", "image"], ["image", "attack"]):
        assert list(lean.sort_values(by)["key"]) == list(rows.sort_values(by)["key"])
    assert list(lean["image"].cat.categories) == ["a", "z", "ö"]
