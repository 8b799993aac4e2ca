"""The sets of key points: as published, consistent, and checked when somebody makes one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from litehrnet_cuda.keypoints import COCO, KEYPOINT_SETS, MPII, KeypointSet


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_mirroring_swaps_left_and_right_and_nothing_else(keypoints: KeypointSet) -> None:
    swap = {"left": "right", "right": "left"}
    for name, mirrored in zip(keypoints.names, keypoints.flip_indices, strict=True):
        side, separator, rest = name.partition("_")
        assert keypoints.names[mirrored] == (f"{swap[side]}{separator}{rest}" if side in swap else name)


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_mirroring_twice_changes_nothing(keypoints: KeypointSet) -> None:
    flip = keypoints.flip_indices
    assert flip.dtype == np.int64
    assert np.array_equal(flip[flip], np.arange(len(keypoints)))


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_sides_are_treated_alike(keypoints: KeypointSet) -> None:
    flip = keypoints.flip_indices
    assert np.array_equal(np.array(keypoints.sigmas)[flip], keypoints.sigmas)
    bones = {frozenset(bone) for bone in keypoints.links}
    assert {frozenset(int(flip[k]) for k in bone) for bone in bones} == bones
    assert {int(flip[k]) for k in keypoints.upper_body} == set(keypoints.upper_body)


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_bones_join_all_joints_into_one_body(keypoints: KeypointSet) -> None:
    assert len({frozenset(bone) for bone in keypoints.links}) == len(keypoints.links)
    reached = {0}
    while more := {k for bone in keypoints.links if reached & set(bone) for k in bone} - reached:
        reached |= more
    assert reached == set(range(len(keypoints)))


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_the_upper_body_ends_above_the_hips(keypoints: KeypointSet) -> None:
    lower = {name for k, name in enumerate(keypoints.names) if k not in keypoints.upper_body}
    assert {name.split("_")[-1] for name in lower} == {"hip", "knee", "ankle"} | ({"pelvis"} & set(keypoints.names))


def test_sets_are_found_by_name() -> None:
    assert KEYPOINT_SETS == {"coco": COCO, "mpii": MPII}
    assert (len(COCO), len(MPII)) == (17, 16)
    assert len(set(COCO.names)) == 17
    assert len(set(MPII.names)) == 16


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    # pycocotools divides tenths by ten, which rounds in the last place.
    assert np.allclose(COCO.sigmas, Params(iouType="keypoints").kpt_oks_sigmas, rtol=1e-15, atol=0)


def test_coco_is_as_its_annotation_files_say(shared: Path) -> None:
    category = json.loads((shared / "data" / "coco" / "test_coco.json").read_text())["categories"][0]
    assert category["keypoints"] == list(COCO.names)
    assert category["skeleton"] == [[a + 1, b + 1] for a, b in COCO.links]


def test_mpii_joints_lie_where_their_names_say(shared: Path) -> None:
    people = json.loads((shared / "data" / "mpii" / "test_mpii.json").read_text())
    rows = {name: [] for name in MPII.names}
    for person in people:
        if all(person["joints_vis"]):
            for name, (_, y) in zip(MPII.names, person["joints"], strict=True):
                rows[name].append(y)
    medians = {name: np.median(values) for name, values in rows.items()}
    assert medians["head_top"] < medians["upper_neck"] < medians["thorax"] < medians["pelvis"]
    for side in ("left", "right"):
        assert medians[f"{side}_shoulder"] < medians[f"{side}_hip"] < medians[f"{side}_knee"] < medians[f"{side}_ankle"]


CORNERS = {"name": "table", "names": ("a", "b", "c"), "flip_pairs": ((0, 1),), "sigmas": (0.1, 0.1, 0.2)}


def test_joints_of_ones_own() -> None:
    table = KeypointSet(**CORNERS)
    assert len(table) == 3
    assert table.flip_indices.tolist() == [1, 0, 2]
    assert (table.links, table.upper_body) == ((), ())
    assert table == KeypointSet(**CORNERS)
    assert hash(table) == hash(KeypointSet(**CORNERS))
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.name = "chair"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": (0.1, 0.1)}, r"'table': expected 3 sigmas, one per name, got 2"),
        ({"flip_pairs": ((0, 3),)}, r"'table': expected indices from 0 to 2, got 3"),
        ({"links": ((-1, 0),)}, r"'table': expected indices from 0 to 2, got -1"),
        ({"upper_body": (5,)}, r"'table': expected indices from 0 to 2, got 5"),
        ({"flip_pairs": ((0, 1), (1, 2))}, r"'table': a joint appears in two flip pairs"),
        ({"flip_pairs": ((1, 1),)}, r"'table': a joint appears in two flip pairs"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeypointSet(**(CORNERS | change))
