"""The command line: what it shows, what it writes, and that a report needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toyruns import ATTACKS, ROWS, Answer, files, paint

from iqarena.files.weights import OFFLINE, WEIGHTS_DIR
from iqarena.registry import tables as registry
from iqarena.registry.tables import build_attack
from iqarena.store.folder import Store
from iqarena.store.manifest import RowCounts

Cli = Callable[..., Answer]


@pytest.mark.parametrize("kind", ["attacks", "filters", "models", "imagesets", "suites"])
def test_list_has_a_line_for_every_plugin(iqarena: Cli, kind: str) -> None:
    answer = iqarena("list", kind)
    assert answer.code == 0
    lines = answer.out.splitlines()[2:]
    assert kind == "suites" or {line.split()[0] for line in lines if line} >= set(registry.names(kind[:-1]))
    assert all(len(line.split()) > 3 for line in lines if line), "each says what it is"
    everything = iqarena("list").out
    assert answer.out in everything or (kind == "models" and all(n in everything for n in registry.names("model")))


def test_the_zoo_has_five_descriptions(iqarena: Cli) -> None:
    lines = [line for line in iqarena("list").out.splitlines() if "zoo.scorers" in line]
    assert len({line.partition("  ")[2] for line in lines}) == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sega", ["attack sega", "sega(eps=8/255, steps=1, ", "reconstructed: ", "2509.18546", "@article{sega"]),
        ("folder", ["imageset folder", "folder(path=…, csv=none, split=none, crop=none, order=name)"]),
        ("jnd", ["filter jnd", "jnd(threshold=6)"]),
        ("none", ["filter none"]),
        ("cnn", ["model cnn", '"sha256": "', '"validation_srocc": ']),
        ("pocket", ["imageset pocket"]),
    ],
)
def test_describe(iqarena: Cli, name: str, words: list[str]) -> None:
    answer = iqarena("describe", name)
    assert answer.code == 0
    assert [word for word in words if word not in answer.out] == []


def test_every_plugin_can_be_described(iqarena: Cli) -> None:
    shipped = {"cnn", "vit"} | set(registry.names("attack")) | set(registry.names("filter"))
    assert [name for name in shipped if iqarena("describe", name).code] == []


def test_cite(iqarena: Cli) -> None:
    answer = iqarena("cite", "pgd", "fgsm")
    assert answer.code == 0
    assert answer.out.count("@inproceedings{") == 2
    assert "@" in iqarena("cite", "gradient_norm").out, "a defense has a paper as well"
    assert "unknown plugin 'pdg'; nearest: 'pgd'" in iqarena("cite", "pdg").err


def test_a_run_ends_with_tables_and_the_place_of_the_files(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    answer = iqarena("run", suite, "--out", out)
    assert answer.code == 0
    for words in ("Attacks: ", "Models: ", "sega(samples=2)", f"{5 * ROWS} of {5 * ROWS} planned rows", f"In {out}: "):
        assert words in answer.out
    files_are = f"In {out}: index.html (start here), leaderboard.md, leaderboard_*.csv, pairs.csv"
    assert answer.out.rstrip().splitlines()[-1] == f"{files_are}, gallery/, rows/"
    assert "toy: 100%" in answer.err
    there = set(files(out))
    for name in ("index.html", "leaderboard.md", "leaderboard_attacks.csv", "leaderboard_models.csv", "pairs.csv"):
        assert name in there
    index = json.loads((out / "gallery" / "gallery.json").read_text())
    assert len(index) == 3 * 4, "three images under the four attacks that change any"
    assert {f"gallery/{e[k]}" for e in index for k in ("clean", "adversarial")} <= there
    elsewhere = tmp_path / "elsewhere"
    assert iqarena("report", out, "--out", elsewhere).out.rstrip().endswith(files_are.replace(str(out), str(elsewhere)))


def test_the_manifest_says_what_was_run(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    iqarena("run", suite, "--out", tmp_path / "run", "--seed", 3, "--limit", 4)
    manifest = Store(tmp_path / "run").manifest()
    assert (manifest.suite, manifest.seed, manifest.planned) == ("toy", 3, 4 * ROWS)
    assert manifest.rows == RowCounts(ok=4 * ROWS, error=0)
    assert manifest.packages["torch"] == torch.__version__.partition("+")[0]
    assert [len(image.sha256) for image in manifest.images] == [64] * 4
    assert manifest.finished
    assert manifest.started <= manifest.finished
    assert (manifest.device, manifest.precision) == ("cpu", "fp32")
    assert manifest.reference == repr(build_attack("sega(samples=2)"))
    assert [attack.label for attack in manifest.attacks if attack.floor] == ["identity", "noise"]
    assert [attack.planned for attack in manifest.attacks] == [4 * ROWS // ATTACKS] * ATTACKS
    assert sum(model.planned for model in manifest.models.values()) == manifest.planned


def test_images_of_a_folder_replace_those_of_the_suite(iqarena: Cli, photos: Path, tmp_path: Path) -> None:
    suite = tmp_path / "s.toml"
    suite.write_text('images = "pocket"\ntargets = ["toy_linear", "toy_step"]\nattacks = ["fgsm"]\n')
    assert iqarena("run", suite, "--images", photos, "--out", tmp_path / "run").code == 0
    assert set(Store(tmp_path / "run").rows()["image"]) == {f"p{i}.png" for i in range(5)}


def test_set_overrides_a_key(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    settings = ["--set", 'attacks=["noise(eps=4/255)"]', "--set", "direction=raise", "--set", "repeats=2"]
    assert iqarena("run", suite, *settings, "--out", tmp_path / "run").code == 0
    rows = Store(tmp_path / "run").rows()
    assert set(rows["attack_label"]) == {"noise(eps=4/255)"}
    assert set(rows["direction"]) == {1.0}
    assert set(rows["repeat"]) == {0, 1}


def test_plan_says_what_a_run_would_be(iqarena: Cli, suite: Path) -> None:
    answer = iqarena("plan", suite, "--limit", 2)
    assert answer.code == 0
    assert f"2 images × 5 attacks × 7 pairs × 1 repeats = {2 * ROWS} rows" in answer.out
    assert "minutes on" in answer.out


def test_a_report_is_rebuilt_byte_for_byte_without_torch(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    assert iqarena("run", suite, "--out", tmp_path / "run").code == 0
    code = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, Without())
import iqarena.report.figures.plots as plots
plots.save = lambda *a, **k: None
from iqarena.cli import entry
entry(sys.argv[1:])
"""
    command = [sys.executable, "-c", code, "report", str(tmp_path / "run"), "--out", str(tmp_path / "again")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = files(tmp_path / "again")
    boards = ("leaderboard_attacks.csv", "leaderboard_models.csv", "leaderboard.md")
    assert set(built) == {*boards, "pairs.csv", "index.html"}
    assert {name: data for name, data in files(tmp_path / "run").items() if name in built} == built


def test_a_plugin_file_runs_beside_the_others(
    suite: Path, tmp_path: Path, iqarena: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_from_files", {kind: dict(known) for kind, known in registry._from_files.items()})
    own = tmp_path / "my_attack.py"
    own.write_text('''
from dataclasses import dataclass
from iqarena.api import Attack

@dataclass(frozen=True, kw_only=True, repr=False)
class Brighter(Attack):
    """One step towards white."""
    name = "brighter"
    access = "none"

    def perturb(self, x, source, streams):
        return x + self.eps
''')
    arguments = ["--plugin", own, "run", suite, "--set", 'attacks=["brighter", "noise"]', "--out", tmp_path / "run"]
    assert iqarena(*arguments).code == 0
    assert set(Store(tmp_path / "run").rows()["attack_label"]) == {"brighter", "noise"}


def test_doctor_names_what_is_wrong_and_goes_on(iqarena: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from iqarena_models.zoo import scorers

    monkeypatch.setattr(scorers, "WEIGHTS", tmp_path)
    scorers._facts.cache_clear()
    answer = iqarena("doctor")
    scorers._facts.cache_clear()
    assert answer.code == 3
    wrong = [line for line in answer.out.splitlines() if line.startswith("FAIL")]
    assert len(wrong) == 5
    assert all("found no such file; install iqarena again" in line for line in wrong)
    assert "ok    52 images of pocket(crop=96) decode" in answer.out


def test_score_says_what_the_api_says(iqarena: Cli, photos: Path) -> None:
    import iqarena as api

    images = [photos / "p0.png", photos / "p1.png"]
    command = ["score", *images, "--model", "toy_curved", "--model", "jpeg(quality=10)|toy_curved", "--device", "cpu"]
    answer = iqarena(*command, "--json")
    assert answer.code == 0
    for record, image in zip(json.loads(answer.out), images, strict=True):
        assert record["image"] == str(image)
        for name, score in record["scores"].items():
            assert score == api.scorer(name, device="cpu")(image)
    lines = iqarena(*command).out.splitlines()
    assert lines[0].split() == ["image", "toy_curved", "jpeg(quality=10)|toy_curved"]
    assert [line.split()[0] for line in lines[2:]] == [str(image) for image in images]


def test_score_names_an_image_that_has_no_score_and_scores_the_others(iqarena: Cli, photos: Path) -> None:
    one = paint(photos / "one.png", 0, (1, 1))
    models = ["--model", "toy_step", "--model", "toy_curved", "--device", "cpu"]
    command = ["score", photos / "p0.png", one, photos / "nowhere.png", photos / "p1.png", *models]
    answer = iqarena(*command, "--json")
    assert answer.code == 3
    known = [[score is not None for score in record["scores"].values()] for record in json.loads(answer.out)]
    assert known == [[True, True], [True, False], [False, False], [True, True]]
    absent, small = answer.err.splitlines()
    assert absent.startswith(f"iqarena: {photos / 'nowhere.png'}: expected an 8-bit")
    assert small.startswith(f"iqarena: {one}: toy_curved(seed=0) needs images of at least 16 pixels")
    assert iqarena(*command).out.splitlines()[4].split() == [str(photos / "nowhere.png"), "?", "?"]
    alone = iqarena("score", one, "--model", "toy_curved")
    assert (alone.code, alone.out, len(alone.err.splitlines())) == (2, "", 1), "nothing is scored"


def test_attack_stores_the_image_that_the_api_gives_and_says_what_it_did(
    iqarena: Cli, photos: Path, tmp_path: Path
) -> None:
    import iqarena as api

    sources = ["--source", "toy_curved", "--source", "toy_linear", "--target", "toy_step"]
    command = ["attack", photos / "p0.png", "--attack", "sega(samples=2)", *sources, "--out", tmp_path / "adv.png"]
    command += ["--seed", 3, "--device", "cpu"]
    answer = iqarena(*command, "--json")
    assert answer.code == 0, answer.err
    message = json.loads(answer.out)
    attack = api.attack("sega(samples=2)", sources=["toy_curved", "toy_linear"], seed=3, device="cpu")
    expected = np.asarray(attack(photos / "p0.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "adv.png")), expected)
    assert [row["scorer"] for row in message["scores"]] == ["toy_curved", "toy_linear", "toy_step"]
    for row in message["scores"]:
        scorer = api.scorer(row["scorer"], device="cpu")
        assert (row["clean"], row["adversarial"]) == (scorer(photos / "p0.png"), scorer(expected))
        assert row["change"] == row["adversarial"] - row["clean"]
    assert message["linf"] == pytest.approx(8 / 255)
    assert {**message["cost"], "seconds": 0} == {"images": 1, "gradients": 4, "scores": 0, "queries": 0, "seconds": 0}
    text = iqarena(*command).out
    assert "L∞ 8/255; 4 gradients, 0 scores, 0 queries" in text
    assert text.rstrip().endswith(f"In {tmp_path / 'adv.png'}")
    query = ["attack", photos / "p0.png", "--attack", "random_search(queries=5)", "--target", "toy_curved"]
    assert json.loads(iqarena(*query, "--out", tmp_path / "q.png", "--json").out)["cost"]["queries"] == 5


def test_what_goes_with_every_verb_stands_before_or_after_it(
    iqarena: Cli, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_from_files", {kind: dict(known) for kind, known in registry._from_files.items()})
    monkeypatch.setenv(OFFLINE, "")
    monkeypatch.setenv(WEIGHTS_DIR, "")
    plugin = tmp_path / "flat.py"
    plugin.write_text("""
from dataclasses import dataclass
from iqarena.api import Filter

@dataclass(frozen=True, kw_only=True, repr=False)
class Flat(Filter):
    name = "flat"

    def __call__(self, t, x, streams):
        return t
""")
    options = ["--plugin", plugin, "--weights-dir", tmp_path, "--offline", "--quiet", "--json"]
    for command in (["list", "filters", *options], [*options, "list", "filters"]):
        monkeypatch.setenv(OFFLINE, "")
        answer = iqarena(*command)
        assert answer.code == 0, answer.err
        assert "flat" in [one["name"] for one in json.loads(answer.out)["filters"]]
        assert (os.environ[OFFLINE], os.environ[WEIGHTS_DIR]) == ("1", str(tmp_path))
    for k, command in enumerate((["run", suite, "--quiet"], ["--quiet", "run", suite])):
        answer = iqarena(*command, "--limit", 1, "--out", tmp_path / str(k))
        assert (answer.code, answer.err) == (0, "")
    for command in (["cite", "fgms", "--debug"], ["--debug", "cite", "fgms"]):
        answer = iqarena(*command)
        assert answer.code == 2
        assert answer.err.startswith("Traceback (most recent call last):")
        assert "nearest: 'fgsm'" in answer.err.splitlines()[-1]
    for command in (["cite", "fgsm", "--json"], ["--json", "cite", "fgsm"], ["--json", "fetch", "data"]):
        answer = iqarena(*command)
        assert (answer.code, answer.out) == (2, "")
        assert "has nothing for a machine; leave it out" in answer.err


def test_what_a_machine_reads_of_a_run_is_its_boards(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    import iqarena as api

    message = json.loads(iqarena("run", suite, "--limit", 2, "--out", tmp_path / "run", "--json", "--quiet").out)
    assert (message["folder"], message["rows"], message["failed"], message["finished"]) == (
        str(tmp_path / "run"),
        2 * ROWS,
        0,
        True,
    )
    run = api.load(tmp_path / "run")
    assert [line["attack_label"] for line in message["attacks"]] == run.attacks["attack_label"].tolist()
    assert [line["aligned_sd"] for line in message["models"]] == pytest.approx(run.models["aligned_sd"].tolist())
    assert json.loads(iqarena("report", tmp_path / "run", "--json").out) == message
    checks = json.loads(iqarena("doctor", "--json").out)
    assert all(check["ok"] for check in checks)


@pytest.mark.parametrize(
    "command", ["--help", "-h", "score --help", "attack --help", "run --help", "train --help", "--version"]
)
def test_help_and_version(iqarena: Cli, command: str) -> None:
    answer = iqarena(*command.split())
    assert (answer.code, bool(answer.out), answer.err) == (0, True, "")


def test_no_command_shows_the_commands(iqarena: Cli) -> None:
    answer = iqarena()
    assert answer.code == 2
    assert "Usage: iqarena" in answer.err + answer.out
    assert "doctor" in answer.err + answer.out
