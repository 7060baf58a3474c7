"""Plugins that cannot be loaded, raise, exit or return something else: one line that names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toyruns import Answer, refused

from iqarena.registry import tables as registry

Cli = Callable[..., Answer]


PLUGIN = """
from dataclasses import dataclass
from iqarena.api import Model

@dataclass(frozen=True, kw_only=True, repr=False)
class {name}(Model):
    "A scorer that cannot be loaded."
    name = "{name}"
    def load(self):
        {load}
"""


@pytest.mark.parametrize(
    ("name", "load", "words"),
    [
        ("load_raises", "raise KeyError('net')", "load_raises: cannot be loaded: KeyError: 'net'"),
        ("load_none", "return None", "load_none: cannot be loaded: TypeError: expected a torch module, found NoneType"),
        ("load_other", "return 5", "load_other: cannot be loaded: TypeError: expected a torch module, found int"),
    ],
)
def test_a_plugin_that_cannot_be_loaded(
    iqarena: Cli, suite: Path, photos: Path, tmp_path: Path, name: str, load: str, words: str
) -> None:
    plugin = tmp_path / f"{name}_plugin.py"
    plugin.write_text(PLUGIN.format(name=name, load=load))
    run = ["run", suite, "--out", tmp_path / "run", "--set", f'targets=["{name}", "toy_step"]']
    refused(iqarena("--plugin", plugin, *run), words)
    refused(iqarena("--plugin", plugin, "score", photos / "p0.png", "--model", name), words)


FAILING = """
import sys
from dataclasses import dataclass
from torch import nn
from iqarena.api import Attack, Model

class Net(nn.Module):
    def forward(self, x):
        {body}

@dataclass(frozen=True, kw_only=True, repr=False)
class FailingModel(Model):
    name = "failing_model_{name}"
    def load(self):
        return Net()

@dataclass(frozen=True, kw_only=True, repr=False)
class FailingAttack(Attack):
    name = "failing_attack_{name}"
    access = "none"
    def perturb(self, x, source, streams):
        {body}
"""


@pytest.mark.parametrize(
    ("name", "body", "of_model", "of_attack"),
    [
        ("raises", "raise KeyError('red')", "cannot be evaluated: KeyError: 'red'", "KeyError: 'red'"),
        ("exits", "sys.exit(0)", "cannot be evaluated: SystemExit: 0", "SystemExit: 0"),
        ("tuple", "return x, x", "expected a tensor of scores (N,), found tuple", "expected images of shape"),
    ],
)
def test_a_plugin_that_fails_is_named(
    iqarena: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str, of_model: str,
    of_attack: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(registry, "_from_files", {kind: dict(table) for kind, table in registry._from_files.items()})
    plugin = tmp_path / f"failing_{name}.py"
    plugin.write_text(FAILING.format(name=name, body=body))
    model, words = f"failing_model_{name}", f"failing_model_{name}: {of_model}"
    image, attack = photos / "p0.png", ["attack", photos / "p0.png", "--out", tmp_path / "a.png", "--source"]
    refused(iqarena("--plugin", plugin, "score", image, "--model", model), words)
    refused(iqarena("score", image, "--model", f"jpeg|{model}"), words)
    refused(iqarena(*attack, model, "--attack", "fgsm"), words)
    refused(iqarena(*attack, "toy_linear", "--attack", f"failing_attack_{name}"), f"failing_attack_{name}: {of_attack}")
    assert "Traceback" in iqarena("score", image, "--model", model, "--debug").err
