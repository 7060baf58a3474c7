"""``check`` and ``new``: a template that works as it is written, checks that say what fails, mistakes in one line."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from toyruns import Answer

from iqarena.registry import tables as registry
from iqarena.testing import check_attack, check_defense

Cli = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_from_files", {kind: dict(known) for kind, known in registry._from_files.items()})


def test_a_new_attack_passes_its_checks_and_its_test(iqarena: Cli, tmp_path: Path) -> None:
    answer = iqarena("new", "attack", "rooted_step", "--out", tmp_path / "own")
    assert answer.code == 0, answer.err
    plugin, test = tmp_path / "own" / "rooted_step.py", tmp_path / "own" / "test_rooted_step.py"
    assert f"iqarena check {plugin}" in answer.out
    checked = iqarena("check", plugin)
    assert (checked.code, "FAIL" in checked.out) == (0, False), checked.out
    attack = registry.build_attack("rooted_step")
    assert checked.out.count("ok    rooted_step: attack_") == len(list(check_attack(attack)))
    assert "attack_cites" in checked.out
    (parameters,) = runpy.run_path(str(test))["test_it_does_what_it_declares"].pytestmark
    cases = parameters.args[1]
    for _, check in cases:
        check()
    assert len(cases) >= 2 * 8
    before = plugin.read_text()
    plugin.write_text("# mine now\n")
    test.unlink()
    again = iqarena("new", "attack", "rooted_stepp", "--out", tmp_path / "own")
    assert again.code == 0
    refused = iqarena("new", "attack", "rooted_step", "--out", tmp_path / "own")
    assert (refused.code, refused.out) == (2, "")
    assert "rooted_step" in refused.err
    assert (plugin.read_text(), test.exists()) == ("# mine now\n", False)
    assert "class RootedStep(Attack)" in before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["atack", "mine"], "no template for 'atack'; nearest: 'attack'"),
        (["attack", "My-Attack"], "expected a name of small letters, digits and _"),
        (["attack", "class"], "expected a name of small letters"),
        (["attack", "../mine"], "expected a name of small letters"),
        (["attack", "fgsm"], "attack 'fgsm' is there already"),
    ],
)
def test_what_cannot_be_written_is_one_line(iqarena: Cli, tmp_path: Path, arguments: list[str], words: str) -> None:
    answer = iqarena("new", *arguments, "--out", tmp_path / "own")
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert words in answer.err
    assert not (tmp_path / "own").exists()


def test_a_file_that_is_there_is_not_overwritten(iqarena: Cli, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("")
    answer = iqarena("new", "attack", "mine", "--out", tmp_path)
    assert answer.code == 2
    assert "test_mine.py is there already and is not overwritten" in answer.err
    assert not (tmp_path / "mine.py").exists()


LIAR = '''
from dataclasses import dataclass
from iqarena.api import Attack

@dataclass(frozen=True, kw_only=True, repr=False)
class Costly(Attack):
    """Asks for a gradient more than it declares."""
    name = "costly"

    def perturb(self, x, source, streams):
        source.gradient(x + 1 / 255)
        return x + self.eps * source.gradient(x).sign()
'''


def test_a_plugin_that_breaks_its_word_is_found_out(iqarena: Cli, tmp_path: Path) -> None:
    (tmp_path / "costly.py").write_text(LIAR)
    answer = iqarena("check", tmp_path / "costly.py")
    failed = [line for line in answer.out.splitlines() if line.startswith("FAIL")]
    assert answer.code == 3
    assert [line.split(":")[1].strip() for line in failed] == ["attack_costs_what_it_declares"]
    assert answer.out.rstrip().endswith("checks failed")
    results = json.loads(iqarena("check", "costly", "--json").out)
    assert [one["check"].partition(":")[0] for one in results if not one["ok"]] == ["attack_costs_what_it_declares"]


def test_a_plugin_that_exits_fails_its_checks(iqarena: Cli, tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(
        LIAR.replace("costly", "leaving").replace("source.gradient(x + 1 / 255)", "raise SystemExit(0)")
    )
    answer = iqarena("check", tmp_path / "leaving.py")
    assert answer.code == 3
    assert "FAIL  leaving: attack_repeats: SystemExit: 0" in answer.out
    assert answer.out.rstrip().endswith("checks failed")


def test_every_kind_is_checked_by_its_own_checks(iqarena: Cli) -> None:
    assert "filter_" in iqarena("check", "jnd").out
    assert "model_gradient_is_right" in iqarena("check", "toy_curved").out
    answer = iqarena("check", "jpeg(quality=40)", "--model", "toy_curved")
    defense, scorer = registry.build_defense("jpeg(quality=40)"), registry.build_model("toy_curved")
    assert answer.code == 0, answer.out
    assert answer.out.count("ok    jpeg(quality=40): ") == len(list(check_defense(defense, scorer)))


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("fgms", "unknown plugin 'fgms'; nearest: 'fgsm'"),
        ("nowhere.py", "expected a Python file, found no nowhere.py"),
        ("pocket", "found an image set"),
        ("fgsm(epz=1)", "has no parameter 'epz'; nearest: 'eps'"),
    ],
)
def test_what_cannot_be_checked_is_one_line(iqarena: Cli, plugin: str, words: str) -> None:
    answer = iqarena("check", plugin)
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert words in answer.err
