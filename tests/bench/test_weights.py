"""Where weights are looked for, what proves them, and what is said when they are nowhere."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toyruns import Answer

from iqarena.api import WeightFile, WeightsError
from iqarena.files import weights
from iqarena.files.cache import CACHE, cache_folder
from iqarena.files.weights import download_folder, obtain, search_folders

DATA = b"parameters"
SHA = hashlib.sha256(DATA).hexdigest()
URL = "http://example.invalid/net.pth"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every place inside a folder of this test."""
    for name in (weights.WEIGHTS_DIR, weights.OFFLINE, CACHE, "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_hash_is_stated_or_read_off_the_name_of_what_can_be_downloaded() -> None:
    assert WeightFile("HyperIQA-resnet50-koniq10k-c96c41b1.pth", url=URL).expected == "c96c41b1"
    assert WeightFile("a-c96c41b1.pth", url=URL, sha256=SHA).expected == SHA
    assert WeightFile("a-c96c41b1.pth").expected == "", "a file of one's own may be called anything"
    assert WeightFile("liqe_koniq.pt", url=URL).expected == ""


def test_folders_are_searched_in_their_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = WeightFile("net.pth", sha256=SHA)
    hub = put(home / "home" / ".cache" / "torch" / "hub" / "pyiqa" / "net.pth")
    assert obtain(file) == hub
    cached = put(download_folder() / "net.pth")
    assert obtain(file) == cached
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(home / "mine"))
    assert obtain(file) == cached
    own = put(home / "mine" / "net.pth")
    assert obtain(file) == own


def test_the_cache_is_where_the_platform_keeps_caches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert cache_folder() == home / "home" / caches / "iqarena"
    assert download_folder() == cache_folder() / "weights"
    monkeypatch.setenv(CACHE, str(home / "elsewhere"))
    assert cache_folder() == home / "elsewhere"
    assert download_folder() == home / "elsewhere" / "weights"


def test_downloads_go_into_the_users_folder_if_it_may_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(home / "new"))
    assert download_folder() == home / "new" == search_folders()[0]
    monkeypatch.setenv(weights.WEIGHTS_DIR, "~/new")
    assert download_folder() == home / "home" / "new" == search_folders()[0]
    (home / "home" / "new").mkdir(parents=True)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert download_folder() == cache_folder() / "weights"


def test_a_tampered_file_is_refused_even_when_it_is_changed_later(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(home))
    path = put(home / "net.pth")
    assert obtain(WeightFile("net.pth", sha256=SHA[:8])) == path
    put(path, DATA + b"!")
    with pytest.raises(WeightsError, match=rf"expected sha256 {SHA[:8]}…, found [0-9a-f]{{12}}…; remove it") as caught:
        obtain(WeightFile("net.pth", sha256=SHA[:8], url=URL))
    assert URL in str(caught.value)


def test_offline_says_what_is_missing_where_it_is_had_and_where_it_goes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setenv(weights.OFFLINE, "1")
    monkeypatch.setenv(weights.WEIGHTS_DIR, str(home))
    with pytest.raises(WeightsError) as caught:
        obtain(WeightFile("net.pth", url=URL))
    message = str(caught.value)
    assert message.startswith(f"expected the weights net.pth, found none in {home}, ")
    assert f"get it from {URL} and put it into {home}" in message
    with pytest.raises(WeightsError, match="get it from the author's page and put"):
        obtain(WeightFile("net.pth", page="the author's page"))
    with pytest.raises(WeightsError, match="it is a file of your own"):
        obtain(WeightFile("net.pth"))


def test_what_is_nowhere_is_downloaded_into_the_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[object, ...]] = []

    def download(*args: object) -> Path:
        requested.append(args)
        return put(home / "got")

    monkeypatch.setattr("iqarena.files.download.download", download)
    file = WeightFile("a-c96c41b1.pth", url=URL, size=7)
    assert obtain(file) == home / "got"
    assert requested == [(URL, download_folder() / "a-c96c41b1.pth", "c96c41b1", 7)]


def test_a_question_brings_nothing() -> None:
    with weights.no_downloads():
        assert weights.offline()
        with pytest.raises(WeightsError, match="get it from"):
            obtain(WeightFile("net.pth", url=URL))
    assert not weights.offline()


def test_the_command_line_sets_place_and_silence(
    home: Path, iqarena: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (weights.WEIGHTS_DIR, weights.OFFLINE):
        monkeypatch.setenv(name, "")  # so that what the command sets is taken back
    answer = iqarena("--weights-dir", home, "--offline", "fetch", "models", "dbcnn", "cnn")
    assert answer.code == 2
    assert answer.err.startswith(
        "iqarena: expected the weights DBCNN_KonIQ10k-2de81c0a.pth, found none in " + str(home)
    )
    assert "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/DBCNN_KonIQ10k-2de81c0a.pth" in answer.err
    assert iqarena("fetch", "models", "cnn").out == "cnn: nothing to bring\n"
    put(home / "brisque_svm_weights.pth")
    assert "(its hash is not known: not checked)" in iqarena("fetch", "models", "brisque").out
    put(home / "DBCNN_KonIQ10k-2de81c0a.pth")
    assert "expected sha256 2de81c0a…" in iqarena("fetch", "models", "dbcnn").err
    assert "--weights-dir: expected a folder" in iqarena("--weights-dir", home / "no", "list").err
