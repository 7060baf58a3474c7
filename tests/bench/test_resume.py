"""Runs that were stopped, killed, started again or changed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from torch import Tensor
from toyruns import ROWS, Answer, files, numbers, paint, pairs, start

from iqarena.api import Attack
from iqarena.api.streams import Streams
from iqarena.engine.source import Source
from iqarena.registry.tables import build_attack
from iqarena.runner.driver import Options, run_plan
from iqarena.store.folder import Store
from iqarena.store.manifest import RowCounts
from iqarena.suite.file import load_suite
from iqarena.suite.plan import Plan, resolve

Cli = Callable[..., Answer]
IMAGES = 16  # enough to stop among them


def test_a_run_stopped_in_the_middle_goes_on_to_the_same_end(
    suite: Path, photos: Path, tmp_path: Path, iqarena: Cli
) -> None:
    """Killed, started again, stopped by ^C, and started once more."""
    for i in range(5, IMAGES):
        paint(photos / f"p{i:02}.png", i)
    cut, full = Store(tmp_path / "cut"), Store(tmp_path / "whole")

    def stop(how: signal.Signals, at: int) -> tuple[int, str]:
        """Exit code and words of a run stopped as soon as it has rows of ``at`` images."""
        process = start("run", suite, "--workers", "2", "--out", cut.folder)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and len(files(cut.folder, "rows/*.parquet")) < at:
            time.sleep(0.005)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
        assert at <= len(files(cut.folder, "rows/*.parquet")) < IMAGES, f"stopped too late or too early: {err}"
        assert cut.manifest().finished is None
        return process.returncode, err

    assert stop(signal.SIGKILL, 4)[0] == -signal.SIGKILL
    killed = cut.rows()
    code, err = stop(signal.SIGINT, 9)
    assert code == 3
    assert err.strip().splitlines()[-1].startswith("iqarena: stopped; what is stored stays")
    assert "Traceback" not in err
    before = {p: p.stat().st_mtime_ns for p in cut.rows_folder.glob("*.parquet")}
    kept = cut.rows()
    assert set(killed["key"]) < set(kept["key"])

    assert iqarena("run", suite, "--out", cut.folder, "--workers", 1).code == 0
    assert iqarena("run", suite, "--out", full.folder).code == 0
    assert_frame_equal(numbers(cut), numbers(full), check_exact=True)
    assert pairs(cut) == pairs(full)
    assert sorted(files(cut.folder, "rows/*.parquet")) == sorted(files(full.folder, "rows/*.parquet"))
    again = cut.rows().set_index("key").loc[kept["key"]]
    assert (again["seconds"].to_numpy() == kept["seconds"].to_numpy()).all(), "what was stored was not done again"
    finished = [p for p, image in zip(before, map(_image, before), strict=True) if sum(kept["image"] == image) == ROWS]
    assert len(finished) >= 1
    assert [p for p in finished if p.stat().st_mtime_ns != before[p]] == []


def _image(path: Path) -> str:
    return str(pd.read_parquet(path, columns=["image"])["image"].iloc[0])


def test_a_run_started_again_adds_nothing(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    first = iqarena("run", suite, "--out", tmp_path / "run")
    before = files(tmp_path / "run")
    second = iqarena("run", suite, "--out", tmp_path / "run", "--batch-size", 3)
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert files(tmp_path / "run") == before, "manifest and derived files included"


def test_nothing_is_evaluated_again(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    run_plan(plan, store, Options())
    store = Store(store.folder)
    scorers = run_plan(plan, store, Options(batch_size=2))
    assert store.written == 0
    assert [s.evaluated for s in scorers] == [{"forward": 0, "gradient": 0, "seconds": 0}] * 3


def test_a_changed_image_is_run_again_alone(suite: Path, photos: Path, tmp_path: Path, iqarena: Cli) -> None:
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 0
    before, rows = files(store.rows_folder), numbers(store)
    paint(photos / "p3.png", seed=99)
    assert iqarena("run", suite, "--out", store.folder).code == 0
    changed = [name for name, data in files(store.rows_folder).items() if before[name] != data]
    assert [name.startswith("p3-png") for name in changed] == [True]
    after = numbers(store)
    same = rows["image"] != "p3.png"
    assert_frame_equal(after[same], rows[same], check_exact=True)
    assert not (after.loc[~same, "image_sha256"] == rows.loc[~same, "image_sha256"]).any()
    assert len(after) == 5 * ROWS, "the old image's rows are gone"
    fresh = Store(tmp_path / "fresh")
    assert iqarena("run", suite, "--out", fresh.folder).code == 0
    assert pairs(store) == pairs(fresh)


def test_images_may_come_and_go(suite: Path, photos: Path, tmp_path: Path, iqarena: Cli) -> None:
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 0
    (photos / "p0.png").rename(tmp_path / "kept.png")
    paint(photos / "new.png", seed=7)
    assert iqarena("run", suite, "--out", store.folder).code == 0
    assert set(store.rows()["image"]) == {"new.png", "p0.png", "p1.png", "p2.png", "p3.png", "p4.png"}
    assert store.manifest().rows == RowCounts(ok=6 * ROWS, error=0), "what was measured stays"
    assert sorted(image.id for image in store.manifest().images) == ["new.png", *(f"p{i}.png" for i in range(5))]


def test_an_image_that_was_broken_is_tried_again(suite: Path, photos: Path, tmp_path: Path, iqarena: Cli) -> None:
    good = (photos / "p2.png").read_bytes()
    (photos / "p2.png").write_bytes(good[:100])
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 3
    once = files(store.rows_folder)
    assert iqarena("run", suite, "--out", store.folder).code == 3
    assert files(store.rows_folder) == once, "failing again leaves the same rows"
    (photos / "p2.png").write_bytes(good)
    assert iqarena("run", suite, "--out", store.folder).code == 0
    assert store.manifest().rows == RowCounts(ok=5 * ROWS, error=0)


@dataclass(frozen=True, kw_only=True, repr=False)
class Lazy(Attack):
    """The identity, raised to another version or failing, as a test wants it."""

    name = "lazy"

    def perturb(self, x: Tensor, source: Source, streams: Streams) -> Tensor:
        return x.clone()


def test_a_new_version_of_an_attack_is_run_again_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = replace(plan, attacks=(build_attack("fgsm"), Lazy()))
    store = Store(tmp_path / "run")
    run_plan(mixed, store, Options())
    before = store.rows()
    monkeypatch.setattr(Lazy, "version", 2)
    run_plan(mixed, store, Options())
    after = store.rows()
    assert len(after) == len(before)
    kept = after["key"] == before["key"]
    assert set(after.loc[kept, "attack_label"]) == {"fgsm"}
    assert set(after.loc[~kept, "attack_label"]) == {"lazy"}
    assert (after.loc[kept, "seconds"] == before.loc[kept, "seconds"]).all()


def test_an_attack_that_failed_is_tried_again_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Tensor:
        raise RuntimeError("not today")

    mixed = replace(plan, attacks=(build_attack("fgsm"), Lazy()))
    store = Store(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Lazy, "perturb", fail)
        run_plan(mixed, store, Options())
    before = store.rows()
    assert set(before.loc[before["status"] == "error", "message"]) == {"RuntimeError: not today"}
    run_plan(mixed, store, Options())
    after = store.rows()
    assert (after["status"] == "ok").all()
    assert len(after) == len(before)
    fgsm = after["attack_label"] == "fgsm"
    assert (after.loc[fgsm, "seconds"] == before.loc[fgsm, "seconds"]).all()


def test_new_weights_are_run_again(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "run")
    run_plan(plan, store, Options())
    before = store.rows()
    target = next(t for t in plan.targets if t.name == "toy_step")
    monkeypatch.setattr(type(target), "weights_sha256", "another")
    run_plan(plan, store, Options())
    changed = before["key"] != store.rows()["key"]
    assert changed.equals(before["target"] == "toy_step")


def test_a_run_of_another_setting_in_the_same_folder_is_refused(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    out = tmp_path / "run"
    assert iqarena("run", suite, "--out", out).code == 0
    (tmp_path / "others").mkdir()
    paint(tmp_path / "others" / "p0.png", 0)
    before = files(out)
    for words, more in {
        "seed: 0 there, 1 asked for": ["--seed", 1],
        'direction: "mid" there, "raise" asked for': ["--set", "direction=raise"],
        "diagnostics: false there, true asked for": ["--set", "diagnostics=true"],
        "ssim: null there, 0.9 asked for": ["--set", "ssim=0.9"],
        'precision: "fp32" there, "bf16" asked for': ["--precision", "bf16"],
        'image set: "folder(path=': ["--images", tmp_path / "others"],
    }.items():
        answer = iqarena("run", suite, "--out", out, *more)
        assert answer.code == 2
        assert len(answer.err.strip().splitlines()) == 1
        for part in (f"iqarena: {out} holds another run (", words, "--out", "--overwrite always"):
            assert part in answer.err
        assert files(out) == before


def test_a_run_of_an_earlier_schema_is_reported_on_but_not_added_to(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 0
    store.write_manifest(replace(store.manifest(), schema=1))
    answer = iqarena("run", suite, "--out", store.folder)
    assert (answer.code, "schema of keys: 1 there, 2 asked for" in answer.err) == (2, True)
    assert iqarena("report", store.folder).code == 0


def test_rows_without_a_manifest_that_the_suite_does_not_have_are_refused(
    suite: Path, tmp_path: Path, iqarena: Cli
) -> None:
    store, small = Store(tmp_path / "run"), ["--set", 'attacks=["fgsm"]', "--limit", 2]
    assert iqarena("run", suite, "--out", store.folder, *small).code == 0
    (store.folder / "manifest.json").unlink()
    before = files(store.folder)
    for other in (["--set", 'attacks=["noise"]', "--limit", 2], ["--set", 'attacks=["fgsm"]', "--limit", 1]):
        answer = iqarena("run", suite, "--out", store.folder, *other)
        assert (answer.code, len(answer.err.strip().splitlines())) == (2, 1)
        assert f"{store.folder / 'rows'}: expected rows of this suite, found others and no manifest.json" in answer.err
        assert files(store.folder) == before
    assert iqarena("run", suite, "--out", store.folder, *small).code == 0, "rows of the suite itself are kept"
    assert files(store.rows_folder) == {name[5:]: data for name, data in before.items() if name.startswith("rows/")}
    gradients = store.manifest().gradients
    assert gradients
    assert gradients.resumed, "not all that the rows ask for was evaluated now"


def test_what_an_edited_manifest_no_longer_names_is_shown_and_said(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder, "--limit", 2).code == 0
    manifest = store.manifest()
    cut = [attack for attack in manifest.attacks if attack.label != "fgsm"]
    store.write_manifest(replace(manifest, attacks=tuple(cut), targets=manifest.targets[:-1]))
    answer = iqarena("report", store.folder)
    assert "Shown from an earlier plan, not counted above: fgsm, toy_step" in answer.out
    assert "fgsm" in (store.folder / "leaderboard_attacks.csv").read_text()
    store.write_manifest(replace(manifest, images=manifest.images[:1]))
    answer = iqarena("report", store.folder)
    assert (answer.code, "names no image 'p1.png'" in answer.err) == (2, True)


def test_overwrite_always_starts_afresh_and_never_refuses(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    out = tmp_path / "run"
    assert iqarena("run", suite, "--out", out, "--overwrite", "never").code == 0
    answer = iqarena("run", suite, "--out", out, "--overwrite", "never")
    assert (answer.code, "already holds a run; choose another --out" in answer.err) == (2, True)
    assert iqarena("run", suite, "--out", out, "--limit", 2, "--overwrite", "always").code == 0
    assert set(Store(out).rows()["image"]) == {"p0.png", "p1.png"}
    assert len(files(out, "rows/*")) == 2
    assert Store(out).manifest().settings["limit"] == 2


def test_overwrite_always_takes_no_rows_without_a_manifest_over(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    out, always = tmp_path / "run", ["--limit", 2, "--overwrite", "always"]
    assert iqarena("run", suite, "--out", out, *always).code == 0
    (out / "manifest.json").unlink()
    before = files(out)
    answer = iqarena("run", suite, "--out", out, *always)
    assert (answer.code, len(answer.err.strip().splitlines())) == (2, 1)
    assert f"{out}: expected manifest.json beside rows, found none; nothing is removed: move" in answer.err
    assert files(out) == before


def test_the_suite_may_be_moved_and_what_it_no_longer_has_stays(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    out = tmp_path / "run"
    assert iqarena("run", suite, "--out", out).code == 0
    moved = tmp_path / "elsewhere" / suite.name
    moved.parent.mkdir()
    os.rename(suite, moved)
    assert iqarena("run", moved, "--out", out).code == 0
    before = files(out)
    moved.write_text(moved.read_text().replace('"identity", ', ""))
    assert iqarena("run", moved, "--out", out).code == 0
    assert files(out) == before, "all of it is there"
    assert resolve(load_suite(str(moved))).attacks[0].name == "noise"


def test_an_interrupt_waits_for_the_import_of_torch(tmp_path: Path) -> None:
    """Raised in the C++ of it, it aborts the process (found by the soak)."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfrom torch import late\nprint('imported')\n"
    )
    (tmp_path / "torch" / "late.py").write_text("import time\ntime.sleep(0.2)\n")
    plugin = tmp_path / "plugin.py"
    plugin.write_text("import time, torch\ntime.sleep(60)\n")
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"sys.path.insert(0, {str(tmp_path)!r}); from iqarena.cli import entry; entry()"
    command = [sys.executable, "-c", code, "--plugin", str(plugin), "list", "attacks"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (3, "imported\n")
    assert done.stderr.strip().endswith("iqarena: stopped; what is stored stays, the same command goes on from there")
