"""Code blocks of docs/own_data.md are what the package reads; its commands are run by test_documentation.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.description import DEFAULT_SIGMA, read_description
from litehrnet_cuda.data.mask_description import read_mask_description

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(language: str) -> list[str]:
    text = (DOCS / "own_data.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_descriptions_are_read(tmp_path: Path) -> None:
    full, with_sigmas, masks = blocks("toml")
    file = tmp_path / "table.toml"
    file.write_text(full)
    described = read_description(file)
    assert len(described.keypoint_set) == 4
    assert described.keypoint_set.flip_indices.tolist() == [1, 0, 3, 2]
    assert described.splits["train"].annotations == tmp_path / "annotations" / "train.json"
    assert set(described.keypoint_set.sigmas) == {DEFAULT_SIGMA}
    file.write_text(with_sigmas)
    assert read_description(file).keypoint_set.sigmas == (0.025, 0.025, DEFAULT_SIGMA, DEFAULT_SIGMA)
    file.write_text(masks)
    described_masks = read_mask_description(file)
    assert described_masks.class_set.names == ("ground", "tree", "fruit")
    assert described_masks.splits["val"].masks == tmp_path / "masks" / "val"


def test_annotations_are_read_with_the_description(tmp_path: Path) -> None:
    (annotations,) = blocks("json")
    (tmp_path / "people.json").write_text(annotations)
    (tmp_path / "table.toml").write_text(blocks("toml")[0])
    joints = read_description(tmp_path / "table.toml").keypoint_set
    problems = []
    data = CocoKeypoints(tmp_path / "people.json", tmp_path, joints, on_problem=problems.append)
    assert problems == []
    assert data.people[0].visible.tolist() == [1, 1, 1, 0]
    assert json.loads(annotations)["categories"][0]["keypoints"] == list(joints.names)
    (tmp_path / "kitchen").mkdir()
    cv2.imwrite(str(tmp_path / "kitchen" / "0001.jpg"), np.zeros((720, 1280, 3), np.uint8))
    assert data.read_image(1).shape == (720, 1280, 3)
