"""The checkpoints that others published for Lite-HRNet, and how to get them.

Weights belong to their publishers and are never part of this package; :func:`fetch` downloads them once.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import sha256_of

CACHE_VARIABLE = "LITEHRNET_CUDA_CACHE"

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One row of the table of published checkpoints.

    Args:
        name: what it is called here.
        url: where it lies; the hexadecimal part of the file's name begins the SHA-256 of the file.
        variant: name in the registry.
        num_outputs: joints.
        keypoint_set: the annotation that it was trained on, which names and orders the joints.
        input_size: (width, height) in pixels.
        score: what the publisher measured, in per cent.
        metric: of what.
    """

    name: str
    url: str
    variant: str
    num_outputs: int
    keypoint_set: str
    input_size: tuple[int, int]
    score: float
    metric: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def sha256(self) -> str:
        """The first digits of the file's SHA-256; publishers give no more than eight."""
        match = re.search(r"-([0-9a-f]{8,64})[_.]", self.file_name)
        if match is None:
            raise ValueError(f"{self.name}: expected a hash in the file name, got {self.file_name}")
        return match[1]


# What a name says after the variant: number of joints, keypoint set, and what the score measures.
_DATA_SETS = {
    "coco": (17, "coco", "AP on COCO val2017 with person boxes of 56.4 AP and flip test"),
    "mpii": (16, "mpii", "PCKh@0.5 on MPII val"),
    "hand": (21, "coco_wholebody_hand", "PCK@0.2 on COCO-WholeBody-Hand val"),
}

# Names, files and scores: mmpose 1.x, docs of "Topdown Heatmap + Litehrnet" on COCO, MPII and COCO-WholeBody-Hand.
_SERVER = "https://download.openmmlab.com/mmpose"
_FILES = (
    ("litehrnet_18_coco_256x192", "top_down/litehrnet/litehrnet18_coco_256x192-6bace359_20211230.pth", 64.2),
    ("litehrnet_18_coco_384x288", "top_down/litehrnet/litehrnet18_coco_384x288-8d4dac48_20211230.pth", 67.6),
    ("litehrnet_30_coco_256x192", "top_down/litehrnet/litehrnet30_coco_256x192-4176555b_20210626.pth", 67.6),
    ("litehrnet_30_coco_384x288", "top_down/litehrnet/litehrnet30_coco_384x288-a3aef5c4_20210626.pth", 70.0),
    ("litehrnet_18_mpii_256x256", "top_down/litehrnet/litehrnet18_mpii_256x256-cabd7984_20210623.pth", 85.9),
    ("litehrnet_30_mpii_256x256", "top_down/litehrnet/litehrnet30_mpii_256x256-faae8bd8_20210622.pth", 86.9),
    (
        "litehrnet_18_hand_256x256",
        "hand/litehrnet/litehrnet_w18_coco_wholebody_hand_256x256-d6945e6a_20210908.pth",
        79.5,
    ),
)


def _entry(name: str, file: str, score: float) -> PublishedCheckpoint:
    variant, data_set, size = name.rsplit("_", 2)
    height, width = map(int, size.split("x"))
    num_outputs, keypoint_set, metric = _DATA_SETS[data_set]
    return PublishedCheckpoint(
        name, f"{_SERVER}/{file}", variant, num_outputs, keypoint_set, (width, height), score, metric
    )


PUBLISHED = {name: _entry(name, file, score) for name, file, score in _FILES}


def default_cache_dir() -> Path:
    """``$LITEHRNET_CUDA_CACHE``, or ``litehrnet_cuda`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "litehrnet_cuda"


def fetch(
    name: str,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    base_url: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
) -> Path:
    """Return the file of a published checkpoint, downloading it the first time.

    The download goes to a temporary file, is verified, and only then gets its name, so that what lies in the cache is
    whole. A cached file that does not verify is downloaded again.

    Args:
        name: one of :data:`PUBLISHED`.
        cache_dir: folder to keep files in; :func:`default_cache_dir` by default.
        base_url: folder of a mirror to download from instead of the publisher.
        progress: show a progress bar, where standard error is a terminal.
        timeout: seconds to wait for the server to answer or to go on.

    Raises:
        InputError: the name is unknown, the download failed, or it is not the published file.
    """
    if name not in PUBLISHED:
        raise InputError(
            f"name: expected a published checkpoint, got {name!r}{did_you_mean(name, PUBLISHED)}; "
            f"there are {', '.join(PUBLISHED)}"
        )
    entry = PUBLISHED[name]
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    path = folder / entry.file_name
    if path.is_file() and sha256_of(path).startswith(entry.sha256):
        return path
    url = entry.url if base_url is None else f"{base_url.rstrip('/')}/{entry.file_name}"
    unfinished: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, unfinished_name = tempfile.mkstemp(prefix=f".{entry.file_name}.", suffix=".part", dir=folder)
        unfinished = Path(unfinished_name)
        with os.fdopen(handle, "wb") as file:
            try:
                for chunk in _download(url, progress=progress, timeout=timeout):
                    file.write(chunk)
            except _DownloadError as error:
                raise InputError(
                    f"{url} could not be downloaded ({error}); download it by hand and put it at {path}"
                ) from None
        digest = sha256_of(unfinished)
        if not digest.startswith(entry.sha256):
            raise InputError(
                f"{url}: expected a file whose SHA-256 begins with {entry.sha256}, got {digest[:16]}...; it was not "
                f"kept: try again, or download it by hand and put it at {path}"
            )
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); make room, or name another folder in "
            f"{CACHE_VARIABLE}"
        ) from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
    return path


def published_as(sha256: str) -> PublishedCheckpoint | None:
    """The published checkpoint that a file with this SHA-256, in hexadecimal, is; None for other files."""
    return next((entry for entry in PUBLISHED.values() if sha256.startswith(entry.sha256)), None)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``" (did you mean ...?)"`` with the candidates that ``name`` may be a misspelling of, or nothing."""
    close = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


class _DownloadError(Exception):
    """The network failed, as against the disk."""


def _download(url: str, *, progress: bool, timeout: float) -> Iterator[bytes]:
    from urllib.request import Request, urlopen

    from tqdm import tqdm

    received = 0
    try:
        request = Request(url, headers={"User-Agent": "litehrnet_cuda"})
        with urlopen(request, timeout=timeout) as response:
            announced = response.headers.get("Content-Length")
            total = int(announced) if announced else None
            # disable=None leaves the bar out where standard error is no terminal.
            with tqdm(
                total=total, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[1], disable=None if progress else True
            ) as bar:
                while chunk := response.read(_CHUNK_BYTES):
                    yield chunk
                    received += len(chunk)
                    bar.update(len(chunk))
    # urllib's own errors are OSErrors; ValueError: a mirror's URL that is none.
    except (OSError, HTTPException, ValueError) as error:
        raise _DownloadError(str(error) or type(error).__name__) from error
    # http.client takes a connection that ends early for the end of the file when it is read in pieces.
    if total is not None and received != total:
        raise _DownloadError(f"it ended after {received} of {total} bytes")
