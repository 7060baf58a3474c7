"""``iqarena.run`` and ``load``: suites as names, files and dictionaries; frames; the command line says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toyruns import ROWS, Answer, files

import iqarena
from iqarena.client.run import resolved
from iqarena.errors import IqarenaError, SpecError, StoreError
from iqarena.registry.tables import build_attack, build_model
from iqarena.report.pairs import tidy
from iqarena.testing.toys import LinearNet

Cli = Callable[..., Answer]
FRAMES = {"pairs": "pairs.csv", "attacks": "leaderboard_attacks.csv", "models": "leaderboard_models.csv"}


def keys(photos: Path) -> dict[str, Any]:
    return {
        "images": {"path": str(photos)},
        "targets": ["toy_curved", "toy_step"],
        "attacks": ["noise", "fgsm"],
    }


def without_times(path: Path) -> str:
    return pd.read_csv(path, dtype=str).drop(columns="seconds", errors="ignore").to_csv()


def test_frames_are_the_tables_that_the_command_line_writes(iqarena: Cli, suite: Path, tmp_path: Path) -> None:
    import iqarena as api

    assert iqarena("run", suite, "--out", tmp_path / "shell", "--limit", 2, "--quiet").code == 0
    run = api.run(suite, tmp_path / "python", limit=2, progress=False)
    assert (run.folder, len(run.rows), len(run.failed), run.finished) == (tmp_path / "python", 2 * ROWS, 0, True)
    derived = {"index.html", "leaderboard.md", "report.json", *FRAMES.values()}
    assert set(files(tmp_path / "shell")) - set(files(run.folder)) == derived, "tables are made when they are wanted"
    text = run.report()
    assert "Attacks: " in text
    for name, file in FRAMES.items():
        tidy(getattr(run, name)).to_csv(tmp_path / file, index=False, float_format="%.6g", lineterminator="\n")
        frame, written, shell = (without_times(folder / file) for folder in (tmp_path, run.folder, tmp_path / "shell"))
        assert frame == written == shell
    assert run.manifest.command == f"iqarena.run({suite!r})"
    assert run.compare("fgsm", "noise").startswith("fgsm against noise: ")
    assert run.compare("fgsm").startswith("fgsm against sega("), "the suite's reference"
    stored = api.load(str(run.folder))
    pd.testing.assert_frame_equal(stored.pairs, run.pairs)


def test_objects_stand_where_specs_do() -> None:
    scorer = iqarena.scorer("jpeg(quality=10)|toy_curved", device="cpu")
    objects = {
        "images": "pocket",
        "targets": [scorer, build_model("toy_step"), "toy_linear"],
        "sources": (iqarena.scorer("toy_curved", device="cpu"),),
        "attacks": [iqarena.attack("mi_fgsm(steps=2)", sources="toy_curved", device="cpu"), build_attack("fgsm")],
    }
    specs = {
        "images": "pocket", "targets": ["jpeg(quality=10)|toy_curved", "toy_step", "toy_linear"],
        "sources": ["toy_curved"], "attacks": ["mi_fgsm(steps=2)", "fgsm"],
    }  # fmt: skip
    plan, expected = resolved(objects, {"reference": build_attack("fgsm")}), resolved(specs, {"reference": "fgsm"})
    assert (plan.targets, plan.sources, plan.attacks, plan.reference) == (
        expected.targets, expected.sources, expected.attacks, expected.reference,
    )  # fmt: skip


@pytest.mark.parametrize("of", ["scorer", "module", "function", "attack"])
def test_an_object_without_a_registered_source_is_refused_in_one_line(of: str) -> None:
    net = LinearNet(0)
    thing = {"scorer": iqarena.scorer(net), "module": net, "function": len, "attack": build_attack("fgsm")}[of]
    with pytest.raises(SpecError, match="targets: expected a registered model, found ") as caught:
        resolved({"images": "pocket", "targets": ["toy_step", thing], "attacks": ["fgsm"]})
    assert "write it as a Model into a file and register that with" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match="attacks: expected a registered attack, found "):
        resolved({"images": "pocket", "targets": ["toy_step"], "attacks": [thing if of != "attack" else net]})
    with pytest.raises(IqarenaError, match="expected a list of specs such as"):
        resolved({"images": "pocket", "targets": [1], "attacks": ["fgsm"]})


def test_a_dictionary_is_a_suite(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = iqarena.run(keys(photos), limit=1, seed=4, settings={"direction": "raise"}, progress=False)
    assert run.folder == Path("results/runs/run")
    assert set(run.rows["attack_label"]) == {"noise", "fgsm"}
    assert set(run.rows["direction"]) == {1.0}
    assert (run.manifest.seed, run.manifest.suite) == (4, "run")
    named = iqarena.run({**keys(photos), "name": "other"}, limit=1, progress=False)
    assert named.folder == Path("results/runs/other")


def test_images_take_the_place_of_the_suite_s(photos: Path, tmp_path: Path) -> None:
    suite = {**keys(photos), "images": "pocket"}
    run = iqarena.run(suite, tmp_path / "run", images=photos, limit=2, workers=1, progress=False)
    assert set(run.rows["image"]) == {"p0.png", "p1.png"}


def test_progress_is_shown_unless_it_is_not_wanted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    iqarena.run(keys(photos), tmp_path / "a", limit=1)
    assert "run: 100%" in capsys.readouterr().err
    iqarena.run(keys(photos), tmp_path / "b", limit=1, progress=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_shard_is_unfinished_and_an_image_that_fails_costs_rows(photos: Path, tmp_path: Path) -> None:
    half = iqarena.run(keys(photos), tmp_path / "half", shard=(1, 2), progress=False)
    assert not half.finished
    assert half.rows["image"].nunique() == 3
    (photos / "p1.png").write_bytes(b"no image")
    run = iqarena.run(keys(photos), tmp_path / "run", limit=2, progress=False)
    assert set(run.failed["image"]) == {"p1.png"}
    assert run.failed["message"].str.contains("p1.png: expected an 8-bit").all()
    assert set(run.pairs["n_failed"]) == {1}


def test_what_a_shard_returns_has_what_the_others_add_while_nobody_has_looked(photos: Path, tmp_path: Path) -> None:
    first, second = (iqarena.run(keys(photos), tmp_path / "run", shard=(i, 2), progress=False) for i in (1, 2))
    assert first.finished
    assert len(first.rows) == len(second.rows) == first.manifest.planned


def changed(**keys_: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda suite: {**suite, **keys_}


BAD: list[tuple[Callable[[dict[str, Any]], Any], dict[str, Any], str]] = [
    (changed(targts=[]), {}, "suite given as keys: unknown key 'targts'; nearest: 'targets'"),
    (changed(targets=[]), {}, "suite given as keys: expected the key 'targets', found none"),
    (changed(attacks="fgsm"), {}, "expected a list of specs such as ['a', 'b'] for 'attacks', found 'fgsm'"),
    (changed(attacks=["fgms"]), {}, "unknown attack 'fgms'; nearest: 'fgsm'"),
    (lambda _: "pockett", {}, "expected a suite name or a .toml file, found 'pockett'; nearest: 'pocket'"),
    (dict, {"limit": 0}, "expected a whole number ≥ 1 for 'limit', found 0"),
    (dict, {"settings": {"sed": 1}}, "unknown key 'sed'; nearest: 'seed'"),
    (dict, {"device": "gpu"}, "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
    (dict, {"precision": "fp16"}, "unknown precision 'fp16'; nearest: 'bf16', 'fp32'"),
    (dict, {"overwrite": "yes"}, "unknown overwrite 'yes'; valid: 'always', 'missing', 'never'"),
    (dict, {"workers": 0}, "workers: expected a whole number ≥ 1, found 0"),
    (dict, {"workers": "2"}, "workers: expected a whole number ≥ 1, found '2'"),
    (dict, {"batch_size": 1.5}, "batch_size: expected a whole number ≥ 1, found 1.5"),
    (dict, {"settings": "a=1"}, "settings: expected a dictionary of suite keys such as {'seed': 1}, found 'a=1'"),
    (dict, {"device": 3}, "device: expected auto, cpu, cuda or cuda:N, found 3"),
    (dict, {"executor": 3}, "unknown executor 3; valid: 'local', 'ray'"),
    (dict, {"executor": "rey"}, "unknown executor 'rey'; nearest: 'ray'"),
    (dict, {"workers_kind": "fork"}, "unknown workers_kind 'fork'; valid: 'process', 'thread'"),
    (dict, {"executor": "ray", "workers_kind": "process"}, "workers_kind: it is for the executor 'local'"),
    (dict, {"ray_address": "auto"}, "ray_address: expected none without the executor 'ray', found 'auto'"),
    (
        dict,
        {"cell_timeout": 9},
        "cell_timeout: a thread cannot be stopped; use process workers: --workers-kind",
    ),
    (dict, {"cell_timeout": "9", "executor": "ray"}, "cell_timeout: expected seconds > 0, found '9'"),
    (dict, {"cell_timeout": 0, "executor": "ray"}, "cell_timeout: expected seconds > 0, found 0"),
    (dict, {"shard": (3, 2)}, "shard: expected (I, N) with 1 ≤ I ≤ N, found (3, 2)"),
    (dict, {"shard": "1/2"}, "shard: expected (I, N) with 1 ≤ I ≤ N, found '1/2'; for example (1, 2)"),
    (dict, {"shard": 3}, "shard: expected (I, N) with 1 ≤ I ≤ N, found 3"),
    (dict, {"shard": (1, 2), "overwrite": "always"}, "overwrite: 'always' removes what other shards have written;"),
    (dict, {"images": "nowhere"}, "nowhere: expected a folder of images, found nothing there"),
]


@pytest.mark.parametrize(("suite_of", "options", "words"), BAD, ids=[words[:40] for *_, words in BAD])
def test_a_mistake_is_one_line_and_leaves_nothing(
    photos: Path, tmp_path: Path, suite_of: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(IqarenaError) as error:
        iqarena.run(suite_of(keys(photos)), tmp_path / "run", **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_no_device_is_any_device(photos: Path, tmp_path: Path) -> None:
    assert iqarena.run(keys(photos), tmp_path / "run", limit=1, device=None, progress=False).complete


def test_a_run_without_rows_is_one_line_wherever_it_is_asked(photos: Path, tmp_path: Path) -> None:
    run = iqarena.run(keys(photos), tmp_path / "run", limit=1, progress=False)
    for path in (run.folder / "rows").iterdir():
        path.unlink()
    empty = iqarena.load(run.folder)
    asked: list[Callable[[], object]] = [lambda name=name: getattr(empty, name) for name in FRAMES]
    for ask in (*asked, lambda: empty.compare("fgsm", "noise"), empty.report):
        with pytest.raises(StoreError, match="expected rows to report on, found none; finish the run first"):
            ask()


def test_an_out_without_a_name_is_refused(photos: Path) -> None:
    with pytest.raises(IqarenaError, match="out: expected a folder, found ''"):
        iqarena.run(keys(photos), "", progress=False)


def test_a_folder_without_a_run_and_a_name_that_is_not_there(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"expected a run folder, found no manifest\.json in it"):
        iqarena.load(tmp_path)
    run = iqarena.run(keys(photos), tmp_path / "run", limit=1, progress=False)
    with pytest.raises(SpecError, match="this run has no attack 'fgms'; nearest: 'fgsm'"):
        run.compare("fgms", "noise")
    with pytest.raises(AttributeError, match="has no attribute 'runs'"):
        iqarena.runs  # noqa: B018


def test_no_room_takes_the_name_of_a_function() -> None:
    rooms = {path.name.removesuffix(".py") for path in Path(iqarena.__file__).parent.iterdir()}
    assert not rooms & set(iqarena.__all__)


def test_a_stored_run_is_read_without_torch(photos: Path, tmp_path: Path) -> None:
    iqarena.run(keys(photos), tmp_path / "run", limit=1, progress=False)
    code = """
import json, sys
import iqarena
assert {"attack", "load", "run", "scorer", "IqarenaError"} <= set(dir(iqarena))
run = iqarena.load(sys.argv[1])
print(json.dumps([len(run.rows), len(run.pairs), len(run.attacks), len(run.models), "torch" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [4, 4, 2, 2, False]
