"""One file over HTTP: progress, resumption of what was cut off, a check before it counts.

What has arrived is kept beside the target as ``<name>.part``; the next attempt, in this call or a later one, asks for
the rest (RFC 9110, range requests). Only a whole file with the right hash is given its name. A server is given up when
it sends less than ``MIN_SPEED`` for ``PATIENCE`` seconds, and refused when it sends more than the file may have or
redirects to an address that is not HTTP, or no longer encrypted.
"""

from __future__ import annotations

import errno
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from iqarena.errors import WeightsError
from iqarena.files.hashing import file_sha256
from iqarena.files.progress import progress_bar

ATTEMPTS, TIMEOUT, PAUSE, CHUNK = 4, 30.0, 1.0, 1 << 18  # tries, seconds of silence, seconds between tries, bytes
MIN_SPEED, PATIENCE = 5_000.0, 30.0  # bytes a second, averaged over so many seconds: a day for the largest file
MAX_BYTES = 8_000_000_000  # of a file whose size is not known; published scorers have up to 2 GB


def download(url: str, target: Path, sha256: str = "", size: int = 0) -> Path:
    """Bring ``url`` to ``target``; returns ``target``. ``sha256`` may be its first digits; empty: not checked.

    ``size`` is that of the file in bytes where it is known, else 0. Raises :class:`WeightsError` for an address that is
    not there, a page instead of a file, another content or more of it than expected, a connection that stays broken or
    slow, a disk that is full or may not be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _attempts(url, part, size)
        digest = file_sha256(part)
        if not digest.startswith(sha256):
            part.unlink()
            raise WeightsError(
                f"{url}: expected sha256 {sha256[:12]}…, found {digest[:12]}…; nothing was kept, a proxy or a mirror"
                " may have answered with something else: try again, or get the file another way"
            )
        part.replace(target)
    except OSError as error:
        advice = "free some space" if error.errno == errno.ENOSPC else "choose a folder with --weights-dir"
        raise WeightsError(f"{target}: cannot be written: {error.strerror or error}; {advice} and try again") from None
    return target


def _attempts(url: str, part: Path, size: int) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            return _attempt(url, part, size)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # no bytes from there on: what lies here is not the beginning of this file
                part.unlink()
            elif error.code < 500:
                raise WeightsError(
                    f"{url}: the server answered {error.code} {error.reason}; look for the file by hand and put it"
                    f" into {part.parent}"
                ) from None
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        if left:
            time.sleep(PAUSE)
    kept = part.stat().st_size if part.exists() else 0
    raise WeightsError(
        f"{url}: cannot be downloaded: {reason}; {kept / 1e6:.1f} MB are kept and the same command goes on from there"
        f" (or get the file by hand and put it into {part.parent}; --offline tries no download)"
    )


def _attempt(url: str, part: Path, size: int) -> None:
    """One connection: append what is missing, or start again where the server knows no ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = _request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise WeightsError(
                f"{url}: expected a file, the answer is a web page (a proxy or a login in between?);"
                f" get the file by hand and put it into {part.parent}"
            )
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        resumed = answer.status == 206 and start is not None and int(start[1]) == have
        have = have if resumed else 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        _check_size(url, part, total or 0, size)
        speed = _Speed()
        with (
            part.open("ab" if resumed else "wb") as file,
            progress_bar(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True) as bar,
        ):
            while block := answer.read1(CHUNK):  # what has arrived; read() would lose it when silence follows
                have += len(block)
                _check_size(url, part, have, size)
                file.write(block)
                bar.update(len(block))
                speed.check(len(block))
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")


def _check_size(url: str, part: Path, found: int, size: int) -> None:
    if found > (size or MAX_BYTES):
        part.unlink(missing_ok=True)
        raise WeightsError(
            f"{url}: expected {f'{size} bytes' if size else f'at most {MAX_BYTES} bytes'}, found {found} or more;"
            f" nothing was kept, get the file by hand and put it into {part.parent}"
        )


class _Speed:
    """Raises :class:`TimeoutError` for a server that drips: less than ``MIN_SPEED`` over ``PATIENCE`` seconds."""

    def __init__(self) -> None:
        self._since, self._arrived = time.monotonic(), 0

    def check(self, arrived: int) -> None:
        self._arrived += arrived
        seconds = time.monotonic() - self._since
        if seconds < PATIENCE:
            return
        if self._arrived < MIN_SPEED * seconds:
            raise TimeoutError(f"too slow: {self._arrived} bytes in {seconds:.0f} seconds")
        self._since, self._arrived = time.monotonic(), 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows nobody from HTTPS to anything else, nor from HTTP to what is neither."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme.lower() not in allowed:
            raise WeightsError(
                f"{req.full_url}: expected a file or an address with {' or '.join(allowed)}, the server sends on to"
                f" {newurl[:200]!r}; get the file by hand"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any):
        """As urllib's, which refuses other schemes itself and in other words."""
        if "location" in headers:
            newurl = urllib.parse.urljoin(req.full_url, headers["location"])
            if urllib.parse.urlsplit(newurl).scheme.lower() not in ("http", "https"):
                self.redirect_request(req, fp, code, msg, headers, newurl)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _request(url: str) -> urllib.request.Request:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "iqarena", "Accept-Encoding": "identity"})
    except ValueError:
        request = None
    if request is None or request.type not in ("http", "https"):
        raise WeightsError(f"expected an address that begins with https:// or http://, found {url!r}")
    return request
