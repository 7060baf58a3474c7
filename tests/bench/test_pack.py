"""Many row files packed into one: nothing that is read or run changes, whatever stops it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from toymanifest import toy_manifest
from toyruns import ROWS, Answer, files, numbers, paint, pairs

from iqarena.errors import StoreError
from iqarena.runner.driver import Options, run_plan
from iqarena.runner.execute import Progress, execute
from iqarena.store import folder as store_folder
from iqarena.store.folder import Store
from iqarena.suite.plan import Plan

Cli = Callable[..., Answer]
IMAGES = ["ä b.png", "a.png", "b.png", "c.png", "d.png"]


@pytest.fixture(autouse=True)
def _three_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_folder, "MANY", 3)


def row(image: str, target: str = "t", score: float = 1.5) -> dict[str, object]:
    names = {"image": image, "repeat": 0, "attack": "fgsm", "source": "s", "target": target}
    return {**names, "key": image + target, "image_sha256": "0", "status": "ok", "score_adv": score}


def filled(folder: Path) -> Store:
    store = Store(folder)
    store.create()
    for image in IMAGES:
        store.write(image, [row(image), row(image, "u", 0.1)])
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled(tmp_path / "run")


def test_packed_rows_are_the_same_rows(store: Store, tmp_path: Path) -> None:
    store.pack()
    assert list(files(store.folder)) == ["rows.parquet"]
    other = filled(tmp_path / "other")
    assert_frame_equal(store.rows(), other.rows())
    assert_frame_equal(store.rows(["image", "score_adv"]), other.rows(["image", "score_adv"]))
    assert [len(store.stored(image)) for image in [*IMAGES, "none.png"]] == [2] * 5 + [0]
    for image in IMAGES:
        assert pd.DataFrame(store.stored(image)).equals(pd.DataFrame(other.stored(image)))
    before = files(store.folder)
    store.pack()
    assert files(store.folder) == before, "nothing more to pack"


def test_few_row_files_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    for image in IMAGES[:2]:
        store.write(image, [row(image)])
    before = files(store.folder)
    store.pack()
    assert files(store.folder) == before


def test_what_is_written_later_counts(store: Store) -> None:
    store.pack()
    store.write("b.png", [row("b.png", "u", 7.0), row("b.png", "v")])
    store.write("new.png", [row("new.png")])

    def check() -> None:
        found = store.rows()
        assert found["image"].unique().tolist() == sorted([*IMAGES, "new.png"])
        assert found[found["image"] == "b.png"].set_index("target")["score_adv"].to_dict() == {
            "t": 1.5, "u": 7.0, "v": 1.5
        }  # fmt: skip
        assert len(found) == 12

    check()
    assert [line["score_adv"] for line in store.stored("b.png")] == [1.5, 7.0, 1.5]
    assert list(files(store.folder)) == [*files(store.folder, "rows/*"), "rows.parquet"], "two row files, which is few"
    for image in ("c.png", "d.png"):
        store.write(image, [row(image)])
    store.pack()
    assert list(files(store.folder)) == ["rows.parquet"]
    assert [line["score_adv"] for line in store.stored("b.png")] == [1.5, 7.0, 1.5], "not the pack that was read before"
    check()


@pytest.mark.parametrize("at", ["pack", "first file", "last file"])
def test_packing_that_is_cut_short_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    before, calls = store.rows(), 0

    def full(*args: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if calls == {"pack": 1, "first file": 1, "last file": len(IMAGES)}[at]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace" if at == "pack" else "unlink", full)
        with pytest.raises(StoreError, match="No space left on device; what is stored stays") as refused:
            store.pack()
    assert "\n" not in str(refused.value)
    assert_frame_equal(store.rows(), before)
    store.remove_leftovers()
    store.pack()
    assert list(files(store.folder)) == ["rows.parquet"]
    assert_frame_equal(store.rows(), before)


def test_who_reads_while_another_packs_misses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = store.rows(), store._row_files()
    store.pack()
    monkeypatch.setattr(Store, "_row_files", lambda self: seen)
    assert_frame_equal(store.rows(), before)


def test_a_damaged_pack_and_one_of_images_that_the_manifest_does_not_name_are_one_line(store: Store) -> None:
    store.pack()
    named = [{"id": image, "cluster": ""} for image in IMAGES[:4]]
    store.write_manifest(toy_manifest(images=named))
    with pytest.raises(StoreError, match=r"names no image 'd.png', but rows.parquet holds 2 rows of it; put back"):
        store.rows()
    path = store.folder / "rows.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for read in (store.rows, lambda: store.stored("a.png")):
        with pytest.raises(StoreError, match=r"rows.parquet: not a readable row file .* remove it and run again"):
            read()


def test_a_pack_in_another_order_is_the_same(store: Store) -> None:
    store.pack()
    before = store.rows()
    pd.read_parquet(store.folder / "rows.parquet").sample(frac=1, random_state=0).to_parquet(
        store.folder / "rows.parquet"
    )
    assert_frame_equal(store.rows(), before)


def test_clearing_takes_the_pack_too(store: Store) -> None:
    store.pack()
    store.write_manifest(toy_manifest(images=[{"id": image, "cluster": ""} for image in IMAGES]))
    store.clear()
    assert files(store.folder) == {}


def test_a_run_is_packed_at_its_end_goes_on_from_there_and_does_nothing_twice(
    suite: Path, photos: Path, plan: Plan, undisturbed: pd.DataFrame, tmp_path: Path, iqarena: Cli
) -> None:
    store = Store(tmp_path / "run")
    first = iqarena("run", suite, "--out", store.folder)
    assert (first.code, first.out.rstrip()[-24:]) == (0, ", gallery/, rows.parquet")
    assert list(files(store.folder, "rows*/**/*")) == []
    assert (store.folder / "rows.parquet").is_file()
    assert_frame_equal(numbers(store), undisturbed, check_exact=True)
    before = files(store.folder)
    assert iqarena("run", suite, "--out", store.folder).code == 0
    assert iqarena("report", store.folder).code == 0
    assert files(store.folder) == before, "manifest and derived files included"
    again = Store(store.folder)
    usage = run_plan(plan, again, Options())
    assert (again.written, [u.evaluated for u in usage]) == (0, [{"forward": 0, "gradient": 0, "seconds": 0}] * 3)

    paint(photos / "p3.png", seed=99)
    paint(photos / "p9.png", seed=9)
    fresh = Store(tmp_path / "fresh")
    for one in (store, fresh):
        assert iqarena("run", suite, "--out", one.folder).code == 0
    assert [name[:7] for name in files(store.folder, "rows/*")] == ["rows/p3", "rows/p9"]
    assert len(store.rows()) == 6 * ROWS
    assert_frame_equal(numbers(store), numbers(fresh), check_exact=True)
    assert pairs(store) == pairs(fresh)


def test_shards_side_by_side_are_packed_by_the_last_and_by_a_merge(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    for i in (1, 2):
        iqarena("run", suite, "--out", tmp_path / "run", "--shard", f"{i}/2")
        iqarena("run", suite, "--out", tmp_path / f"s{i}", "--shard", f"{i}/2")
    assert iqarena("merge", tmp_path / "s1", tmp_path / "s2", "--out", tmp_path / "merged").code == 0
    for folder in (tmp_path / "run", tmp_path / "merged"):
        assert (folder / "rows.parquet").is_file()
    assert_frame_equal(numbers(Store(tmp_path / "run")), numbers(Store(tmp_path / "merged")), check_exact=True)


def test_nobody_packs_beside_another_shard(plan: Plan, undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    store, packed = Store(tmp_path / "run"), []

    def run(i: int, progress: Progress) -> None:
        execute(plan, store, Options(shard=(i, 2), workers=1), overwrite="missing", command="", progress=progress)
        packed.append((store.folder / "rows.parquet").is_file())

    def quiet(cells: int) -> nullcontext[Callable[[int], object]]:
        return nullcontext(lambda n: None)

    def meet(cells: int) -> nullcontext[Callable[[int], object]]:
        run(2, quiet)
        return quiet(cells)

    run(1, meet)
    assert packed == [False, True], "the second shard ended while the first was there"
    assert_frame_equal(numbers(store), undisturbed, check_exact=True)
