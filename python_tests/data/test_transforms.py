"""Boxes, warps, crops and normalisation against mmpose 1.x and mmpose 0.13."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.transforms import (
    boxes_to_centers_scales,
    clip_annotated_boxes,
    crop,
    keypoints_to_image,
    mpii_boxes,
    normalize,
    warp_keypoints,
    warp_matrix,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from litehrnet_cuda.errors import InputError

# Coordinates lie below 2048 and are stored as float32: at most one unit in the last place.
ONE_ULP = 2.0**-13


@pytest.fixture(scope="module")
def stored():
    return json.loads((Path(__file__).parents[1] / "golden" / "pipeline" / "affine.json").read_text())


def image_sizes(shared) -> dict[str, tuple[int, int]]:
    images = json.loads((shared / "data" / "coco" / "test_coco.json").read_text())["images"]
    return {image["file_name"]: (image["width"], image["height"]) for image in images}


def test_boxes_centers_and_scales_equal_mmpose_1(stored, shared):
    sizes = image_sizes(shared)
    for item in stored:
        if item["dataset"] == "coco":
            box = clip_annotated_boxes(item["raw_bbox_xywh"], sizes[item["image"]], convention="mmpose1")
            np.testing.assert_allclose(box, item["bbox_xyxy"], rtol=0, atol=ONE_ULP)
        else:
            box = np.array(item["bbox_xyxy"])
        center, scale = boxes_to_centers_scales(box, tuple(item["input_size"]))
        np.testing.assert_allclose(center, item["center"], rtol=0, atol=ONE_ULP)
        np.testing.assert_allclose(scale, item["scale"], rtol=0, atol=ONE_ULP)


def test_warps_equal_mmpose_1_bit_by_bit(stored):
    assert {item["udp"] for item in stored} == {False, True}
    for item in stored:
        arguments = (item["center"], item["scale"], tuple(item["input_size"]))
        matrix = warp_matrix(*arguments, udp=item["udp"])
        np.testing.assert_array_equal(matrix, item["warp_matrix"])
        np.testing.assert_array_equal(warp_matrix(*arguments, rotation=30, udp=item["udp"]), item["warp_matrix_rot30"])
        points = np.array(item["transformed_keypoints"]).reshape(-1, 2)
        np.testing.assert_allclose(warp_keypoints(item["keypoints"], matrix), points, rtol=0, atol=ONE_ULP)


def test_crops_equal_mmpose_1(shared):
    # The committed copy lacks the thumbnails of images that are not free.
    for item in json.loads((shared / "golden" / "pipeline" / "affine.json").read_text()):
        image = cv2.imread(str(shared / "data" / item["dataset"] / item["image"]))
        size = tuple(item["input_size"])
        pixels = crop(image, warp_matrix(item["center"], item["scale"], size, udp=item["udp"]), size)
        assert list(pixels.shape) == item["crop"]["shape"]
        # Means in float64 of about 50,000 bytes: one grey level in one pixel would be 2e-5.
        np.testing.assert_allclose(pixels.mean(axis=(0, 1)), item["crop"]["mean_bgr"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(pixels.std(axis=(0, 1)), item["crop"]["std_bgr"], rtol=0, atol=1e-9)
        small = cv2.resize(pixels.astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA)
        # The area filter rounds to float32 (and the reference to 3 decimals).
        np.testing.assert_allclose(small, item["crop"]["area_resized_8x8_bgr"], rtol=0, atol=6e-4)


@pytest.mark.parametrize(("name", "udp"), [("coco785_default", False), ("coco785_udp", True)])
def test_whole_crops_equal_mmpose_1_bit_by_bit(stored, golden, shared, name, udp):
    item = next(item for item in stored if item["image"] == "000000000785.jpg" and item["udp"] == udp)
    image = cv2.imread(str(shared / "data" / "coco" / item["image"]))
    pixels = crop(image, warp_matrix(item["center"], item["scale"], (192, 256), udp=udp), (192, 256))
    with np.load(golden / "pipeline" / "crops_coco785.npz") as crops:
        np.testing.assert_array_equal(pixels, crops[name])


def test_normalization_equals_mmpose_1(golden):
    expected = json.loads((golden / "pipeline" / "preprocess.json").read_text())
    with np.load(golden / "pipeline" / "crops_coco785.npz") as crops:
        pixels = normalize(crops["coco785_default"])
    assert pixels.shape == (3, 256, 192)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[:, 128, 96], np.float32(expected["pixel_row128_col96_rgb"]))
    # The reference averaged 49,152 values in float32, which costs about 1e-4; one grey level would be 1.7e-2.
    np.testing.assert_allclose(pixels.mean(axis=(1, 2), dtype=np.float64), expected["channel_means"], atol=1e-4)
    np.testing.assert_allclose(pixels.std(axis=(1, 2), dtype=np.float64), expected["channel_stds"], atol=1e-4)


def test_regions_equal_mmpose_0_13(golden, shared):
    stored = json.loads((golden / "pipeline" / "official_mmpose0_13_affine.json").read_text())
    sizes, data = image_sizes(shared), shared / "data"
    names = {
        image["id"]: image["file_name"]
        for image in json.loads((data / "coco" / "test_coco.json").read_text())["images"]
    }
    annotated = [
        (
            names[person["image_id"]],
            clip_annotated_boxes(person["bbox"], sizes[names[person["image_id"]]], convention="official"),
        )
        for person in json.loads((data / "coco" / "test_coco.json").read_text())["annotations"]
        if max(person["keypoints"]) and not person["iscrowd"]
    ]
    detected = [
        (names[box["image_id"]], xywh_to_xyxy(box["bbox"]))
        for box in json.loads((data / "coco" / "test_coco_det_AP_H_56.json").read_text())
    ]
    people = [
        (person["image"], mpii_boxes(person["center"], person["scale"]))
        for person in json.loads((data / "mpii" / "test_mpii.json").read_text())
    ]
    candidates = {("coco", "annotations"): annotated, ("coco", "detections"): detected, ("mpii", "annotations"): people}
    for item in stored:
        size = tuple(item["input_size"])
        regions = [
            boxes_to_centers_scales(box, size)
            for name, box in candidates[item["dataset"], item["source"]]
            if name == item["image"]
        ]
        center, scale = min(
            regions,
            key=lambda region: np.abs(
                np.append(*region) - [*item["center"], *np.array(item["scale_over_200"]) * 200]
            ).max(),
        )
        np.testing.assert_allclose(center, item["center"], rtol=0, atol=ONE_ULP)
        # Stored as a float32 fraction of 200 pixels.
        np.testing.assert_allclose(scale, 200 * np.array(item["scale_over_200"]), rtol=2e-7, atol=0)
        # mmpose 0.13 solves for another triple of points, each rounded to float32. Eight such roundings, in crop
        # pixels: 2e-4 for people of ordinary size, 4e-3 for the smallest box, 10 pixels wide near x = 600.
        corners = (np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)]) * scale / 2 + center).astype(np.float64)
        ours, theirs = (
            corners @ np.array(matrix)[:, :2].T + np.array(matrix)[:, 2]
            for matrix in (warp_matrix(center, scale, size), item["warp_matrix"])
        )
        resolution = 2.0**-24 * np.abs(corners).max() / scale[0] * size[0]
        assert np.abs(ours - theirs).max() <= 8 * resolution


def test_the_conventions_differ_by_half_a_pixel():
    boxes = np.array([[10.0, 20.0, 50.0, 100.0]])
    official = clip_annotated_boxes(boxes, (640, 480), convention="official")
    mmpose1 = clip_annotated_boxes(boxes, (640, 480), convention="mmpose1")
    np.testing.assert_array_equal(mmpose1, [[10, 20, 60, 120]])
    np.testing.assert_array_equal(official, [[10, 20, 59, 119]])
    np.testing.assert_array_equal(clip_annotated_boxes(boxes, (640, 480)), mmpose1)


@pytest.mark.parametrize("convention", ["official", "mmpose1"])
def test_boxes_are_clipped_to_the_image(convention):
    boxes = clip_annotated_boxes(np.array([[-5.0, -5.0, 700.0, 500.0]]), (640, 480), convention=convention)
    np.testing.assert_array_equal(boxes, [[0, 0, 639, 479]])


def test_box_forms_undo_each_other():
    boxes = np.random.default_rng(0).integers(0, 99, (5, 4))
    np.testing.assert_array_equal(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes)


@pytest.mark.parametrize("udp", [False, True])
def test_key_points_return_to_the_image(udp):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 300, (6, 2))], axis=1)
    centers, scales = boxes_to_centers_scales(boxes, (192, 256))
    points = rng.uniform(0, 600, (6, 17, 2)).astype(np.float32)
    in_crop = np.stack(
        [
            warp_keypoints(p, warp_matrix(c, s, (192, 256), udp=udp))
            for p, c, s in zip(points, centers, scales, strict=True)
        ]
    )
    if udp:  # decode_heatmaps(decoder="udp") gives positions in this form
        in_crop = in_crop / (191, 255) * (192, 256)
    # Two float32 roundings of coordinates up to a few thousand crop pixels, at most 2 image pixels per crop pixel.
    np.testing.assert_allclose(
        keypoints_to_image(in_crop, centers, scales, (192, 256)), points, rtol=0, atol=4 * ONE_ULP
    )


def test_rotation_turns_about_the_centre():
    center, scale = np.array([100, 120]), np.array([150, 200])
    for udp, middle in ((False, (96, 128)), (True, (95.5, 127.5))):
        for rotation in (0, 30, -75):
            matrix = warp_matrix(center, scale, (192, 256), rotation=rotation, udp=udp)
            np.testing.assert_allclose(matrix @ [100, 120, 1], middle, atol=1e-3)  # float32 matrix times 100 pixels


@pytest.mark.parametrize(
    ("box", "shown"),
    [([10, 10, 10, 20], r"\[10.0, 10.0, 10.0, 20.0\]"), ([0, 0, np.nan, 5], "nan"), ([0, 0, np.inf, 5], "inf")],
)
def test_says_which_box_is_wrong(box, shown):
    with pytest.raises(
        InputError, match=f"boxes: expected finite .* with left < right and top < bottom, got .*{shown}.* for box 1"
    ):
        boxes_to_centers_scales(np.array([[0, 0, 5, 5], box], dtype=float), (192, 256))


def test_says_what_is_wrong():
    with pytest.raises(InputError, match=r"boxes: expected shape \[N, 4\] .*, got \[2, 5\]"):
        boxes_to_centers_scales(np.zeros((2, 5)), (192, 256))
    with pytest.raises(
        InputError, match=r"image: expected uint8 of shape \[H, W, 3\] \(BGR\), got float32 of shape \[8, 8, 3\]"
    ):
        crop(np.zeros((8, 8, 3), np.float32), np.eye(2, 3), (4, 4))
    with pytest.raises(InputError, match="box_convention: expected one of official, mmpose1, got 'coco'"):
        clip_annotated_boxes(np.ones(4), (9, 9), convention="coco")
