"""Downloads against a loopback server that is slow, breaks off, knows no ranges or answers with something else."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from iqarena.api import WeightsError
from iqarena.files import download as module
from iqarena.files.download import download

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """``/whole /slow /drips /breaks/N /norange /html /stalls /busy/N /endless /to/URL``; everything else is not there.

    N: how often. ``/endless`` does not say how long it is.
    """

    ranges: list[str | None] = []
    seen: dict[str, int] = {}

    def do_GET(self) -> None:
        kind, _, times = self.path[1:].partition("/")
        requested = self.headers["Range"]
        self.ranges.append(requested)
        self.seen[self.path] = self.seen.get(self.path, 0) + 1
        if kind not in ("whole", "slow", "breaks", "norange", "html", "stalls", "busy", "drips", "endless", "to"):
            return self.send_error(404)
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", times)
            return self.end_headers()
        if kind == "busy" and self.seen[self.path] <= int(times):
            return self.send_error(503)
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and kind != "norange" else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Type", "text/html; charset=utf-8" if kind == "html" else "application/octet-stream")
        if kind != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "stalls":
            self.wfile.write(body[:1000])
            time.sleep(1)
        elif kind == "drips":
            with suppress(ConnectionError):  # the other side has had enough
                for i in range(0, len(body), 100):
                    self.wfile.write(body[i : i + 100])
                    time.sleep(0.01)
        elif kind == "slow":
            for i in range(0, len(body), 20_000):
                self.wfile.write(body[i : i + 20_000])
                self.wfile.flush()
                time.sleep(0.02)
        else:
            broken = kind == "breaks" and self.seen[self.path] <= int(times)
            self.wfile.write(body[: len(body) // 2] if broken else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, loopback: None) -> Iterator[str]:
    monkeypatch.setattr(module, "PAUSE", 0)
    Handler.ranges, Handler.seen = [], {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def bring(url: str, folder: Path, sha256: str = SHA) -> Path:
    return download(url, folder / "deep" / "w.pth", sha256)


@pytest.mark.parametrize("kind", ["whole", "slow", "norange", "busy/1"])
def test_a_file_arrives_whole_and_under_its_name(kind: str, server: str, tmp_path: Path) -> None:
    assert bring(f"{server}/{kind}", tmp_path).read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.pth"]


def test_a_broken_connection_goes_on_where_it_was(server: str, tmp_path: Path) -> None:
    assert bring(f"{server}/breaks/2", tmp_path).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert Handler.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_later_call_goes_on_too(server: str, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"connection ended .*; 0\.1 MB are kept and the same command goes on"
    ) as caught:
        bring(f"{server}/breaks/{module.ATTEMPTS}", tmp_path)
    assert "\n" not in str(caught.value)
    part = tmp_path / "deep" / "w.pth.part"
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    Handler.ranges.clear()
    assert bring(f"{server}/whole", tmp_path).read_bytes() == CONTENT
    assert Handler.ranges == [f"bytes={have}-"]
    assert not part.exists()


def test_a_server_without_ranges_starts_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "w.pth.part").write_bytes(b"x" * 1000)
    assert bring(f"{server}/norange", tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "w.pth.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert bring(f"{server}/whole", tmp_path).read_bytes() == CONTENT
    assert Handler.ranges == [f"bytes={len(CONTENT) + 1}-", None]


def test_another_content_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"expected sha256 0123abcd…, found {SHA[:12]}…; nothing was kept"):
        bring(f"{server}/whole", tmp_path, "0123abcd")
    assert not list((tmp_path / "deep").iterdir())


def test_the_first_digits_of_a_hash_are_enough_and_none_are_none(server: str, tmp_path: Path) -> None:
    assert bring(f"{server}/whole", tmp_path / "a", SHA[:8]).is_file()
    assert bring(f"{server}/whole", tmp_path / "b", "").is_file()


def test_what_is_not_there_is_asked_for_once(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"answered 404 Not Found; look for the file by hand"):
        bring(f"{server}/gone", tmp_path)
    assert len(Handler.ranges) == 1


def test_a_web_page_is_not_a_file(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"the answer is a web page \(a proxy or a login in between\?\)"):
        bring(f"{server}/html", tmp_path)
    assert not list((tmp_path / "deep").iterdir())


def test_an_encrypted_connection_that_breaks_is_tried_again(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, failures = module._attempt, [ssl.SSLError("decryption failed or bad record mac")]  # pyright: ignore[reportPrivateUsage]

    def broken_once(url: str, part: Path, size: int) -> None:
        if failures:
            raise failures.pop()
        attempt(url, part, size)

    monkeypatch.setattr(module, "_attempt", broken_once)
    assert bring(f"{server}/whole", tmp_path).read_bytes() == CONTENT


def test_silence_ends_an_attempt(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with pytest.raises(WeightsError, match=r"timed out; 0\.0 MB are kept"):
        bring(f"{server}/stalls", tmp_path)
    assert (tmp_path / "deep" / "w.pth.part").read_bytes() == CONTENT[:1000]


def test_nobody_listens(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(WeightsError, match=r"cannot be downloaded: .*refused.*--offline tries no download"):
            bring(f"http://127.0.0.1:{free.getsockname()[1]}/whole", tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_said(server: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "w.pth.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match=r"w\.pth: cannot be written: No space left on device; free some space"):
        bring(f"{server}/whole", tmp_path)


def test_a_folder_that_cannot_be_is_said(server: str, tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file where a folder should be")
    with pytest.raises(WeightsError, match=r"cannot be written: .*; choose a folder with --weights-dir"):
        bring(f"{server}/whole", tmp_path)


def test_a_server_that_drips_is_given_up_and_what_came_is_kept(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    monkeypatch.setattr(module, "MIN_SPEED", 1e6)
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    with pytest.raises(WeightsError, match=r"cannot be downloaded: too slow: \d+ bytes in 0 seconds; 0\.0 MB are kept"):
        bring(f"{server}/drips", tmp_path)
    have = (tmp_path / "deep" / "w.pth.part").stat().st_size
    assert 200 <= have < len(CONTENT)
    assert bring(f"{server}/whole", tmp_path).read_bytes() == CONTENT
    assert Handler.ranges[-1] == f"bytes={have}-"


@pytest.mark.parametrize("kind", ["whole", "endless"])
@pytest.mark.parametrize("known", [True, False], ids=["size known", "size not known"])
def test_more_than_a_file_may_have_is_refused_and_not_kept(
    kind: str, known: bool, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(CONTENT) - 1
    monkeypatch.setattr(module, "MAX_BYTES", 10**9 if known else size)
    with pytest.raises(WeightsError, match=f"expected {'' if known else 'at most '}{size} bytes, found .* nothing was"):
        download(f"{server}/{kind}", tmp_path / "w.pth", SHA, size if known else 0)
    assert not list(tmp_path.iterdir())
    assert len(Handler.ranges) == 1
    assert download(f"{server}/{kind}", tmp_path / "w.pth", SHA, len(CONTENT)).read_bytes() == CONTENT


def test_a_redirect_is_followed_from_http_to_http(server: str, tmp_path: Path) -> None:
    assert bring(f"{server}/to/{server}/whole", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/w.pth", "file:///etc/passwd", "data:,x"])
def test_a_redirect_to_another_protocol_is_refused(place: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"with http or https, the server sends on to '{place}'"):
        bring(f"{server}/to/{place}", tmp_path)
    assert len(Handler.ranges) == 1


@pytest.mark.parametrize("place", ["http://example.invalid/w.pth", "HTTP://example.invalid/w.pth", "ftp://x/w.pth"])
def test_encryption_is_never_given_up(place: str) -> None:
    given = urllib.request.Request("https://example.invalid/w.pth")
    with pytest.raises(WeightsError, match="an address with https, the server sends on to"):
        module._Redirects().redirect_request(given, None, 302, "Found", {}, place)
    assert module._Redirects().redirect_request(given, None, 302, "Found", {}, "https://example.invalid/v.pth")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/w", "w.pth", "", "http:"])
def test_an_address_that_is_none(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0)
    with pytest.raises(WeightsError, match=r"expected an address that begins with https:// or http://|no host given"):
        download(url, tmp_path / "w.pth")
