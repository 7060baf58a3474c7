"""A run folder that is a URL: the rows, locks and reports of a local one, in an S3-compatible store and in memory."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from fuzzing import outcome
from toymanifest import toy_manifest
from toyruns import ROWS, Answer, files, numbers, pairs, start

from iqarena.client.stored import load
from iqarena.errors import StoreError
from iqarena.files.place import created, place
from iqarena.store.folder import Store
from iqarena.store.lock import RunLock

BUCKET = "s3://iqarena-test"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An S3-compatible server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    code = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
    with subprocess.Popen([sys.executable, "-c", code, url.rpartition(":")[2]], stderr=subprocess.DEVNULL) as server:
        yield url
        server.kill()


@pytest.fixture
def s3(address: str, monkeypatch: pytest.MonkeyPatch, loopback: None) -> str:
    """The URL of a new folder there."""
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for _ in range(600):
        try:
            urlopen(f"{address}/moto-api/").close()
            break
        except OSError:
            time.sleep(0.1)
    place(BUCKET).mkdir(exist_ok=True)
    return f"{BUCKET}/{uuid.uuid4().hex}"


IN_BOTH = pytest.mark.parametrize("url", ["memory", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("s3") if request.param == "s3" else f"memory://{uuid.uuid4().hex}"


@IN_BOTH
def test_a_run_there_is_the_run_here(iqarena: Callable[..., Answer], suite: Path, tmp_path: Path, url: str) -> None:
    here = tmp_path / "here"
    for out in (here, url):
        assert iqarena("run", suite, "--limit", 2, "--keep", "adversarials", "--out", out).code == 0
    there = load(url)
    assert there.complete
    assert there.rows["score_adv"].notna().all()
    assert numbers(Store(there.folder)).equals(numbers(Store(here)))
    expected = {name for name in files(here) if not name.endswith(".lock")}
    found = {path.relative_to(there.folder).as_posix() for path in there.folder.rglob("*") if path.is_file()}
    assert found - {"settled.json"} == expected
    assert pairs(Store(there.folder)) == pairs(Store(here))

    def written() -> dict[str, float]:
        return {path.name: path.stat().st_mtime for path in (there.folder / "rows").glob("*")}

    before = written()
    assert iqarena("run", suite, "--limit", 2, "--out", url).code == 0
    assert written() == before, "a run started again writes nothing"
    assert iqarena("run", suite, "--limit", 3, "--out", url).code == 0  # it grows
    assert len(load(url).rows) == 3 * ROWS
    assert before.items() < written().items()
    assert "already holds a run" in iqarena("run", suite, "--out", url, "--overwrite", "never").err
    assert iqarena("run", suite, "--limit", 1, "--out", url, "--overwrite", "always").code == 0
    assert len(load(url).rows) == ROWS
    assert not list(load(url).folder.glob("*.lock"))


@IN_BOTH
def test_every_verb_takes_a_url(iqarena: Callable[..., Answer], suite: Path, tmp_path: Path, url: str) -> None:
    assert [iqarena("run", suite, "--limit", 4, "--shard", f"{i}/2", "--out", f"{url}/{i}").code for i in (1, 2)] == [
        3,
        3,
    ]
    assert iqarena("merge", f"{url}/1", f"{url}/2", "--out", f"{url}/both").code == 0
    assert iqarena("run", suite, "--limit", 4, "--out", tmp_path / "here").code == 0
    assert iqarena("diff", f"{url}/both", tmp_path / "here").code == 0
    assert iqarena("report", f"{url}/both").code == 0
    assert "fgsm" in iqarena("compare", f"{url}/both", "mi_fgsm(steps=2)", "fgsm").out
    assert iqarena("export", f"{url}/both", "--attack", "fgsm", "--out", f"{url}/images").code == 0
    exported = place(f"{url}/images")
    assert len(list(exported.glob("*.png"))) == 4 * 3  # images, sources
    assert (exported / "adversarials.csv").is_file()


@pytest.mark.slow
def test_shards_side_by_side_and_a_killed_one(suite: Path, tmp_path: Path, s3: str) -> None:
    victim = start("run", suite, "--shard", "1/2", "--out", s3)
    for _ in range(1200):
        if list(place(s3).glob("rows/*")):
            break
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    shards = [start("run", suite, "--shard", f"{i}/2", "--out", s3) for i in (1, 2)]
    said = [shard.communicate(timeout=240) for shard in shards]
    assert sorted(shard.returncode for shard in shards) == [0, 3], said
    whole = start("run", suite, "--out", tmp_path / "here")
    assert (whole.communicate(timeout=240), whole.returncode)[1] == 0
    assert numbers(Store(place(s3))).equals(numbers(Store(tmp_path / "here")))


def test_one_of_many_creates_an_object(s3: str) -> None:
    path, won = place(s3) / "gate.lock", []
    threads = [threading.Thread(target=lambda i=i: won.append(created(path, b"%d" % i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_second_run_is_told_who_is_there(iqarena: Callable[..., Answer], suite: Path, s3: str) -> None:
    with RunLock(place(s3), "another") as lock:
        with lock.gate():
            lock.enter()
        refused = iqarena("run", suite, "--out", s3)
    assert refused.code == 2
    assert f"is in use by pid {os.getpid()}" in refused.err


def test_a_damaged_object_is_named(iqarena: Callable[..., Answer], suite: Path, s3: str) -> None:
    assert iqarena("run", suite, "--limit", 1, "--out", s3).code == 0
    (path,) = place(s3).glob("rows/*")
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    answer = iqarena("report", s3)
    assert answer.code == 2
    assert f"{path}: not a readable row file" in answer.err


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("nosuch://x/run", "nosuch://x/run: cannot be reached: "),
        ("s3://bucket/run", "s3://bucket/run: cannot be reached: "),
        ("gs://bucket/run", "pip install 'iqarena[s3]' or 'iqarena[gs]'"),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    iqarena: Callable[..., Answer], suite: Path, monkeypatch: pytest.MonkeyPatch, where: str, expected: str
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for verb in (("run", suite, "--out"), ("report",)):
        answer = iqarena(*verb, where)
        assert answer.code == 2
        assert expected in answer.err
        assert len(answer.err.strip().splitlines()) == 1
    with pytest.raises(StoreError):
        load(where)


def test_a_store_that_goes_away_is_one_line_whenever_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is its driver's own, and no operating system's."""
    folder = place(f"memory://{uuid.uuid4().hex}")
    row = {"image": "a", "repeat": 0, "attack": "f", "source": "s", "target": "t", "key": "k", "status": "ok"}
    Store(folder).write("a", [row])
    Store(folder).write_manifest(toy_manifest(images=[{"id": "a", "cluster": ""}]))
    driver: Any = type(folder.fs)  # pyright: ignore[reportAttributeAccessIssue]
    left = 0

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise RuntimeError("no route\nto the host")
            return call(*arguments, **options)

        return called

    for name in ("open", "pipe_file", "exists", "glob", "rm"):
        monkeypatch.setattr(driver, name, mortal(getattr(driver, name)))
    lock = RunLock(folder, "work")
    line = r"cannot [a-z ]+ memory://.*: no route to the host; what is stored stays, mend that and run again"
    uses: list[Callable[[], object]] = [
        *(getattr(Store(folder), name) for name in ("rows", "manifest", "remove_leftovers")),
        lambda: Store(folder).stored("a"), lambda: Store(folder).write("a", [row]), lock.enter, lock.is_alone,
        Store(folder).clear,
    ]  # fmt: skip
    for use in uses:
        for allowed in range(100):
            left = allowed
            if not (refusal := outcome(use)):
                break
            assert re.fullmatch(line, refusal)
        assert 0 < allowed < 99
    left = 0
    with pytest.raises(StoreError, match=line), lock.gate():
        pass


def test_what_needs_a_folder_says_so(iqarena: Callable[..., Answer]) -> None:
    assert "expected a folder of this machine" in iqarena("train", "cnn", "--data", ".", "--out", "memory://x").err


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    assert place(f"file://{tmp_path}") == tmp_path
