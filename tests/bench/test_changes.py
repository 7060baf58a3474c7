"""A run started again after a plugin, an image, an opinion score or its reference attack has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from toyruns import PAIRS, ROWS, Answer, paint

from iqarena.api import Plugin
from iqarena.registry import tables as registry
from iqarena.registry.tables import build_attack
from iqarena.store.folder import Store
from iqarena.store.manifest import RowCounts

Cli = Callable[..., Answer]
IMAGES = 5


PLUGIN = """
from dataclasses import dataclass
from iqarena.api import Attack

@dataclass(frozen=True, kw_only=True, repr=False)
class Edited(Attack):
    name = "edited"
    {more}

    def perturb(self, x, source, streams):
        return x + {shift} * self.eps * streams.signs(x)
"""


@pytest.fixture
def edited(tmp_path: Path, suite: Path, iqarena: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run the toy suite with an attack of a plugin file, as it is now."""
    tables = {kind: dict(table) for kind, table in registry._from_files.items()}
    monkeypatch.setattr(registry, "_from_files", tables)
    suite.write_text(suite.read_text().replace('"mi_fgsm(steps=2)", "sega(samples=2)"', '"edited"'))

    def run(shift: str = "1", more: str = "", *options: object) -> Answer:
        path = tmp_path / "edited_attack.py"
        path.write_text(PLUGIN.format(shift=shift, more=more))
        return iqarena("--plugin", path, "run", suite, "--out", tmp_path / "run", *options)

    return run


def test_an_edited_plugin_file_is_run_again_alone(tmp_path: Path, edited: Callable[..., Answer]) -> None:
    store = Store(tmp_path / "run")
    assert edited().code == 0
    before, plugins = store.rows(), store.manifest().plugins
    assert [p.name for p in plugins] == ["edited", "toy_curved", "toy_step"]
    assert plugins[0].file == "edited_attack.py"
    assert edited("-0.50").code == 0
    after = store.rows()
    same = after["key"] == before["key"]
    assert set(after.loc[~same, "attack_label"]) == {"edited"}
    assert "edited" not in set(after.loc[same, "attack_label"])
    assert (after.loc[same, "seconds"] == before.loc[same, "seconds"]).all()
    assert not (after.loc[~same, "sha256"] == before.loc[~same, "sha256"]).any()
    assert store.manifest().plugins[0].sha256 != plugins[0].sha256
    assert store.manifest().plugins[1:] == plugins[1:]


def test_rows_of_an_edited_plugin_outside_the_plan_are_no_results_of_it(
    tmp_path: Path, edited: Callable[..., Answer]
) -> None:
    store = Store(tmp_path / "run")
    assert edited().code == 0
    answer = edited("-0.50", "", "--limit", 2)
    assert answer.code == 3
    rows = store.rows()
    failed = rows[rows["status"] == "error"]
    assert set(failed["message"]) == {"edited(eps=8/255) has changed since; run it again"}
    assert len(failed) == PAIRS * 3
    assert set(failed["image"]) == {"p2.png", "p3.png", "p4.png"}
    assert edited("-0.50", "", "--limit", 2).code == 0, "said once; nothing of this plan failed"
    assert len(store.rows()) == store.manifest().planned == len(rows) - len(failed)
    assert edited("-0.50").code == 0
    assert (store.rows()["status"] == "ok").all()


def test_rows_of_an_edited_attack_that_the_plan_lacks_are_no_results_of_it(
    tmp_path: Path, edited: Callable[..., Answer]
) -> None:
    assert edited().code == 0
    assert edited("0", "", "--set", 'attacks=["identity"]').code == 3
    rows = Store(tmp_path / "run").rows()
    assert set(rows[rows["attack_label"] == "edited"]["message"]) == {
        "edited(eps=8/255) has changed since; run it again"
    }
    assert (rows[rows["attack_label"] != "edited"]["status"] == "ok").all()


