"""Mistakes: one line each, saying what was expected, what was found and the nearest valid value; exit code 2."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from toyruns import Answer, files, refused

from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena_models.zoo import scorers

Cli = Callable[..., Answer]


SETTINGS = [
    ('attacks=["fgms"]', "unknown attack 'fgms'; nearest: 'fgsm'"),
    ('attacks=["pgd(step=3)"]', "attack 'pgd' has no parameter 'step'; nearest: 'steps'"),
    ('attacks=["pgd(steps=3.5)"]', "expected a whole number, found 3.5"),
    ('attacks=["pgd(steps=0)"]', "expected steps ≥ 1, found 0"),
    ('attacks=["fgsm(eps=8)"]', "expected eps in [0, 1] (write 8/255), found 8"),
    ('attacks=["fgsm(eps=8/0)"]', "denominator 0"),
    ('attacks=["fgsm("]', "expected ')' in spec 'fgsm(', found the end"),
    ('attacks=["sega(mask=jdn)"]', "unknown filter 'jdn'; nearest: 'jnd'"),
    ('attacks=["fgsm", "fgsm(eps=8/255)"]', "attack fgsm(eps=8/255) is listed twice"),
    ("attacks=fgsm", "expected a list of specs such as ['a', 'b'] for 'attacks', found 'fgsm'"),
    ("attacks=[]", "expected the key 'attacks', found none"),
    ('targets=["toy_curvd"]', "unknown model 'toy_curvd'; nearest: 'toy_curved'"),
    ('sources=["ensemble(toy_curved)"]', "expected ensemble(a, b, …) of at least two models"),
    ('sources=["ensemble(toy_curved, toy_curved(seed=0))"]', "names a model twice"),
    ('sources=["toy_step"]', "toy_step has no gradient; use it as a target only"),
    ("sources=[]", "no source has a target"),
    ('reference="nose"', "unknown attack 'nose'; nearest: 'noise'"),
    ("direction=up", "expected mid, raise or lower for 'direction', found 'up'"),
    ("seed=-1", "expected a whole number ≥ 0 for 'seed', found -1"),
    ("repeats=1.5", "expected a whole number ≥ 1 for 'repeats', found 1.5"),
    ("repeats=true", "expected a whole number ≥ 1 for 'repeats', found True"),
    ('name="../up"', "expected a word that can name a folder for 'name'"),
    ("targts=[]", "unknown key 'targts'; nearest: 'targets'"),
    ("seed", "--set: expected key=value, found 'seed'"),
    ('images="pockt"', "unknown imageset 'pockt'; nearest: 'pocket'"),
    ("images=3", "expected a name or a table such as {path = 'photos'} for 'images', found 3"),
    ('images={pth="x"}', "image set 'folder' has no parameter 'pth'; nearest: 'path'"),
    ("images={path=3}", "image set 'folder': expected path of type str, found 3"),
    ('images={csv="x"}', "image set 'folder' needs path"),
    ('images={set="foldr", path="x"}', "unknown imageset 'foldr'; nearest: 'folder'"),
]


@pytest.mark.parametrize(("setting", "words"), SETTINGS, ids=[s[0] for s in SETTINGS])
def test_a_suite_key_that_is_wrong(iqarena: Cli, suite: Path, tmp_path: Path, setting: str, words: str) -> None:
    refused(iqarena("run", suite, "--out", tmp_path / "run", "--set", setting), words)
    assert not (tmp_path / "run").exists(), "nothing is made before all is understood"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("run", "Missing argument 'SUITE'; see: iqarena run --help"),
        ("rnu pocket", "unknown command 'rnu'; nearest: 'run'"),
        ("run pockett", "expected a suite name or a .toml file, found 'pockett'; nearest: 'pocket'; see: iqarena list"),
        ("run pocket --sed 1", "unknown option '--sed'; nearest: '--seed'"),
        ("run pocket -x", "unknown option '-x'; valid: "),
        ("run pocket extra", "unexpected extra argument"),
        ("run pocket --limit 0", "Invalid value for '--limit'"),
        ("run pocket --limit all", "'all' is not a valid integer"),
        ("run pocket --overwrite yes", "'missing', 'always', 'never'"),
        ("run pocket --shard 3/2", "--shard: expected I/N with 1 ≤ I ≤ N, found '3/2'"),
        ("run pocket --shard half", "--shard: expected I/N with 1 ≤ I ≤ N, found 'half'"),
        ("run pocket --device gpu", "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        ("run pocket --device cuda:99", "device cuda:99: torch sees "),
        *(
            (f"{verb} --out=", "--out: expected a folder, found ''; write . for ")
            for verb in ("run pocket", "report nowhere", "merge a", "export a", "train cnn --data .")
        ),
        ("list atacks", "unknown kind 'atacks'; nearest: 'attacks'"),
        ("describe segaa", "unknown plugin 'segaa'; nearest: 'sega'"),
        ("cite identity", "attack 'identity' has no paper to cite"),
        ("cite pgdd", "unknown attack 'pgdd'; nearest: 'pgd'"),
        ("train cn --data .", "no training for 'cn'; nearest: 'cnn'"),
        ("train cnn --data x", "--data: expected a folder with images/ and mos.csv, found no folder x"),
        ("train cnn", "Missing option '--data'"),
        ("report nowhere", "nowhere: expected a run folder, found no manifest.json in it; see: iqarena run pocket"),
        ("--plugin nowhere.py list", "--plugin: expected a Python file, found no nowhere.py"),
        ("list --plugin nowhere.py", "--plugin: expected a Python file, found no nowhere.py"),
        ("list --weights-dir nowhere", "--weights-dir: expected a folder, found no nowhere"),
        ("score", "Missing argument 'IMAGES...'; see: iqarena score --help"),
        ("score a.png", "Missing option '--model'"),
        ("score a.png --model hypr", "unknown model 'hypr'; nearest: 'hyper'"),
        ("score nowhere.png --model toy_linear", "nowhere.png: expected an 8-bit grey or RGB image"),
        ("score a.png --model toy_linear --device gpu", "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        ("attack a.png --attack fgsm --source toy_linear", "Missing option '--out'"),
        ("attack a.png --attack fgms --source toy_linear --out b.png", "unknown attack 'fgms'; nearest: 'fgsm'"),
        ("attack a.png --attack fgsm --source toy_lin --out b.png", "unknown model 'toy_lin'; nearest: 'toy_linear'"),
        ("attack a.png --attack fgsm --source toy_step --out b.png", "toy_step has no gradient; use it as a target"),
        ("attack a.png --attack fgsm --target toy_linear --out b.png", "fgsm: expected sources, whose gradients"),
        ("attack a.png --attack nes --source toy_linear --out b.png", "nes: expected a target, whose scores it asks"),
        ("attack nowhere.png --attack fgsm --source toy_linear --out b.png", "nowhere.png: expected an 8-bit"),
        ("attack a.png --attack fgsm --source toy_linear --out b.jpg", "b.jpg: expected a name that ends in .png"),
        ("attack a.png --attack fgsm --source toy_linear --out no/b.png", "no/b.png: expected a file in a folder that"),
    ],
)
def test_an_argument_that_is_wrong(iqarena: Cli, arguments: str, words: str) -> None:
    refused(iqarena(*arguments.split()), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("attacks = [", "expected a TOML file"),
        ("\xff", "expected a TOML file"),
        ("", "expected the key 'images', found none"),
        ("x = " + "[" * 5000, "expected a TOML file"),
        ("seed = " + "9" * 5000, "expected a TOML file"),
    ],
    ids=["open", "latin-1", "empty", "deep", "long number"],
)
def test_a_suite_file_that_cannot_be_read(iqarena: Cli, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="latin-1")
    refused(iqarena("run", path), words)


def test_a_suite_file_whose_name_cannot_be_a_runs(iqarena: Cli, suite: Path) -> None:
    path = suite.rename(suite.with_name("both ü.toml"))
    words = "folder (left out, it is the file's name: write name = 'word' there) for 'name', found 'both ü'"
    refused(iqarena("plan", path), words)
    assert iqarena("plan", path, "--set", "name=both").code == 0


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000], ids=["deep", "long number"])
def test_a_setting_that_is_no_toml_is_a_word(iqarena: Cli, suite: Path, value: str) -> None:
    refused(iqarena("run", suite, "--set", f"seed={value}"), "expected a whole number ≥ 0 for 'seed'")


def test_a_file_name_that_is_not_utf8(iqarena: Cli, suite: Path, photos: Path, tmp_path: Path) -> None:
    odd = (photos / "p0.png").rename(photos / "\udcff.png")
    answer = iqarena("score", odd, "--model", "toy_linear")
    assert (answer.code, "\\udcff.png" in answer.out) == (0, True), "it is shown and scored"
    refused(iqarena("run", suite, "--out", tmp_path / "run"), "expected UTF-8 text as its id", "rename it")


@pytest.mark.parametrize("images", [3, ["a"], None])
def test_another_set_replaces_even_what_is_none(images: object) -> None:
    keys = {"images": images, "targets": ["toy_curved"], "attacks": ["fgsm"]}
    assert load_suite(keys, images="photos").images == {"set": "folder", "path": "photos"}


def test_a_bug_of_ours_is_not_mistaken_for_bad_input(
    iqarena: Cli, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scorers.ZooModel, "load", broken)
    with pytest.raises(ZeroDivisionError):
        iqarena("run", suite, "--set", 'targets=["cnn", "toy_step"]', "--out", tmp_path / "run")
    monkeypatch.setattr("iqarena.suite.plan.build_attack", broken)
    with pytest.raises(ZeroDivisionError):
        iqarena("run", suite, "--out", tmp_path / "run")


def test_a_folder_that_is_not_there_or_holds_no_images(iqarena: Cli, suite: Path, photos: Path) -> None:
    refused(iqarena("run", suite, "--images", photos.with_name("photo")), "found nothing there", "nearest: 'photos'")
    (photos / "inside").mkdir()
    refused(iqarena("run", suite, "--images", photos / "inside"), "expected images (.png, ", "found none")


def test_a_place_that_may_not_be_written(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(iqarena("run", suite, "--out", tmp_path / "file" / "run"), "cannot create", "Not a directory")
    refused(iqarena("run", suite, "--out", tmp_path / "file"), "cannot create", "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_adversarial_image_that_cannot_be_stored_costs_no_file(
    iqarena: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photos / "p0.png"
    before = files(photos)
    attack = ["attack", image, "--attack", "fgsm", "--source", "toy_linear", "--out"]
    refused(iqarena(*attack, image), "expected another place than the image itself")
    (photos / "folder.png").mkdir()
    refused(iqarena(*attack, photos / "folder.png"), "expected a file in a folder that is there, found a folder")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    (tmp_path / "old.png").write_text("earlier")
    monkeypatch.setattr(os, "fsync", full)
    refused(iqarena(*attack, tmp_path / "old.png"), f"cannot write {tmp_path / 'old.png'}: No space left on device")
    assert files(photos) == before
    assert (tmp_path / "old.png").read_text() == "earlier"
    assert not list(tmp_path.glob("*.part"))


def test_damage_in_a_run_folder_is_named_and_left_alone(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert iqarena("run", suite, "--out", out).code == 0
    path = sorted((out / "rows").iterdir())[2]
    path.write_bytes(b"PAR1 and then nothing")
    before = files(out)
    refused(iqarena("report", out), f"{path}: not a readable row file", "remove it and run again")
    refused(iqarena("run", suite, "--out", out), f"{path}: not a readable row file")
    assert files(out) == before
    path.unlink()
    assert iqarena("run", suite, "--out", out).code == 0
    assert (Store(out).rows()["status"] == "ok").all()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the zoo's weights that a test may spoil."""
    folder = tmp_path / "weights"
    shutil.copytree(scorers.WEIGHTS, folder)
    monkeypatch.setattr(scorers, "WEIGHTS", folder)
    scorers._facts.cache_clear()
    yield folder
    scorers._facts.cache_clear()


