"""``fetch data``, ``--images`` and ``plan`` with databases that are there, half there or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fakesets
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from fakesets import FAKES
from toyruns import Answer

from iqarena.api import Model, WeightsError
from iqarena.engine.scorer import Scorer
from iqarena.images.sets.clive import Clive
from iqarena.images.sets.koniq10k import TABLE, Koniq10k
from iqarena.store.folder import Store
from iqarena.suite.file import load_suite
from iqarena.suite.plan import resolve
from iqarena.tools import forecast as cost

Cli = Callable[..., Answer]
PUBLISHED = """# Toy scorers on a database.
images = {{ set = "{name}", crop = 24 }}
targets = ["toy_curved", "toy_linear", "toy_step"]
attacks = ["identity", "fgsm"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``$IQARENA_DATA``, empty."""
    monkeypatch.setenv("IQARENA_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    path = tmp_path / "toys.toml"
    path.write_text(PUBLISHED.format(name="clive"))
    return path


def chosen(suite: Path | str, wish: str) -> object:
    return load_suite(str(suite), images=wish).images


# fetch data


def test_all_sets_are_listed_with_what_is_here(iqarena: Cli, here: Path) -> None:
    fakesets.kadid10k(here / "kadid10k")
    fakesets.clive(here / "clive", tests=0)
    answer = iqarena("fetch", "data")
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert set(FAKES) <= set(lines)
    assert lines["kadid10k"].endswith("4 images of 10125 in split all")
    assert lines["clive"].endswith("names none for split=test; valid: 'training'")
    assert lines["csiq"].endswith(" no")


@pytest.mark.parametrize("name", FAKES)
def test_one_set_with_its_terms_and_place(iqarena: Cli, here: Path, name: str) -> None:
    answer = iqarena("fetch", "data", name)
    assert answer.code == 0
    for word in ("had from", "terms", "put it in", str(here / name), f"iqarena fetch data {name} --verify"):
        assert word in answer.out


def test_a_whole_copy_is_verified(iqarena: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clive, "splits", {"test": 4, "training": 7})
    monkeypatch.setattr(Clive, "sha256", {})
    fakesets.clive(tmp_path / "copy")
    answer = iqarena("fetch", "data", "clive", "--verify", "--path", tmp_path / "copy")
    assert answer.code == 0
    assert [line[:4] for line in answer.out.splitlines()] == ["ok  "] * 5
    assert "split test: 4 of 4 decode" in answer.out


def test_everything_that_is_wrong_with_a_copy_is_named(iqarena: Cli, here: Path) -> None:
    fakesets.koniq10k(here / "koniq10k")
    images = here / "koniq10k" / "512x384"
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:300])
    fakesets.paint(images / "3.jpg", 0, (40, 30))
    (images / "2.jpg").unlink()
    answer = iqarena("fetch", "data", "koniq10k", "--verify")
    assert answer.code == 3
    lines = [line.removeprefix("FAIL  ") for line in answer.out.splitlines() if line.startswith("FAIL")]
    expected = Koniq10k.sha256[TABLE][:8]
    assert lines[0].startswith(f"{TABLE}: sha256 {expected}… expected, found ")
    assert lines[1] == "split test: 2015 images expected, found 3, each with a score"
    assert lines[2].startswith("split test: 1 of 3 decode and are 512×384: ")
    assert "1.jpg: expected an 8-bit grey or RGB image" in lines[2]
    assert "3.jpg: expected 512×384 pixels as published, found 40×30" in lines[2]
    assert "expected 1 images of koniq10k, 1 are missing: 512x384/2.jpg" in lines[3]
    assert lines[4] == "split training: 7058 images expected, found 2, each with a score"
    assert len(lines) == 5


def test_a_copy_that_is_not_there_fails_at_once(iqarena: Cli) -> None:
    answer = iqarena("fetch", "data", "spaq", "--verify")
    assert answer.code == 3
    assert len(answer.out.splitlines()) == 1
    assert "https://github.com/h4nwei/SPAQ" in answer.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data", "koniq"], "unknown image set 'koniq'; nearest: 'koniq10k'"),
        (["data", "pocket"], "unknown image set 'pocket'"),
        (["data", "--verify"], "--verify and --path need the NAME of an image set"),
    ],
)
def test_mistakes(iqarena: Cli, arguments: list[str], expected: str) -> None:
    answer = iqarena("fetch", *arguments)
    assert answer.code == 2
    assert expected in answer.err
    assert len(answer.err.splitlines()) == 1


# --images


def test_a_place_is_where_the_suites_own_database_lies(toys: Path, tmp_path: Path) -> None:
    assert chosen(toys, "/there") == {"set": "clive", "crop": 24, "path": "/there"}
    toys.write_text(toys.read_text().replace('{ set = "clive", crop = 24 }', '"koniq10k(split=all, width=1024)"'))
    assert chosen(toys, "/there") == {"set": "koniq10k", "split": "all", "width": 1024, "path": "/there"}
    plan = resolve(load_suite(str(toys), images="/there"))
    assert repr(plan.images) == "koniq10k(path=/there, split=all, crop=none, width=1024)"


def test_a_place_is_a_folder_of_images_for_every_other_suite(suite: Path, toys: Path) -> None:
    assert chosen("pocket", "/there") == {"set": "folder", "path": "/there"}
    assert chosen(suite, "/there") == {"set": "folder", "path": "/there"}
    toys.write_text(toys.read_text().replace("images", "# images"))
    assert chosen(toys, "/there") == {"set": "folder", "path": "/there"}


@pytest.mark.parametrize("csv", ["biq2021_dev/mos.csv", "biq2021_dev/images/mos.csv"])
def test_a_place_laid_out_as_the_suites_own_folder_stands_in_for_it(suite: Path, tmp_path: Path, csv: str) -> None:
    own = {"set": "folder", "path": "biq2021_dev/images", "csv": csv, "split": "val", "crop": 24, "order": "table"}
    place = tmp_path / "elsewhere"
    inside = place / "images" if csv == "biq2021_dev/mos.csv" else place
    inside.mkdir(parents=True)
    (place / "mos.csv").touch()
    found = load_suite(str(suite), {"images": own}, str(place)).images
    assert found == {**own, "path": str(inside), "csv": str(place / "mos.csv")}


def test_any_other_place_is_a_folder_of_images_alone_cropped_as_the_suites(
    iqarena: Cli, suite: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"images": {"path": "a/images", "csv": "a/mos.csv", "split": "val", "crop": 24}}
    assert load_suite(str(suite), keys, "/nowhere").images == {"set": "folder", "path": "/nowhere", "crop": 24}
    assert not caplog.messages, "the line that it is not there is enough"
    images = '{path = "a/images", csv = "a/mos.csv", split = "val", crop = 24}'
    assert "5 images" in iqarena("plan", suite, "--images", photos, "--set", f"images={images}").out
    (line,) = caplog.messages
    assert f"--images: {photos} is a folder of images alone, without the suite's csv, split; for these name" in line
    assert line.endswith("a folder that has images and mos.csv in it")


def test_no_place_is_a_mistake(iqarena: Cli, toys: Path) -> None:
    answer = iqarena("plan", toys, "--images", "")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("iqarena: images: expected a folder or an image set, found ''")


def test_a_name_is_another_set(toys: Path) -> None:
    assert chosen(toys, "koniq10k(width=1024)") == "koniq10k(width=1024)"
    assert chosen("pocket", "clive") == "clive"
    assert chosen(toys, "./clive") == {"set": "clive", "crop": 24, "path": "./clive"}


def test_a_run_on_a_database(iqarena: Cli, toys: Path, here: Path, tmp_path: Path) -> None:
    fakesets.clive(here / "clive", tests=6)
    answer = iqarena("run", toys, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    store = Store(tmp_path / "run")
    rows = store.rows()
    assert set(rows["image"]) == {f"{i}.bmp" for i in range(3, 9)}
    assert sorted(set(rows["mos"])) == [17.0 + i for i in range(6)]
    assert store.manifest().image_set == "clive(crop=24)"
    pairs = pd.read_csv(tmp_path / "run" / "pairs.csv").set_index(["attack", "source", "target"]).to_dict("index")
    attacked = rows[rows["attack_label"] == "fgsm"]
    for place, own in attacked.groupby(["attack", "source", "target"]):
        for prefix, truth in (("", own["score_clean"]), ("mos_", own["mos"])):
            for measure, how in (("srocc", scipy.stats.spearmanr), ("krocc", scipy.stats.kendalltau)):
                expected, _ = how(truth, own["score_adv"])
                assert pairs[place][prefix + measure] == pytest.approx(expected, abs=1e-5, nan_ok=True)
        assert pairs[place]["mos_mae"] == pytest.approx((own["mos"] - own["score_adv"]).abs().mean(), rel=1e-4)


def test_a_crop_is_another_result(iqarena: Cli, toys: Path, here: Path, tmp_path: Path) -> None:
    fakesets.clive(here / "clive")
    assert iqarena("run", toys, "--out", tmp_path / "run").code == 0
    full = iqarena("run", toys, "--images", "clive", "--out", tmp_path / "run")
    assert full.code == 2
    assert "holds another run" in full.err
    assert iqarena("run", toys, "--images", "clive", "--out", tmp_path / "whole").code == 0
    keys = [set(Store(tmp_path / name).rows()["key"]) for name in ("run", "whole")]
    assert not keys[0] & keys[1]


def test_a_run_without_its_database_says_in_one_line_where_it_is_had(iqarena: Cli, toys: Path, here: Path) -> None:
    answer = iqarena("run", toys)
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    for words in (f"{here / 'clive'}: expected clive with", Clive.home, "--images", "iqarena fetch data clive"):
        assert words in line


# plan


def test_plan_counts_a_database_that_is_not_here_as_published(iqarena: Cli, toys: Path) -> None:
    answer = iqarena("plan", toys, "--device", "cpu")
    assert answer.code == 0, answer.err
    assert "suite toys: 1162 images × 2 attacks × 7 pairs × 1 repeats = 16268 rows" in answer.out
    assert "timed on one of 24×24" in answer.out
    assert f"missing: {Clive(crop=24).folder}: expected clive" in answer.out
    assert "suite toys: 5 images" in iqarena("plan", toys, "--limit", 5).out


def test_plan_of_a_database_that_is_here_misses_nothing(iqarena: Cli, toys: Path, here: Path) -> None:
    fakesets.clive(here / "clive")
    answer = iqarena("plan", toys)
    assert "suite toys: 4 images" in answer.out
    assert "minutes on" in answer.out
    assert "missing" not in answer.out


def test_plan_names_weights_that_are_not_here(iqarena: Cli, suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"toy_step"}

    def scorer(model: Model, *arguments: str) -> Scorer:
        if model.name in absent:
            raise WeightsError("toy.pth: expected weights, found nothing there")
        return Scorer(model, *arguments)

    monkeypatch.setattr(cost, "Scorer", scorer)
    answer = iqarena("plan", suite)
    assert answer.code == 0
    assert "minutes for 2 of 3 models on" in answer.out
    assert "missing: toy_step: toy.pth: expected weights, found nothing there" in answer.out
    counts = [line.split() for line in answer.out.splitlines() if line.startswith("toy_step")]
    assert counts == [["toy_step", "215", "0", "?", "?", "?"]]
    absent.add("toy_curved")
    assert "no model is here to be timed" in iqarena("plan", suite).out


def test_plan_of_a_folder_that_is_not_there_is_a_mistake(iqarena: Cli, suite: Path) -> None:
    answer = iqarena("plan", suite, "--images", "/nowhere/at/all")
    assert answer.code == 2
    assert "expected a folder of images" in answer.err


@pytest.mark.parametrize(("seconds", "message"), [(90, "1.5 minutes"), (7100, "118.3 minutes"), (9000, "2.5 hours")])
def test_durations(seconds: float, message: str) -> None:
    assert cost._duration(seconds) == message


@pytest.mark.parametrize(("name", "count"), [("clive", 1162), ("koniq", 2015)])
def test_the_published_suites_ask_for_segas_protocol(name: str, count: int) -> None:
    toys = {"targets": ["toy_curved", "toy_curved(seed=1)", "toy_curved(seed=2)", "toy_linear"]}
    assert load_suite(name).targets == ["hyperiqa", "dbcnn", "linearityiqa", "liqe"]
    plan = resolve(load_suite(name, toys))
    assert len(plan.sources) == 4 + 4, "each, and all but one for each"
    assert {source.relation(target) for source in plan.sources for target in plan.scored(source)} == {
        "whitebox", "transfer", "ensemble_holdout"
    }  # fmt: skip
    assert (getattr(plan.images, "published", 0), getattr(plan.images, "crop", 0)) == (count, 224)
    assert np.isfinite(sum(plan.gradients().values()))
