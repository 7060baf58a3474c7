"""The examples in the README run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toyruns import paint

README = Path(__file__).parents[2] / "README.md"


def test_the_python_examples_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "photo.png", 0, (96, 64))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, "the README shows how it is used from Python"
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert "aligned_sd" in capsys.readouterr().out
    assert (tmp_path / "adversarial.png").exists()
    assert (tmp_path / "results" / "runs").is_dir()
