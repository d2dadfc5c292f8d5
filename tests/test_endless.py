"""What has no end is not read to it: devices, pipes, servers, and files that are none of ours."""

from __future__ import annotations

import http.server
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vrcodec
from vrcodec import files
from vrcodec.batch import storage
from vrcodec.errors import ArgumentError, NotVrcError, VrcodecError
from vrcodec.evaluation.anchors import load_curves
from vrcodec.pictures import open_picture

MOST = 5 << 20


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_STREAM", MOST)


@pytest.fixture
def zeros() -> Path:
    path = Path("/dev/zero")
    if not path.exists():
        pytest.skip("no /dev/zero here")
    return path


@pytest.fixture
def server() -> Iterator[str]:
    """A server whose files begin as they should, and never end."""

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            try:
                self.wfile.write(b"VRC")
                for _ in range(1000):
                    self.wfile.write(bytes(1 << 20))
                    sent.append(1)
            except OSError:
                pass  # whoever reads has enough

        def log_message(self, *_: object) -> None:
            pass

    sent: list[int] = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    assert len(sent) < 500


def test_a_large_file_that_is_not_ours_is_refused_at_its_beginning(
    tmp_path: Path, tiny_weights: Path
) -> None:
    path = tmp_path / "film.vrc"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    for read in (vrcodec.info, vrcodec.Codec(tiny_weights).decode):
        with pytest.raises(NotVrcError):
            read(path)
        with path.open("rb") as stream, pytest.raises(NotVrcError):
            read(stream)


def test_devices_and_pipes_have_a_limit(zeros: Path) -> None:
    with pytest.raises(VrcodecError, match=f"^{zeros}: more than 5,242,880 bytes$"):
        files.read_bytes(zeros)
    with pytest.raises(VrcodecError, match="more than 5,242,880 bytes"):
        storage.read(str(zeros))
    with zeros.open("rb") as stream, pytest.raises(VrcodecError, match="more than"):
        vrcodec.encode(stream)
    with pytest.raises(VrcodecError, match="more than"):
        open_picture(io.BufferedReader(Endless()), "x")


class Endless(io.RawIOBase):
    """Zeros, from a stream that cannot be rewound."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        buffer[:] = bytes(len(buffer))
        return len(buffer)


def test_curves_have_a_limit(zeros: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrcodec.evaluation.anchors.MAX_BYTES", MOST)
    with pytest.raises(VrcodecError, match=f"^{zeros}: more than 5,242,880 bytes$"):
        load_curves(zeros)


def test_pipes_are_read_to_their_end() -> None:
    ends = os.pipe()
    with os.fdopen(ends[1], "wb") as sender:
        sender.write(b"VRC and more")
    with os.fdopen(ends[0], "rb") as receiver:
        assert files.read_stream(receiver, b"VRC") == b"VRC and more"


def test_text_is_no_file() -> None:
    with pytest.raises(ArgumentError, match="a StringIO is no file"):
        vrcodec.info(io.StringIO("VRC"))  # type: ignore[arg-type]


@pytest.mark.parametrize("begins", [b"VRC", b""])
def test_servers_have_a_limit(begins: bytes, server: str) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(VrcodecError, match=r"^http.*/a\.vrc: more than 5,242,880 bytes"):
        storage.read(f"{server}/a.vrc", begins)


def test_files_of_servers_are_refused_at_their_beginning(server: str) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(NotVrcError):
        storage.read(f"{server}/a.vrc", b"VRX")
