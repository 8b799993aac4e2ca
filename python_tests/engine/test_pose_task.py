"""Training for poses, as a run sees it; whole runs are in test_run.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.mpii import MpiiKeypoints
from litehrnet_cuda.engine.distributed import ALONE
from litehrnet_cuda.engine.pose_task import PoseTask
from litehrnet_cuda.engine.recipe import Recipe
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import save_checkpoint

CPU = torch.device("cpu")
RECIPE = Recipe("naive_litehrnet_18", (64, 32), 1.0, "udp")


def test_network_data_and_loss_go_together(people: CocoKeypoints) -> None:
    task = PoseTask(RECIPE, people, people)
    assert (task.samples, task.metadata.keypoint_set, task.remarks) == (len(people.people), COCO, [])
    batch = {name: value[None] for name, value in task.dataset()[0].items()}
    loss = task.loss(task.create_network(CPU)(torch.cat([batch["image"]] * 2)), batch)
    assert torch.isfinite(loss)
    assert set(task.digests) == {"train", "val"}
    assert task.measure != PoseTask(replace(RECIPE, flip_test=False), people, people).measure


def test_checkpoints_say_how_boxes_were_clipped(people: CocoKeypoints, shared: Path) -> None:
    assert PoseTask(RECIPE, people, people).metadata.box_convention == "mmpose1"
    recipe = replace(RECIPE, box_convention="official")
    official = CocoKeypoints(people.annotation_file, people.image_dir, box_convention="official")
    assert PoseTask(recipe, official, official).metadata.box_convention == "official"
    mpii = MpiiKeypoints(shared / "data" / "mpii" / "test_mpii.json", shared / "data" / "mpii")
    assert PoseTask(recipe, mpii, mpii).metadata.box_convention is None, "its boxes are not clipped"


def test_a_network_and_its_file_are_measured_alike(people: CocoKeypoints, tmp_path: Path) -> None:
    task = PoseTask(RECIPE, people, people)
    network = task.create_network(CPU).eval()
    file = save_checkpoint(network, tmp_path / "model.safetensors", task.metadata)
    one, other = (task.evaluate(task.predictor(source, CPU), ALONE, False) for source in (network, file))
    assert one.metrics == other.metrics
    assert task.details(one) == {"boxes": "annotated", "flip_test": True}
    assert one.measured_in == "annotated boxes"
    assert all(picture.ndim == 3 for picture in task.pictures(task.predictor(network, CPU), one))
