from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from export_cases import METADATA, SIZE
from mask_cases import write_part

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.transforms import normalize
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.calibration import calibration_images
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

SEGMENTATION = CheckpointMetadata("litehrnet_18", "segmentation", 2)


@pytest.mark.parametrize("source", ["annotations/person_keypoints_val.json", ""])
def test_people_are_cut_out_as_the_network_sees_them(
    source: str, coco_folder: Path, people: CocoKeypoints, checkpoint: Path
) -> None:
    images = list(calibration_images(coco_folder / source, METADATA, SIZE))
    assert len(images) == len(people.people)
    seen: list[torch.Tensor] = []
    estimator = PoseEstimator(checkpoint=checkpoint, input_size=SIZE, device="cpu", optimize=False)
    estimator.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    first = people.people[0]
    estimator(people.read_image(first.image_id), first.box[None])
    assert torch.equal(images[0], seen[0])


def test_so_many_are_taken_from_all_over(coco_folder: Path, people: CocoKeypoints) -> None:
    everybody = list(calibration_images(coco_folder, METADATA, SIZE))
    first, last = calibration_images(coco_folder, METADATA, SIZE, count=2)
    assert torch.equal(first, everybody[0])
    assert torch.equal(last, everybody[-1])


def test_images_are_read_when_they_are_asked_for(street: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), street)
    images = calibration_images(tmp_path, SEGMENTATION, SIZE)
    (tmp_path / "b.png").unlink()
    assert images[0].shape == (1, 3, SIZE[1], SIZE[0])
    with pytest.raises(InputError, match=r"b\.png"):
        images[1]


def test_whole_images_serve_every_task(street: np.ndarray, checkpoint: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), street)
    (resized,) = calibration_images(tmp_path, SEGMENTATION, SIZE)
    assert np.array_equal(resized[0].numpy(), normalize(cv2.resize(street, SIZE)))
    (whole,) = calibration_images(tmp_path, METADATA, SIZE)
    seen: list[torch.Tensor] = []
    estimator = PoseEstimator(checkpoint=checkpoint, input_size=SIZE, device="cpu", optimize=False)
    estimator.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    estimator(street)
    assert torch.equal(whole, seen[0])


def test_images_of_a_data_set_of_masks(tmp_path: Path, coco_folder: Path) -> None:
    write_part(tmp_path, "train", 3)
    write_part(tmp_path, "val", 2)
    images = list(calibration_images(tmp_path, SEGMENTATION, SIZE))
    files = [tmp_path / "images" / "train" / f"{number}.png" for number in range(3)]
    for found, file in zip(images, files, strict=True):
        assert np.array_equal(found[0].numpy(), normalize(cv2.resize(cv2.imread(str(file)), SIZE)))
    assert len(list(calibration_images(coco_folder, SEGMENTATION, SIZE))) == 4, "the drawn people, who have masks too"


def test_nothing_to_calibrate_with_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected images"):
        calibration_images(tmp_path, METADATA, SIZE)
    with pytest.raises(InputError, match="there is no such file"):
        calibration_images(tmp_path / "nowhere", SEGMENTATION, SIZE)
