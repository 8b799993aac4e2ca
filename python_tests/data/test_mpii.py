"""Reading of MPII's converted annotations: the real ones, head sizes, and every mistake that we name."""

from __future__ import annotations

import copy
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.data.mpii import MpiiKeypoints, read_head_sizes
from litehrnet_cuda.data.pose_dataset import NO_AUGMENTATION, PersonCrops, PoseDataset
from litehrnet_cuda.data.transforms import boxes_to_centers_scales, warp_matrix
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII, KeypointSet

TWO = KeypointSet(name="two", names=("left", "right"), flip_pairs=((0, 1),), sigmas=(0.05, 0.05))


def person(**fields: Any) -> dict[str, Any]:
    base = {"image": "a.jpg", "center": [50.0, 60.0], "scale": 0.5, "joints": [[11, 21], [31, 41]]}
    return base | {"joints_vis": [1, 1]} | fields


def read(folder: Path, people: Any, **options: Any) -> MpiiKeypoints:
    file = folder / "mpii_val.json"
    file.write_text(json.dumps(people))
    return MpiiKeypoints(file, folder, TWO, **options)


def test_positions_are_counted_from_0(tmp_path: Path) -> None:
    data = read(tmp_path, [person(), person(image="b.jpg"), person(joints_vis=[0, 1])])
    first, third, second = data.people  # those of one image in sequence
    np.testing.assert_array_equal(first.keypoints, [[10, 20], [30, 40]])
    # 100 pixels high and wide, 7.5 pixels lower than annotated, and one less for the count from 0
    np.testing.assert_array_equal(first.box, [-1, 16.5, 99, 116.5])
    assert [(p.annotation_id, p.image_id) for p in (first, second, third)] == [(0, 1), (1, 2), (2, 1)]
    assert third.visible.tolist() == [0, 1]
    assert {key: image.path.name for key, image in data.images.items()} == {1: "a.jpg", 2: "b.jpg"}
    assert first.head_size is None
    assert repr(data) == "MpiiKeypoints(mpii_val.json: 2 images, 3 people, 2 joints of 'two')"


def test_leaves_out_whom_nobody_can_find(tmp_path: Path) -> None:
    data = read(tmp_path, [person(center=[-1, -1]), person(joints_vis=[0, 0]), person()])
    assert [found.annotation_id for found in data.people] == [2]