class Trap:
    """Unpickling this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("hash_fits", [False, True], ids=["wrong hash", "hash made to fit"])
def test_weights_that_are_a_pickle_are_never_unpickled(
    iqarena: Cli, suite: Path, weights: Path, tmp_path: Path, hash_fits: bool
) -> None:
    data = pickle.dumps(Trap(tmp_path / "sprung"))
    (weights / "cnn.safetensors").write_bytes(data)
    if hash_fits:
        facts = json.loads((weights / "cnn.json").read_text())
        (weights / "cnn.json").write_text(json.dumps(facts | {"sha256": hashlib.sha256(data).hexdigest()}))
    answer = iqarena("run", suite, "--set", 'targets=["cnn", "toy_step"]', "--out", tmp_path / "run")
    words = "expected safetensors of CnnNet" if hash_fits else "cnn.safetensors: expected sha256"
    refused(answer, words, "install iqarena again")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(data)
    assert (tmp_path / "sprung").exists(), "the trap works"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "cnn.safetensors").unlink(), "cnn.safetensors, found no such file"),
        (lambda folder: (folder / "cnn.json").unlink(), "cnn.json, found no such file"),
        (lambda folder: (folder / "cnn.json").write_text("{"), "cnn.json: expected JSON"),
        (lambda folder: shutil.copy(folder / "bilinear.safetensors", folder / "cnn.safetensors"), "expected sha256"),
    ],
)
def test_weights_that_are_missing_or_others(
    iqarena: Cli, suite: Path, weights: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(weights)
    refused(iqarena("run", suite, "--set", 'targets=["cnn", "toy_step"]', "--out", tmp_path / "run"), words)


def test_training_data_that_is_wrong(iqarena: Cli, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    train = ["train", "cnn", "--data", data, "--out", tmp_path / "out" / "cnn"]
    refused(iqarena(*train), f"expected {data / 'mos.csv'} with columns image, mos, split; found no such file")
    (data / "mos.csv").write_text("")
    refused(iqarena(*train), "mos.csv: expected a csv with columns image, mos, split")
    (data / "mos.csv").write_text("image,mos,split\na.png,,train\n")
    refused(iqarena(*train), "1 images without an opinion score, the first is a.png")
    (data / "mos.csv").write_text("image,mos,split\na.png,0.5,train\n")
    refused(iqarena(*train), "1 images of mos.csv are missing, the first is a.png")
    rows = [f"{i}.png,{i},{'train' if i < 8 else 'val'}" for i in range(12)]
    (data / "mos.csv").write_text("\n".join(["image,mos,split", *rows]))
    for i in range(12):
        cv2.imwrite(str(data / "images" / f"{i}.png"), np.full((64, 64, 3), 20 * i, np.uint8))
    (data / "images" / "7.png").write_bytes(b"no image")
    answer = iqarena(*train)
    assert answer.code == 2
    assert "7.png: expected an 8-bit grey or RGB image" in answer.err.strip().splitlines()[-1]
    assert not (tmp_path / "out" / "cnn" / "cnn.safetensors").exists()
