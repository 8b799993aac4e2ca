"""Descriptions of data sets: what they say, and every mistake that can be made in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from litehrnet_cuda.data.description import DEFAULT_SIGMA, read_description
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, MPII

JOINTS = 'name = "dog"\njoints = ["nose", "left_ear", "right_ear"]\n'
TRAIN = '[train]\nannotations = "a/train.json"\nimages = "pictures"\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "dog.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    text = """
        flip_pairs = [["left_ear", "right_ear"]]
        skeleton = [["nose", "left_ear"], ["nose", "right_ear"]]
        upper_body = ["nose"]
        sigmas = 0.05
        [val]
        annotations = "val.json"
        images = "/elsewhere"
    """
    described = read_description(write(tmp_path, JOINTS + text + TRAIN))
    joints = described.keypoint_set
    assert (joints.name, joints.names) == ("dog", ("nose", "left_ear", "right_ear"))
    assert (joints.flip_pairs, joints.links, joints.upper_body) == (((1, 2),), ((0, 1), (0, 2)), (0,))
    assert joints.sigmas == (0.05,) * 3
    train, val = described.splits["train"], described.splits["val"]
    assert (train.annotations, train.images) == (tmp_path / "a/train.json", tmp_path / "pictures")
    assert (val.annotations, val.images) == (tmp_path / "val.json", Path("/elsewhere"))


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    described = read_description(str(write(tmp_path, JOINTS + TRAIN)))
    joints = described.keypoint_set
    assert (joints.flip_pairs, joints.links, joints.upper_body) == ((), (), ())
    assert joints.sigmas == (DEFAULT_SIGMA,) * 3
    assert list(described.splits) == ["train"]
    assert pytest.approx(sum(COCO.sigmas) / 17, abs=5e-4) == DEFAULT_SIGMA


@pytest.mark.parametrize("known", [COCO, MPII])
def test_known_joints_need_only_their_name(known, tmp_path: Path) -> None:
    assert read_description(write(tmp_path, f'name = "{known.name}"\n{TRAIN}')).keypoint_set is known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = \n", r"not valid TOML: .*line 1, column 8"),
        (TRAIN, r'name: expected a name such as "table", got None'),
        ("name = 3\n" + TRAIN, "name: expected a name .*, got 3"),
        (
            'name = "dog"\n' + TRAIN,
            "joints: expected the names of the joints; only with the name 'coco' or 'mpii' they",
        ),
        ('name = "coco"\nsigmas = 0.1\n' + TRAIN, "joints: expected the names of the joints"),
        ('name = "dog"\njoints = "nose"\n' + TRAIN, "joints: expected a list of names of joints, got 'nose'"),
        ('name = "dog"\njoints = []\n' + TRAIN, "joints: expected the name of at least one joint, got none"),
        ('name = "dog"\njoints = ["a", "b", "a"]\n' + TRAIN, "joints: expected different names, got 'a' twice"),
        (JOINTS, r"expected a table \[train\] or \[val\] that says where the data lie, got neither"),
        ('name = "a"\nclasses = ["b", "c"]\n' + TRAIN, "expected the joints of people, got classes of masks; train "),
        (JOINTS + "flip_pair = []\n" + TRAIN, "flip_pair: unknown key; did you mean 'flip_pairs'?"),
        (JOINTS + "xyz = []\n" + TRAIN, r"xyz: unknown key; known are \['name', 'joints', "),
        (
            JOINTS + 'flip_pairs = [["left_ear", "right_eat"]]\n' + TRAIN,
            "flip_pairs: 'right_eat' is not among the joints",
        ),
        (JOINTS + 'flip_pairs = [["left_ear", "right_eat"]]\n' + TRAIN, r"joints; did you mean 'right_ear'\?$"),
        (JOINTS + 'flip_pairs = [["nose", "nose"]]\n' + TRAIN, "flip_pairs: expected pairs of different joints, got"),
        (JOINTS + 'flip_pairs = ["nose"]\n' + TRAIN, "flip_pairs: expected pairs of different joints, got 'nose'"),
        (JOINTS + "flip_pairs = 3\n" + TRAIN, "flip_pairs: expected a list of pairs of joints, got 3"),
        (
            JOINTS + 'flip_pairs = [["nose", "left_ear"], ["right_ear", "nose"]]\n' + TRAIN,
            "flip_pairs: expected every joint in one pair at most, got 'nose' in two",
        ),
        (JOINTS + 'skeleton = [["nose"]]\n' + TRAIN, r"skeleton: expected pairs of different joints, got \['nose'\]"),
        (JOINTS + "skeleton = [[0, 1]]\n" + TRAIN, "skeleton: 0 is not among the joints"),
        (JOINTS + 'upper_body = ["tail"]\n' + TRAIN, "upper_body: 'tail' is not among the joints"),
        (JOINTS + "sigmas = 0\n" + TRAIN, "sigmas: expected a positive number for all joints, or a table .*, got 0"),
        (JOINTS + "sigmas = [0.1, 0.2, 0.3]\n" + TRAIN, "sigmas: expected a positive number for all joints"),
        (JOINTS + TRAIN + "[sigmas]\nnoise = 0.1\n", "sigmas: 'noise' is not among the joints; did you mean 'nose'?"),
        (JOINTS + TRAIN + "[sigmas]\nnose = true\n", "sigmas: expected a positive number .*, got True"),
        (JOINTS + "train = 3\n", r"train: expected a table \[train\] with annotations and images, got 3"),
        (JOINTS + '[val]\nimages = "a"\n', "val: annotations: expected a path relative to this file, got None"),
        (JOINTS + TRAIN + 'image = "a"\n', "train: image: unknown key; did you mean 'images'?"),
    ],
)
def test_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_description(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'dog.toml'}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml: expected the description of a data set, but there is no"):
        read_description(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_description(tmp_path)
    (tmp_path / "dog.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"dog\.toml: expected TOML, got a file that is not text"):
        read_description(tmp_path / "dog.toml")
