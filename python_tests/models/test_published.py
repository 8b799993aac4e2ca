"""Published checkpoints and their download, from a server in this process."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models import published
from litehrnet_cuda.models.checkpoints import load_checkpoint
from litehrnet_cuda.models.published import PUBLISHED, default_cache_dir, fetch, published_as
from litehrnet_cuda.models.registry import create_model, list_models

NAME = "litehrnet_18_coco_256x192"


@dataclass
class Server:
    """What the server sends, and what it was asked for."""

    body: bytes = b""
    announced: int | None = None  # the length in the header; that of the body by default
    status: int = 200
    stalls: bool = False
    url: str = ""
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.body) if state.announced is None else state.announced))
            self.end_headers()
            self.wfile.write(state.body)
            self.wfile.flush()
            if state.stalls:
                released.wait(30)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/mirror/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    released.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def body(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file that is published under ``NAME``, with its hash in its name as mmpose has it."""
    content = bytes(range(256)) * 1000
    publish(monkeypatch, content)
    return content


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"http://127.0.0.1:9/litehrnet18_coco_256x192-{digest}_20211230.pth"
    monkeypatch.setitem(PUBLISHED, NAME, replace(PUBLISHED[NAME], url=url))


def assert_fails(server: Server, cache: Path, words: str, timeout: float = 30) -> None:
    """The download fails with one sentence that says what to do, and leaves nothing behind."""
    with pytest.raises(InputError, match=words) as caught:
        fetch(NAME, cache, base_url=server.url, timeout=timeout)
    message = str(caught.value)
    assert "\n" not in message
    assert server.url + PUBLISHED[NAME].file_name in message
    assert f"download it by hand and put it at {cache / PUBLISHED[NAME].file_name}" in message
    assert list(cache.iterdir()) == []


def test_table() -> None:
    for name, entry in PUBLISHED.items():
        assert entry.name == name
        assert entry.variant in list_models()
        assert len(entry.sha256) == 8
        assert entry.url.startswith("https://")
        assert entry.sha256 in entry.file_name
    coco = PUBLISHED["litehrnet_30_coco_384x288"]
    assert (coco.variant, coco.num_outputs, coco.keypoint_set, coco.score) == ("litehrnet_30", 17, "coco", 70.0)
    assert coco.input_size == (288, 384)  # width, height
    assert coco.sha256 == "a3aef5c4"
    assert PUBLISHED["litehrnet_18_mpii_256x256"].num_outputs == 16
    assert PUBLISHED["litehrnet_18_hand_256x256"].num_outputs == 21


def test_downloads_once(server: Server, body: bytes, tmp_path: Path) -> None:
    server.body = body
    path = fetch(NAME, tmp_path / "a" / "cache", base_url=server.url)
    assert path.read_bytes() == body
    assert [file.name for file in path.parent.iterdir()] == [PUBLISHED[NAME].file_name]
    assert server.requests == [f"/mirror/{PUBLISHED[NAME].file_name}"]
    assert fetch(NAME, path.parent, base_url=server.url) == path
    assert len(server.requests) == 1


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, body: bytes, tmp_path: Path) -> None:
    server.body = body
    (tmp_path / PUBLISHED[NAME].file_name).write_bytes(body[:100])
    assert fetch(NAME, tmp_path, base_url=server.url).read_bytes() == body


def test_wrong_hash(server: Server, body: bytes, tmp_path: Path) -> None:
    server.body = body[:-1] + b"?"
    assert_fails(server, tmp_path, f"SHA-256 begins with {PUBLISHED[NAME].sha256}")


def test_truncated_body(server: Server, body: bytes, tmp_path: Path) -> None:
    server.body, server.announced = body[:1000], len(body)
    assert_fails(server, tmp_path, f"ended after 1000 of {len(body)} bytes|1000 bytes read")


def test_not_found(server: Server, body: bytes, tmp_path: Path) -> None:
    server.status = 404
    assert_fails(server, tmp_path, "404")


def test_no_server(server: Server, body: bytes, tmp_path: Path) -> None:
    server.url = "http://127.0.0.1:9/"  # the discard port: nobody listens
    assert_fails(server, tmp_path, "refused")


def test_server_that_stops_sending(server: Server, body: bytes, tmp_path: Path) -> None:
    server.body, server.announced, server.stalls = body[:1000], len(body), True
    start = time.monotonic()
    assert_fails(server, tmp_path, "timed out", timeout=0.3)
    assert time.monotonic() - start < 10


def test_interruption_leaves_nothing(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(url: str, **options: object) -> Iterator[bytes]:
        yield body[:1000]
        # Halfway, the file is there under another name.
        assert [file.suffix for file in tmp_path.iterdir()] == [".part"]
        raise KeyboardInterrupt

    monkeypatch.setattr(published, "_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mirror_whose_url_is_none(server: Server, body: bytes, tmp_path: Path) -> None:
    server.url = "weights.example/"
    assert_fails(server, tmp_path, "unknown url type")


def test_cache_that_cannot_be_written(server: Server, body: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written .* LITEHRNET_CUDA_CACHE"):
        fetch(NAME, tmp_path / "file", base_url=server.url)
    assert server.requests == []


def test_disk_that_takes_no_more(server: Server, body: bytes, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    server.body = body
    # A limit on the size of files stands for a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(body) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match=rf"{tmp_path}: cannot be written \(File too large\); make room"):
            fetch(NAME, tmp_path, base_url=server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_misspelt_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean litehrnet_18_coco_256x192"):
        fetch("litehrnet18_coco_256x192", tmp_path)


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LITEHRNET_CUDA_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_cache_dir() == tmp_path / "a"
    monkeypatch.delenv("LITEHRNET_CUDA_CACHE")
    assert default_cache_dir() == tmp_path / "b" / "litehrnet_cuda"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "litehrnet_cuda"


def test_names_load_like_paths(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = create_model("litehrnet_18")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    server.body = (tmp_path / "weights.pth").read_bytes()
    publish(monkeypatch, server.body)
    url = server.url + PUBLISHED[NAME].file_name
    monkeypatch.setitem(PUBLISHED, NAME, replace(PUBLISHED[NAME], url=url))
    monkeypatch.setenv("LITEHRNET_CUDA_CACHE", str(tmp_path / "cache"))
    report = load_checkpoint(create_model("litehrnet_18"), NAME)
    assert report.path == tmp_path / "cache" / PUBLISHED[NAME].file_name
    assert report.loaded == len(model.state_dict())


def test_a_file_is_recognised_by_its_checksum() -> None:
    for entry in PUBLISHED.values():
        assert published_as(entry.sha256 + (64 - len(entry.sha256)) * "0") is entry
    assert published_as(64 * "0") is None
