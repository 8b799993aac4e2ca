"""Where people to train and to validate with come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from litehrnet_cuda.data.annotations import PoseAnnotations, Problem
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.description import read_description
from litehrnet_cuda.data.generated.coco_folder import generator_parameters, write_coco
from litehrnet_cuda.data.mpii import MpiiKeypoints
from litehrnet_cuda.data.transforms import BoxConvention
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, MPII, KeypointSet

SPLIT_NAMES = {"train": ("train2017", "train"), "val": ("val2017", "val")}


@dataclass(frozen=True)
class Split:
    """One part of a data set, found but not read yet.

    Args:
        annotation_file: in COCO's or MPII's form.
        image_dir: folder that the names of the images are relative to.
        keypoint_set: the joints; by default those that the form is known for.
    """

    annotation_file: Path
    image_dir: Path
    keypoint_set: KeypointSet | None = None

    def read(
        self, on_problem: Callable[[Problem], None] | None = None, *, box_convention: BoxConvention = "mmpose1"
    ) -> PoseAnnotations:
        """The images and people.

        Args:
            on_problem: collects what is wrong instead of stopping at it.
            box_convention: of COCO's form, see :class:`~litehrnet_cuda.data.coco.CocoKeypoints`.
        """
        if is_mpii_file(self.annotation_file):
            mpii_joints = self.keypoint_set or MPII
            return MpiiKeypoints(self.annotation_file, self.image_dir, mpii_joints, on_problem=on_problem)
        coco_joints = self.keypoint_set or COCO
        return CocoKeypoints(
            *(self.annotation_file, self.image_dir, coco_joints), box_convention=box_convention, on_problem=on_problem
        )


def is_mpii_file(annotation_file: str | Path) -> bool:
    """Whether a file has MPII's form: its JSON is a list, where COCO's is an object."""
    try:
        with Path(annotation_file).open(encoding="utf-8-sig") as file:
            return file.read(1000).lstrip().startswith("[")
    except (OSError, UnicodeDecodeError):  # the reader says what is wrong
        return False


def image_folder(annotation_file: str | Path) -> Path:
    """Where COCO and MPII keep the images of a file: in a folder named after the part, in ``images``, or beside it."""
    file = Path(annotation_file)
    root, split = file.parent.parent, file.stem.rpartition("_")[2]
    if file.parent.name in ("annotations", "annot"):
        for folder in (root / split, root / "images" / split, root / "images"):
            if folder.is_dir():
                return folder
    return file.parent


def find_splits(
    folder_or_file: str | Path, *, box_convention: BoxConvention = "mmpose1"
) -> tuple[PoseAnnotations, PoseAnnotations]:
    """The training and the validation people of a data set.

    Args:
        folder_or_file: a folder with COCO's layout (see :func:`find_coco_splits`), a folder with MPII's
            (``annotations/mpii_train.json``, ``annotations/mpii_val.json``, ``images``), or a TOML file that describes
            a data set (see docs/own_data.md).
        box_convention: see :meth:`Split.read`.

    Raises:
        InputError: if it is none of these, or a file has a mistake.
    """
    found = locate_splits(folder_or_file)
    for split in SPLIT_NAMES:
        if split not in found:
            raise InputError(f"{folder_or_file}: expected {_place(Path(folder_or_file), split, found)}, found none")
    train, val = (found[split].read(box_convention=box_convention) for split in ("train", "val"))
    return train, val


def locate_splits(folder_or_file: str | Path) -> dict[str, Split]:
    """The parts ``"train"`` and ``"val"`` of a data set, unread; see :func:`find_splits`. One may be missing."""
    path = Path(folder_or_file)
    if path.suffix.lower() == ".toml":
        description = read_description(path)
        return {
            name: Split(paths.annotations, paths.images, description.keypoint_set)
            for name, paths in description.splits.items()
        }
    annotations = path / "annotations"
    if any((annotations / f"mpii_{split}.json").is_file() for split in SPLIT_NAMES):
        files = {split: annotations / f"mpii_{split}.json" for split in SPLIT_NAMES}
        return {split: Split(file, path / "images", MPII) for split, file in files.items() if file.is_file()}
    if any(file.is_file() for split in SPLIT_NAMES for file in _coco_files(path, split)):
        there = [split for split in SPLIT_NAMES if any(file.is_file() for file in _coco_files(path, split))]
        return {split: _coco_split(path, split, COCO) for split in there}
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder of data or a TOML file that describes them, found neither")
    raise InputError(
        f"{path}: expected COCO's layout (annotations/person_keypoints_train2017.json, ...), MPII's"
        " (annotations/mpii_train.json, ...), or the TOML file of a data set instead of its folder; found none"
    )


def _place(path: Path, split: str, found: dict[str, Split]) -> str:
    """Where a part of a data set belongs, of which another part was found."""
    if path.suffix.lower() == ".toml":
        return f"a table [{split}] with annotations and images"
    if is_mpii_file(next(iter(found.values())).annotation_file):
        return str(path / "annotations" / f"mpii_{split}.json")
    return " or ".join(map(str, _coco_files(path, split)))


def find_coco_splits(folder: str | Path, keypoint_set: KeypointSet = COCO) -> tuple[CocoKeypoints, CocoKeypoints]:
    """The training and the validation people of a folder with COCO's layout.

    Args:
        folder: holds ``annotations/person_keypoints_SPLIT.json`` and the images in ``SPLIT`` or ``images/SPLIT``, where
            SPLIT is ``train2017`` or ``train``, and ``val2017`` or ``val``.
        keypoint_set: the joints.

    Raises:
        InputError: if a file or folder is missing.
    """
    found = [_coco_split(Path(folder), split, keypoint_set) for split in SPLIT_NAMES]
    train, val = (CocoKeypoints(split.annotation_file, split.image_dir, keypoint_set) for split in found)
    return train, val


def _coco_files(folder: Path, split: str) -> list[Path]:
    return [folder / "annotations" / f"person_keypoints_{name}.json" for name in SPLIT_NAMES[split]]


def _coco_split(folder: Path, split: str, keypoint_set: KeypointSet) -> Split:
    files = _coco_files(folder, split)
    for file, name in zip(files, SPLIT_NAMES[split], strict=True):
        if file.is_file():
            images = folder / name
            return Split(file, images if images.is_dir() else folder / "images" / name, keypoint_set)
    raise InputError(f"{folder}: expected {' or '.join(map(str, files))}, found neither")


def generate_splits(
    folder: str | Path,
    *,
    train_images: int,
    val_images: int,
    seed: int = 0,
    replace: bool = True,
    workers: int = 1,
    progress: bool = True,
) -> tuple[CocoKeypoints, CocoKeypoints]:
    """Draws people to train and to validate with, unless the folder has them already.

    Args:
        folder: becomes a COCO folder with the splits ``train`` and ``val``.
        train_images, val_images: number of images; there are about two people in each.
        seed: of the drawings; those of the two splits differ.
        replace: draw anew where the folder has other drawings; False refuses that.
        workers: processes that draw.
        progress: show progress bars, where standard error is a terminal.
    """
    for split, count in (("train", train_images), ("val", val_images)):
        with tqdm(total=count, desc=f"draw {split}", unit="image", disable=None if progress else True) as bar:
            write_coco(folder, count, seed, split, replace=replace, workers=workers, progress=partial(_show, bar))
            _show(bar, count)  # also where the drawings were there already
    return find_coco_splits(folder)


def drawn_with(folder: str | Path) -> tuple[Any, Any] | None:
    """Number of images to train with and seed of what :func:`generate_splits` has drawn; None if it has not."""
    file = Path(folder) / "annotations" / "person_keypoints_train.json"
    found = generator_parameters(file) if file.exists() else None
    return None if found is None else (found.get("count"), found.get("seed"))


def _show(bar: Any, done: int) -> None:
    bar.update(done - bar.n)