def test_results_that_become_errors_are_counted_though_nothing_is_missing(
    tmp_path: Path, edited: Callable[..., Answer]
) -> None:
    store, less = Store(tmp_path / "run"), ["--set", 'attacks=["fgsm"]']
    assert edited().code == edited("1", "", *less).code == 0
    before = store.manifest().rows
    assert before
    assert edited("0", "", *less).code == 3
    assert store.manifest().rows == RowCounts(before.ok - PAIRS * IMAGES, PAIRS * IMAGES)


@pytest.mark.parametrize("packed", [False, True])
def test_what_failed_and_is_wanted_no_more_is_forgotten(
    suite: Path, photos: Path, tmp_path: Path, iqarena: Cli, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr("iqarena.store.folder.MANY", 1 if packed else 100)
    (photos / "p9.png").write_bytes(b"no picture")
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 3
    assert (store.rows()["status"] == "error").sum() == ROWS
    (photos / "p9.png").unlink()
    answer = iqarena("run", suite, "--out", store.folder)
    assert answer.code == 0, answer.out
    assert len(store.rows()) == store.manifest().planned == ROWS * IMAGES
    assert iqarena("run", suite, "--out", store.folder).code == 0


def test_another_reference_counts_for_a_run_that_is_done(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder).code == 0
    for attacks in ([], ["--set", 'attacks=["identity"]']):  # named among these, or among those that were run before
        wanted = "noise" if attacks else "fgsm"
        assert iqarena("run", suite, "--out", store.folder, *attacks, "--set", f'reference="{wanted}"').code == 0
        assert store.manifest().reference == repr(build_attack(wanted))
        assert set(pd.read_csv(store.folder / "leaderboard_attacks.csv")["reference"]) == {wanted}


def test_images_that_were_not_kept_are_not_kept_afterwards(suite: Path, tmp_path: Path, iqarena: Cli) -> None:
    assert iqarena("run", suite, "--out", tmp_path / "run").code == 0
    answer = iqarena("run", suite, "--out", tmp_path / "run", "--keep", "adversarials")
    assert (answer.code, "has images that were not kept; iqarena export writes them" in answer.err) == (2, True)


def test_a_new_parameter_with_a_default_renames_what_is_stored(
    tmp_path: Path, photos: Path, edited: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for an attack that comes with iqarena, whose code has no hash."""
    monkeypatch.setattr(Plugin, "code_sha256", "")
    store = Store(tmp_path / "run")
    assert edited().code == 0
    before = store.rows()
    paint(photos / "p5.png", 5)
    assert edited("1", "weight: float = 1.0").code == 0
    after = store.rows()
    assert set(after["attack"]) == {a.spec for a in store.manifest().attacks}
    own = after[after["attack_label"] == "edited"]
    assert set(own["attack"]) == {"edited(eps=8/255, weight=1)"}
    assert len(own) == PAIRS * (IMAGES + 1)
    old = after.set_index("key").loc[before["key"]]
    assert (old["seconds"].to_numpy() == before["seconds"].to_numpy()).all()
    assert len(pd.read_csv(store.folder / "pairs.csv")) == PAIRS * 4


def test_corrected_opinion_scores_cost_no_evaluation(suite: Path, photos: Path, tmp_path: Path, iqarena: Cli) -> None:
    table = tmp_path / "mos.csv"
    table.write_text("image,mos\n" + "".join(f"p{i}.png,{10 * i}\n" for i in range(IMAGES)))
    images = ["--set", f'images={{path = "{photos.as_posix()}", csv = "{table.as_posix()}"}}']
    store = Store(tmp_path / "run")
    assert iqarena("run", suite, "--out", store.folder, *images).code == 0
    before = store.rows()
    table.write_text(table.read_text().replace("p3.png,30", "p3.png,77"))
    assert iqarena("run", suite, "--out", store.folder, *images).code == 0
    after = store.rows()
    assert_frame_equal(after.drop(columns="mos"), before.drop(columns="mos"), check_exact=True)
    assert after.groupby("image")["mos"].unique().map(list).to_dict() == {
        f"p{i}.png": [77.0 if i == 3 else 10.0 * i] for i in range(IMAGES)
    }
