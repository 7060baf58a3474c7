"""One file over HTTP: progress, resumption of what was cut off, a check before it counts.

What has arrived is kept beside the target as ``<name>.part``; the next attempt, in this call or a later one, asks for
the rest (RFC 9110, range requests). Only a whole file with the right hash is given its name.
"""

from __future__ import annotations

import errno
import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from iqarena.errors import WeightsError
from iqarena.files.hashing import file_sha256
from iqarena.files.progress import progress_bar

ATTEMPTS, TIMEOUT, PAUSE, CHUNK = 4, 30.0, 1.0, 1 << 18  # tries, seconds of silence, seconds between tries, bytes


def download(url: str, target: Path, sha256: str = "") -> Path:
    """Bring ``url`` to ``target``; returns ``target``. ``sha256`` may be its first digits; empty: not checked.

    Raises :class:`WeightsError` for an address that is not there, a page instead of a file, another content than
    expected, a connection that stays broken, a disk that is full or may not be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _attempts(url, part)
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


def _attempts(url: str, part: Path) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            return _attempt(url, part)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # no bytes from there on: what lies here is not the beginning of this file
                part.unlink()
            elif error.code < 500:
                raise WeightsError(
                    f"{url}: the server answered {error.code} {error.reason}; look for the file by hand and put it"
                    f" into {part.parent}"
                ) from None
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if left:
            time.sleep(PAUSE)
    kept = part.stat().st_size if part.exists() else 0
    raise WeightsError(
        f"{url}: cannot be downloaded: {reason}; {kept / 1e6:.1f} MB are kept and the same command goes on from there"
        f" (or get the file by hand and put it into {part.parent}; --offline tries no download)"
    )


def _attempt(url: str, part: Path) -> None:
    """One connection: append what is missing, or start again where the server knows no ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "iqarena", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise WeightsError(
                f"{url}: expected a file, the answer is a web page (a proxy or a login in between?);"
                f" get the file by hand and put it into {part.parent}"
            )
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        resumed = answer.status == 206 and start is not None and int(start[1]) == have
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            progress_bar(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True) as bar,
        ):
            while block := answer.read1(CHUNK):  # what has arrived; read() would lose it when silence follows
                file.write(block)
                bar.update(len(block))
                have += len(block)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")
