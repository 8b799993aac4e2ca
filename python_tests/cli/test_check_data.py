"""`litehrnet check-data`: what it prints, what it draws, and its exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from litehrnet_cuda.cli.main import main
from litehrnet_cuda.keypoints import COCO

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command and returns its status, the lines that it prints, and standard error."""

    def run(path: Path, *options: str | Path) -> tuple[int, list[str], str]:
        status = main(["check-data", str(path), *map(str, options)])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err

    return run


@pytest.fixture
def data(coco_folder: Path, tmp_path: Path) -> Path:
    """A TOML file of a set with the drawn people as its validation part."""
    shutil.copytree(coco_folder / "val", tmp_path / "images")
    shutil.copy(coco_folder / "annotations" / "person_keypoints_val.json", tmp_path / "val.json")
    file = tmp_path / "mine.toml"
    file.write_text('name = "coco"\n[val]\nannotations = "val.json"\nimages = "images"\n')
    return file


def change(data: Path, **fields: object) -> None:
    """Changes the first annotation."""
    file = data.parent / "val.json"
    content = json.loads(file.read_text())
    content["annotations"][0] |= fields
    file.write_text(json.dumps(content))


def test_good_data(check: Run, data: Path) -> None:
    status, lines, errors = check(data)
    assert (status, errors) == (0, "")
    assert lines[0] == f"val: {data.parent / 'val.json'}"
    assert lines[1].startswith("  4 images, ")
    assert lines[2].startswith("  boxes of ")
    assert [line.split()[0] for line in lines[3:-1]] == list(COCO.names)
    assert lines[-1] == "no errors, no warnings"


def test_mistakes_are_grouped_and_counted(check: Run, data: Path) -> None:
    change(data, bbox=[1, 2, 3])
    for file in sorted((data.parent / "images").iterdir())[1:]:
        file.unlink()
    status, lines, _ = check(data, "--first", "2")
    assert status == 1
    at = lines.index("  error: the image is missing (3)")
    assert all("is missing; check the image folder" in line for line in lines[at + 1 : at + 3])
    assert lines[at + 3] == "    ... and 1 more"
    (kind,) = (line for line in lines if line.startswith("  error: bbox is not 4 finite numbers"))
    assert kind.endswith("(1)")
    assert f"{data.parent / 'val.json'}: annotation " in lines[lines.index(kind) + 1]
    assert lines[-1] == "4 errors, no warnings"


def test_warnings_are_no_failure(check: Run, data: Path) -> None:
    keypoints = [-50, -50, 2] + [10, 10, 2] * 16
    change(data, keypoints=keypoints)
    status, lines, _ = check(data)
    assert status == 0
    assert "  warning: a joint lies outside of its image (1)" in lines
    assert any("nose: expected a place in the image of 160 x 120 pixels, got -50, -50" in line for line in lines)
    assert lines[-1] == "no errors, 1 warning"


def test_fast_does_not_decode(check: Run, data: Path) -> None:
    next((data.parent / "images").iterdir()).write_bytes(b"nonsense")
    assert check(data)[0] == 1
    assert check(data, "--fast")[0] == 0


def test_the_picture_has_people_twice(check: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheets" / "samples.png"
    status, lines, _ = check(data, "--out", out, "--samples", "3", "--size", "48x64")
    assert status == 0
    assert lines[-2] == f"see {out}"
    picture = cv2.imread(str(out))
    width, height = 3 * (2 * 48 + 4), 64
    assert width < picture.shape[1] < width + 100
    assert height < picture.shape[0] < height + 120
    first = out.read_bytes()
    check(data, "--out", out, "--samples", "3", "--size", "48x64")
    assert out.read_bytes() == first
    check(data, "--out", out, "--samples", "3", "--size", "48x64", "--seed", "1")
    assert out.read_bytes() != first


def test_people_whose_pictures_are_bad_are_not_drawn(check: Run, data: Path, tmp_path: Path) -> None:
    for file in (data.parent / "images").iterdir():
        file.write_bytes(b"nonsense")
    out = tmp_path / "samples.png"
    status, lines, _ = check(data, "--out", out)
    assert status == 1
    assert f"no person can be drawn, so {out} is not written" in lines
    assert not out.exists()


def test_a_file_of_annotations(check: Run, coco_folder: Path, shared: Path) -> None:
    file = coco_folder / "annotations" / "person_keypoints_val.json"
    assert check(file)[0] == check(file, "--images", coco_folder / "val")[0] == 0
    assert check(file, "--images", coco_folder / "annotations")[0] == 1
    mpii = shared / "data" / "mpii" / "test_mpii.json"  # the pictures lie beside it
    status, lines, _ = check(mpii)
    assert status == 0
    assert "  5 images, 0 without people; 5 people" in lines


def test_what_is_no_data_set_is_said(check: Run, coco_folder: Path, tmp_path: Path) -> None:
    status, _, errors = check(tmp_path / "absent")
    assert status == 2
    assert "absent: expected a folder of data or a TOML file that describes them, found neither" in errors
    status, _, errors = check(coco_folder, "--images", tmp_path)
    assert status == 2
    assert "--images: expected a JSON file of annotations as PATH to go with it" in errors
    status, lines, errors = check(coco_folder, "--out", tmp_path / "samples.txt")
    assert (status, lines) == (2, [])
    assert "--out: expected a file that ends with .jpg, " in errors
    (tmp_path / "people.json").write_text('{\n "images": [}')
    status, lines, _ = check(tmp_path / "people.json")
    assert status == 1
    assert any("not valid JSON: Expecting value in line 2, column 13" in line for line in lines)
