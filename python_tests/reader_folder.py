"""What readers have when they try the documentation's examples, under the names in its text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import mask_cases
import torch
from documentation import ROOT, blocks_of
from sample_checkpoints import to_paddle, write_paddle
from video_files import write_video

from litehrnet_cuda.data.description import read_description
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.data.mask_description import read_mask_description
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.registry import create_model

SIZE = (160, 120)  # of pictures
VARIANT = "naive_litehrnet_18"  # of checkpoints whose network does not matter


def fill_reader_folder(folder: Path) -> None:
    """Writes pictures, a video, a detector, data sets and checkpoints with random weights."""
    torch.manual_seed(0)
    _write_people(folder)
    _write_checkpoints(folder)
    _write_data_of_ones_own(folder)
    write_video(folder / "street.mp4", 3)
    (folder / "my_detector.py").write_text("def people(image):\n    return [[10, 10, 60, 60]]\n")


def _write_people(folder: Path) -> None:
    """COCO, a part of it beside, what `make demo` draws, and a picture with boxes."""
    write_coco(folder / "runs" / "demo" / "data", 2, split="val", size=SIZE)
    for split in ("train2017", "val2017"):
        write_coco(folder / "coco", 2, split=split, size=SIZE)
    shutil.copy(folder / "coco" / "annotations" / "person_keypoints_val2017.json", folder)
    shutil.copytree(folder / "coco" / "val2017", folder / "val2017")
    picture = cv2.imread(str(next((folder / "val2017").iterdir())))
    cv2.imwrite(str(folder / "street.jpg"), cv2.resize(picture, None, fx=4, fy=4))
    boxes = {"street.jpg": [[20, 10, 80, 110]], "street.mp4": [[10, 10, 60, 60]], "kitchen.jpg": [[310, 240, 830, 540]]}
    (folder / "boxes.json").write_text(json.dumps(boxes))


def _write_checkpoints(folder: Path) -> None:
    small = CheckpointMetadata(VARIANT, "pose", 17, COCO, (64, 96))
    save_checkpoint(create_model(VARIANT), folder / "model.safetensors", small)
    shutil.copy(folder / "model.safetensors", folder / "runs" / "demo")
    streets = CheckpointMetadata(VARIANT, "segmentation", 19, head="fcn")
    save_checkpoint(create_model(VARIANT, "segmentation"), folder / "cityscapes.safetensors", streets)
    torch.save({"state_dict": create_model("litehrnet_18").state_dict(), "optimizer": {}}, folder / "epoch_210.pth")
    wider = create_model("wider_naive_litehrnet_18").state_dict()
    write_paddle(to_paddle(dict(wider)), folder / "tinypose_256x192.pdparams")


def _write_data_of_ones_own(folder: Path) -> None:
    """The data sets that docs/own_data.md describes, from its own words, and what is trained with them there."""
    page = blocks_of(ROOT / "docs" / "own_data.md")
    table, _, orchard = (block.text for block in page if block.language == "toml")
    (content,) = (json.loads(block.text) for block in page if block.language == "json")
    (folder / "table.toml").write_text(table)
    (folder / "annotations").mkdir()
    for number, part in enumerate(("train", "val")):
        image = content["images"][0] | {"file_name": f"{part}.jpg"}
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content | {"images": [image]}))
        picture, _ = mask_cases.draw(number, (image["width"], image["height"]))
        (folder / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "images" / image["file_name"]), picture)
    cv2.imwrite(str(folder / "kitchen.jpg"), picture)

    (folder / "orchard.toml").write_text(orchard)
    for part in ("train", "val"):
        mask_cases.write_part(folder, part, 2)
    joints = read_description(folder / "table.toml").keypoint_set
    classes = read_mask_description(folder / "orchard.toml").class_set
    trained = {
        "mine": CheckpointMetadata(VARIANT, "pose", len(joints), joints),
        "orchard": CheckpointMetadata(VARIANT, "segmentation", len(classes), class_set=classes, head="fcn"),
    }
    for run, metadata in trained.items():
        (folder / "runs" / run).mkdir()
        network = create_model(VARIANT, metadata.task, num_outputs=metadata.num_outputs)
        for name in ("model.safetensors", "best.safetensors"):
            save_checkpoint(network, folder / "runs" / run / name, metadata)