def test_reads_the_real_file_as_the_published_code_does(shared: Path, golden: Path) -> None:
    folder = shared / "data" / "mpii"
    data = MpiiKeypoints(folder / "test_mpii.json", folder)
    assert data.keypoint_set is MPII
    pipeline = golden / "pipeline"
    mmpose1 = [item for item in json.loads((pipeline / "affine.json").read_text()) if item["dataset"] == "mpii"]
    official = json.loads((pipeline / "official_mmpose0_13_affine.json").read_text())
    official = [item for item in official if item["dataset"] == "mpii"]
    assert len(data.people) == len(mmpose1) == len(official) == 5
    for found, new, old in zip(data.people, mmpose1, official, strict=True):
        # float32 coordinates below 2048
        np.testing.assert_allclose(found.box, new["bbox_xyxy"], rtol=0, atol=2.0**-13)
        assert data.images[found.image_id].path.name == new["image"] == old["image"]
        # mmpose 1.x leaves the joints counted from 1, mmpose 0.x does not, and nor do we.
        np.testing.assert_allclose(found.keypoints, old["keypoints_0_based"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.keypoints, np.array(new["keypoints"]) - 1, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(found.visible, new["keypoints_visible"])
        matrix = warp_matrix(*boxes_to_centers_scales(found.box, (256, 256)), (256, 256))
        # float32 coordinates of up to 2000 pixels, at 0.2 crop pixels each
        np.testing.assert_allclose(matrix, old["warp_matrix"], rtol=0, atol=2e-3)


def test_real_people_become_crops(shared: Path) -> None:
    folder = shared / "data" / "mpii"
    data = MpiiKeypoints(folder / "test_mpii.json", folder)
    training = PoseDataset(data, (256, 256), augmentation=NO_AUGMENTATION)
    evaluation = PersonCrops(data, data.people, (256, 256))
    for index in range(len(data.people)):
        sample = training[index]
        assert list(sample["heatmaps"].shape) == [16, 64, 64]
        assert (sample["image"] == evaluation[index]["image"]).all()
        inside = sample["heatmaps"].flatten(1).amax(1)[sample["weights"] > 0]
        assert (inside == 1).all()  # every joint of these people lies in their crop


# ---------------------------------------------------------------------------------------------------- head sizes


def with_scipy(monkeypatch: pytest.MonkeyPatch, content: dict[str, Any] | Exception) -> None:
    def loadmat(file: Path) -> dict[str, Any]:
        if isinstance(content, Exception):
            raise content
        return content

    module = types.ModuleType("scipy.io")
    module.loadmat = loadmat  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scipy", types.ModuleType("scipy"))
    monkeypatch.setitem(sys.modules, "scipy.io", module)


def heads(count: int) -> dict[str, Any]:
    """Head boxes of 30 x 40, 60 x 80, ... pixels; their diagonals are 50, 100, ..."""
    sides = np.arange(1, count + 1) * np.array([[30], [40]])
    return {"headboxes_src": np.stack([np.full((2, count), 7), 7 + sides]).astype(np.uint16)}


def test_head_sizes_lie_beside_the_validation_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mpii_gt_val.mat").touch()
    with_scipy(monkeypatch, heads(3))
    data = read(tmp_path, [person(), person(joints_vis=[0, 0]), person()])
    assert [found.head_size for found in data.people] == [30, 90]  # 0.6 of the diagonal, of the right people


def test_matlab_files_are_read(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    io.savemat(tmp_path / "mpii_gt_val.mat", heads(2))
    np.testing.assert_allclose(read_head_sizes(tmp_path / "mpii_val.json", 2), [30, 60])


def test_a_field_is_a_head_size_too(tmp_path: Path) -> None:
    data = read(tmp_path, [person(head_size=12.5), person()])
    assert [found.head_size for found in data.people] == [12.5, None]


def test_no_scipy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mpii_gt_val.mat").touch()
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"mpii_gt_val\.mat: .* needs SciPy: pip install 'litehrnet_cuda\[mpii\]'"):
        read(tmp_path, [person()])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ValueError("Unknown mat file type"), r"expected a MATLAB file with headboxes_src \(Unknown mat file type\)"),
        ({}, r"expected a MATLAB file with headboxes_src \('headboxes_src'\)"),
        (heads(2), r"headboxes_src: expected shape \[2, 2, 1\], .* of mpii_val\.json, got \[2, 2, 2\]"),
    ],
)
def test_head_sizes_that_cannot_be_used_are_said(
    content: dict[str, Any] | Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mpii_gt_val.mat").touch()
    with_scipy(monkeypatch, content)
    with pytest.raises(InputError, match=message):
        read(tmp_path, [person()])


# ---------------------------------------------------------------------------------------------------- mistakes


def without(field: str) -> dict[str, Any]:
    result = copy.deepcopy(person())
    del result[field]
    return result


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "expected an object, got nothing"),
        (person(image=3), "image: expected the name of a file, got 3"),
        (without("center"), "center: the field is missing"),
        (person(center=[1]), "center: expected 2 finite numbers .*, got 1 values"),
        (without("scale"), "scale: the field is missing"),
        (person(scale=0), "scale: expected a positive number, got 0"),
        (without("joints"), "joints: the list is missing"),
        (person(joints=[[1, 2]]), "joints: expected 2 pairs of finite numbers .*, got 1 values"),
        (person(joints=[[1, 2], [3, None]]), r"joints: expected 2 pairs .*, got \[3, None\] among them"),
        (person(joints_vis=[1, 2]), r"joints_vis: expected 2 numbers, 0 or 1, got \[1, 2\]"),
        (person(joints_vis=[1]), "joints_vis: expected 2 numbers, 0 or 1, got 1 values"),
        (person(head_size=0), "head_size: expected a positive number, got 0"),
        (person(head_size="big"), "head_size: expected a finite number, got 'big'"),
    ],
)
def test_says_what_is_wrong(entry: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"mpii_val\.json: person 1: {message}"):
        read(tmp_path, [person(), entry])
    problems: list[Any] = []
    data = read(tmp_path, [person(), entry, person()], on_problem=problems.append)
    assert [found.annotation_id for found in data.people] == [0, 2]
    assert len(problems) == 1


def test_says_that_the_file_has_another_form(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mpii_val\.json: expected a list of people, got an object"):
        read(tmp_path, {})
    read(tmp_path, [person()])
    with pytest.raises(InputError, match="absent: expected the folder of the images"):
        MpiiKeypoints(tmp_path / "mpii_val.json", tmp_path / "absent", TWO)


def test_all_mistakes_of_a_person_are_collected(tmp_path: Path) -> None:
    problems: list[Any] = []
    read(tmp_path, [person(center=[], scale="tall", joints={})], on_problem=problems.append)
    assert [problem.kind for problem in problems] == [
        "center is not 2 finite numbers (x, y)",
        "scale is not a finite number",
        "joints is not a list",
    ]
