"""What `predict` is given is sorted, and no two results share a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from litehrnet_cuda.cli.sources import find_sources, result_names
from litehrnet_cuda.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "street.mp4", "walk.gif", ".hidden.mp4", ".hidden.jpg", "notes.txt"):
        Path(name).touch()
    Path("empty").mkdir()
    Path("clips.mp4").mkdir()
    return tmp_path


def test_a_folder_has_images_and_videos(folder: Path) -> None:
    found = find_sources([str(folder)])
    assert found.images == [folder / "a.PNG", folder / "b.jpg"]
    assert found.videos == [str(folder / "street.mp4"), str(folder / "walk.gif")]


def test_sources_of_all_kinds_each_once(folder: Path) -> None:
    given = ["webcam:0", "b.jpg", "street.mp4", "rtsp://camera/1", "b.jpg", "webcam:0", "notes.txt"]
    found = find_sources(given)
    assert found.videos == ["webcam:0", "street.mp4", "rtsp://camera/1"]
    assert found.images == [Path("b.jpg"), Path("notes.txt")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.mp4", "missing.mp4: there is no such file or folder"),
        ("empty", "empty: expected images (.jpg, .jpeg, "),
        ("clips.mp4", "clips.mp4: expected images (.jpg, .jpeg, "),
    ],
)
def test_what_is_not_there(folder: Path, source: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_sources(["b.jpg", source])
    assert message in str(caught.value)


def test_names_of_results(folder: Path) -> None:
    (folder / "other").mkdir()
    sources = ["street.mp4", "other/street.avi", "webcam:0", "rtsp://user@camera:554/live/1?a=b", "http://camera/"]
    names = list(result_names(sources, folder / "out", "_poses.mp4").values())
    assert names == ["street_poses.mp4", "street_2_poses.mp4", "webcam0_poses.mp4", "1_poses.mp4", "camera_poses.mp4"]
    (folder / "street_poses.mp4").touch()
    sources = [folder / "street.mp4", folder / "street_poses.mp4"]
    assert list(result_names(sources, folder, "_poses.mp4").values()) == [
        "street_2_poses.mp4",
        "street_poses_poses.mp4",
    ]
