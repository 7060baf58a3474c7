"""Adversarial images of a stored run, kept or crafted again, and runs that are joined."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from toyruns import ATTACKS, ROWS, SOURCES, Answer, files, numbers, paint, pairs

from iqarena.api import Attack, Model, Plugin
from iqarena.runner import export as module
from iqarena.store.adversarials import pixels_sha256
from iqarena.store.folder import Store
from iqarena.worker.attacked import attack_images

Cli = Callable[..., Answer]
IMAGES = 5


@pytest.fixture
def short(suite: Path) -> Path:
    """Without what is slow, and with attacks that ask the target."""
    text = suite.read_text().replace('"mi_fgsm(steps=2)", "sega(samples=2)"', '"square(queries=30)"')
    suite.write_text(text + "limit = 2\n")
    return suite


@pytest.mark.parametrize("keep", ["adversarials", ""])
def test_exported_images_are_those_of_the_rows(short: Path, tmp_path: Path, iqarena: Cli, keep: str) -> None:
    store, out = Store(tmp_path / "run"), tmp_path / "images"
    assert iqarena("run", short, "--out", store.folder, "--set", f"keep={keep!r}").code == 0
    before = files(store.folder)
    answer = iqarena("export", store.folder, "--out", out)
    assert answer.code == 0, answer.err
    table, rows = pd.read_csv(out / "adversarials.csv", keep_default_na=False), store.rows()
    assert answer.out.startswith(f"{len(table)} of {len(table)} adversarial images are in {out}")
    assert len(table) == rows["craft_key"].nunique() == 2 * (3 * SOURCES + 3)
    assert set(table["queried"]) == {"", *rows["target"].unique()}
    for line in table.to_dict("records"):
        image = cv2.imread(str(out / line["file"]))
        assert image is not None
        assert pixels_sha256(np.ascontiguousarray(image[..., ::-1])) == line["sha256"]
        own = rows[rows["craft_key"] == line["craft_key"]]
        assert set(own["attack"]) == {line["attack"]}
        assert set(own["linf"]) == {float(line["linf"])}
    assert len(list(out.glob("*.png"))) == len(table)
    assert files(store.folder) == before, "the run is left as it is"


def test_images_may_be_chosen_and_what_is_not_there_is_named(short: Path, tmp_path: Path, iqarena: Cli) -> None:
    run, out = tmp_path / "run", tmp_path / "images"
    assert iqarena("run", short, "--out", run).code == 0
    chosen = ["--attack", "fgsm", "--attack", "noise(eps=8/255)", "--source", "toy_curved", "--image", "p1.png"]
    assert iqarena("export", run, "--out", out, *chosen).code == 0
    table = pd.read_csv(out / "adversarials.csv")
    names = table[["attack_label", "source", "image"]].sort_values("attack_label").to_numpy().tolist()
    assert names == [[label, "toy_curved(seed=0)", "p1.png"] for label in ("fgsm", "noise")]
    assert iqarena("export", run, "--out", out, "--attack", "noise(eps=8/255)").code == 0
    more = pd.read_csv(out / "adversarials.csv")
    assert set(table["file"]) < set(more["file"]) == {path.name for path in out.glob("*.png")}, "a table of both"
    assert more["file"].is_unique
    for option, value, words in (
        ("--attack", "pgd", "has no adversarial images of attack 'pgd'; "),
        ("--attack", "fgms", "unknown attack 'fgms'; nearest: 'fgsm'"),
        ("--source", "toy_linear", "has no adversarial images of source 'toy_linear(seed=0)'; "),
        ("--image", "p3.png", "has no adversarial images of image 'p3.png'; nearest: "),
    ):
        answer = iqarena("export", run, "--out", out, option, value)
        assert (answer.code, words in answer.err, answer.err.count("\n")) == (2, True, 1), answer.err
    answer = iqarena("export", tmp_path, "--out", out)
    assert (answer.code, "expected a run folder" in answer.err) == (2, True)


def test_an_image_that_cannot_be_had_again_is_named_and_the_others_are_written(
    short: Path, photos: Path, tmp_path: Path, iqarena: Cli
) -> None:
    run, out = tmp_path / "run", tmp_path / "images"
    assert iqarena("run", short, "--out", run).code == 0
    paint(photos / "p1.png", 99)
    answer = iqarena("export", run, "--out", out, "--attack", "fgsm")
    assert answer.code == 3
    assert f"{SOURCES} of {2 * SOURCES} adversarial images are in" in answer.out
    assert "fgsm on p1.png: p1.png in folder(path=" in answer.out
    assert "has other pixels than the image of the run" in answer.out
    table = pd.read_csv(out / "adversarials.csv", keep_default_na=False)
    assert ((table["file"] == "") == (table["image"] == "p1.png")).all()


def test_what_was_written_before_an_export_was_stopped_is_in_its_table(
    short: Path, tmp_path: Path, iqarena: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tmp_path / "run", tmp_path / "images"
    assert iqarena("run", short, "--out", run).code == 0
    attempts: list[Any] = []

    def stopped(*args: Any) -> Any:
        attempts.append(args)
        if len(attempts) == 3:
            raise KeyboardInterrupt
        if len(attempts) == 2:
            raise SystemExit
        return attack_images(*args)

    monkeypatch.setattr(module, "attack_images", stopped)
    with pytest.raises(KeyboardInterrupt):
        module.export(Store(run), out)
    table = pd.read_csv(out / "adversarials.csv", keep_default_na=False)
    assert [file != "" for file in table["file"]] == [True, False]
    assert table["message"][1].startswith("SystemExit")
    assert len(list(out.glob("*.png"))) == 1


# ---- merge


def test_shards_of_two_machines_are_one_run(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    full = Store(tmp_path / "whole")
    assert iqarena("run", suite, "--out", full.folder).code == 0
    for i in (1, 2):
        keep = ["--set", "keep=adversarials"]
        assert iqarena("run", suite, "--out", tmp_path / f"s{i}", "--shard", f"{i}/2", *keep).code == 3
    merged = Store(tmp_path / "merged")
    answer = iqarena("merge", tmp_path / "s1", tmp_path / "s2", "--out", merged.folder)
    assert answer.code == 0, answer.err
    assert f"{ROWS * IMAGES} of {ROWS * IMAGES} rows are in {merged.folder}" in answer.out
    assert_frame_equal(numbers(merged), numbers(full), check_exact=True)
    assert pairs(merged) == pairs(full)
    ours, theirs = merged.manifest(), full.manifest()
    assert ours.finished
    assert ours.gradients == theirs.gradients
    assert (ours.planned, ours.rows, ours.attacks, ours.models) == (
        theirs.planned, theirs.rows, theirs.attacks, theirs.models
    )  # fmt: skip
    assert sorted(ours.images, key=lambda image: image.id) == sorted(theirs.images, key=lambda image: image.id)
    assert len(files(merged.folder, "adversarials/*/*.zip")) == ATTACKS * SOURCES * IMAGES
    before = files(merged.folder, "rows/*")
    assert iqarena("run", suite, "--out", merged.folder).code == 0
    assert files(merged.folder, "rows/*") == before, "nothing is missing"


def test_runs_of_different_attacks_are_one_leaderboard_and_what_one_lacks_is_counted(
    short: Path, tmp_path: Path, iqarena: Cli
) -> None:
    for name, attacks in (("a", '["noise", "fgsm"]'), ("b", '["fgsm", "i_fgsm(steps=2)"]')):
        options = ["--set", f"attacks={attacks}"]
        assert iqarena("run", short, "--out", tmp_path / name, *options).code == 0
    Store(tmp_path / "b").replace("p1.png", [])
    answer = iqarena("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c")
    assert answer.code == 3, answer.err
    merged = Store(tmp_path / "c").manifest()
    assert [a.label for a in merged.attacks] == ["noise", "fgsm", "i_fgsm(steps=2)"]
    assert (merged.planned, merged.finished) == (3 * 2 * 7, None)
    assert f"{5 * 7} of {6 * 7} rows are in" in answer.out


@pytest.mark.parametrize(("kind", "name"), [(Model, "toy_curved"), (Attack, "fgsm")])
def test_results_of_other_weights_or_code_are_not_joined_though_no_row_is_in_both(
    short: Path, tmp_path: Path, iqarena: Cli, monkeypatch: pytest.MonkeyPatch, kind: type[Plugin], name: str
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for i, folder in enumerate(folders, 1):
        monkeypatch.setattr(kind, "version", i)
        options = ["--set", 'attacks=["fgsm"]', "--shard", f"{i}/2"]
        assert iqarena("run", short, "--out", folder, *options).code == 3
    answer = iqarena("merge", *folders, "--out", tmp_path / "c")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert f"{folders[0]} and {folders[1]} disagree on {name}: other weights, code or versions; " in answer.err
    assert not (tmp_path / "c").exists()
    store = Store(folders[0])
    store.replace("p0.png", [{**row, "status": "error"} for row in store.stored("p0.png")])
    answer = iqarena("merge", *folders, "--out", tmp_path / "c")
    assert f"14 of 14 rows are in {tmp_path / 'c'}" in answer.out, "those that failed hold no numbers"


def test_results_of_other_pixels_are_not_joined_though_no_row_is_in_both(
    short: Path, photos: Path, tmp_path: Path, iqarena: Cli
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, attack in zip(folders, ("fgsm", "noise"), strict=True):
        assert iqarena("run", short, "--out", folder, "--set", f'attacks=["{attack}"]').code == 0
        paint(photos / "p1.png", 99)
    answer = iqarena("merge", *folders, "--out", tmp_path / "c")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert f"{folders[0]} and {folders[1]} disagree on image p1.png: other pixels; " in answer.err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("column", "value", "what"), [("mos", 3.5, "another opinion score"), ("cluster", "p0", "another reference image")]
)
def test_an_image_is_the_same_in_all_that_is_joined(
    short: Path, tmp_path: Path, iqarena: Cli, column: str, value: object, what: str
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        assert iqarena("run", short, "--out", folder, "--set", 'attacks=["fgsm"]').code == 0
    store = Store(folders[1])
    store.replace("p1.png", [{**row, column: value} for row in store.stored("p1.png")])
    answer = iqarena("merge", *folders, "--out", tmp_path / "c")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert f"{folders[0]} and {folders[1]} disagree on image p1.png: {what}; " in answer.err
    assert not (tmp_path / "c").exists()


def test_runs_that_do_not_go_together_are_refused_in_one_line(short: Path, tmp_path: Path, iqarena: Cli) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    options: list[Any] = ["--set", 'attacks=["fgsm"]']
    assert iqarena("run", short, "--out", a, *options).code == 0
    assert iqarena("run", short, "--out", b, *options, "--seed", 1).code == 0

    def refused(*words: str) -> None:
        answer = iqarena("merge", a, b, "--out", tmp_path / "c")
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        for word in words:
            assert word in answer.err
        assert not (tmp_path / "c").exists()

    refused(f"{a} and {b} are runs of different settings: seed: 0 in the first, 1 in the second")
    assert iqarena("run", short, "--out", b, *options, "--overwrite", "always").code == 0
    store = Store(b)
    rows = store.stored("p1.png")
    store.replace("p1.png", [{**rows[0], "score_adv": 12.5}, *rows[1:]])
    refused(f"{a} and {b} disagree on fgsm(eps=8/255) from ", "p1.png: score_adv is", "and 12.5")
    store.replace("p1.png", [{**rows[0], "key": "other"}, *rows[1:]])
    refused("made with other pixels, weights or versions")
    store.replace("p1.png", [{**rows[0], "status": "error", "message": "once"}, {**rows[1], "score_float": np.nan}])
    assert iqarena("merge", a, b, "--out", tmp_path / "c").code == 0
    assert_frame_equal(numbers(Store(tmp_path / "c")), numbers(Store(a)), check_exact=True)
    answer = iqarena("merge", a, b, "--out", tmp_path / "c")
    assert (answer.code, "already holds a run; choose another --out" in answer.err) == (2, True)
    store.write_manifest(replace(store.manifest(), device="some GPU"))
    os.rename(tmp_path / "c", tmp_path / "d")
    refused('device: "cpu" in the first, "GPU" in the second')
