"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from litehrnet_cuda.data.coco import CocoKeypoints

# The tests' networks are small, and threads that wait for one another cost more than they bring. Set before torch is
# imported; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared"


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
