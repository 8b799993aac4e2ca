"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np
    from plain_executor import Executor
    from spot_network import SpotNetwork
    from xdist.scheduler import LoadFileScheduling

    from litehrnet_cuda.data.coco import CocoKeypoints

# The tests' networks are small, and threads that wait for one another cost more than they bring. Set before torch is
# imported; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Shells start what runs in the background deaf to Ctrl-C, whose effect is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What the tests import and what pytest knows of them is a million objects that stay. Looking through them for garbage
# again and again takes a tenth of the time of a test.
gc.disable()

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared"


WORKER_GIB = 4  # memory of a worker and the compilers that it starts

# Tests that take long and share nothing, so that each is work for another worker.
INDEPENDENT = re.compile(r"::test_mutant\w*_dies\[|/test_ops_memory.py::|/test_packaging.py::")
# What takes minutes begins first, so that at the end no worker is left alone with it.
LONG = re.compile(r"/test_packaging.py::|_address_sanitizer|::test_sanitizers\[")
# Files that would compile the same kernels at the same time.
SHARED_OBJECTS = re.compile(r"/test_(machine_code|persistent_loads).py::")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for `-n auto`
def pytest_xdist_auto_num_workers() -> int:
    """A worker a core, as far as there is memory for them."""
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return max(1, min(len(os.sched_getaffinity(0)), int(gib / WORKER_GIB)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """A worker runs whole files, whose tests share fixtures, in the order of collection: long ones come early."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if SHARED_OBJECTS.search(nodeid):
                return "machine code"
            return nodeid if INDEPENDENT.search(nodeid) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.search(item.nodeid) is None)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries look for leaks at the end


@pytest.fixture(autouse=True, scope="module")
def _own_kernels_of_the_cpu() -> Iterator[None]:
    """What a module's tests put in the place of the CPU's kernels does not outlast them."""
    yield
    emulated_ops = sys.modules.get("emulated_ops")
    if emulated_ops is not None:
        emulated_ops.unload()


@pytest.fixture
def golden() -> Path:
    """The folder of reference data that is committed with the tests."""
    return GOLDEN


@pytest.fixture
def shared() -> Path:
    """The folder of larger reference data beside the repository; the test skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("needs the reference data in ../shared, which is not here")
    return SHARED


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder with a split `val` of four small images of drawn people."""
    from litehrnet_cuda.data.generated.coco_folder import write_coco

    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder, 4, split="val", size=(160, 120))
    return folder


@pytest.fixture(scope="session")
def people(coco_folder: Path) -> CocoKeypoints:
    """The people of ``coco_folder``."""
    from litehrnet_cuda.data.coco import CocoKeypoints

    return CocoKeypoints(coco_folder / "annotations" / "person_keypoints_val.json", coco_folder / "val")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for inputs of 64x96 pixels, saved with its metadata."""
    import torch

    from litehrnet_cuda.keypoints import COCO
    from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
    from litehrnet_cuda.models.registry import create_model

    torch.manual_seed(0)
    metadata = CheckpointMetadata("naive_litehrnet_18", "pose", 17, COCO, (64, 96))
    file = tmp_path_factory.mktemp("checkpoint") / "naive.safetensors"
    return save_checkpoint(create_model(metadata.variant), file, metadata)


@pytest.fixture
def small_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows the small network of ``export_cases``."""
    from export_cases import SMALL

    from litehrnet_cuda.models.litehrnet import VARIANTS

    monkeypatch.setitem(VARIANTS, SMALL.name, SMALL)


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as an ONNX file for any number of images; the test skips without what exports them."""
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    from export_cases import METADATA, SIZE, small_network

    from litehrnet_cuda.export.onnx_file import export_onnx
    from litehrnet_cuda.export.shape import InputShape

    file = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_onnx(small_network(), file, METADATA, InputShape(SIZE))
    return file


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Executor:
    """A backend that runs plans on the CPU, by the plain executor."""
    import plain_executor

    return plain_executor.install(monkeypatch)


@pytest.fixture
def spots() -> SpotNetwork:
    """A network that finds the brightest spot."""
    from spot_network import SpotNetwork

    return SpotNetwork()


@pytest.fixture
def street() -> np.ndarray[Any, Any]:
    """An image of noise, 160x120 pixels."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
