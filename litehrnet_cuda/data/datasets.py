"""Where people to train and to validate with come from."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet

SPLIT_NAMES = {"train": ("train2017", "train"), "val": ("val2017", "val")}


def find_coco_splits(folder: str | Path, keypoint_set: KeypointSet = COCO) -> tuple[CocoKeypoints, CocoKeypoints]:
    """The training and the validation people of a folder with COCO's layout.

    Args:
        folder: holds ``annotations/person_keypoints_SPLIT.json`` and the images in ``SPLIT`` or ``images/SPLIT``, where
            SPLIT is ``train2017`` or ``train``, and ``val2017`` or ``val``.
        keypoint_set: the joints.

    Raises:
        InputError: if a file or folder is missing.
    """
    folder = Path(folder)
    found = []
    for names in SPLIT_NAMES.values():
        candidates = [(folder / "annotations" / f"person_keypoints_{name}.json", name) for name in names]
        for annotation_file, name in candidates:
            if annotation_file.is_file():
                images = folder / name
                found.append(
                    CocoKeypoints(
                        annotation_file, images if images.is_dir() else folder / "images" / name, keypoint_set
                    )
                )
                break
        else:
            raise InputError(f"{folder}: expected {' or '.join(str(file) for file, _ in candidates)}, found neither")
    return found[0], found[1]


def generate_splits(
    folder: str | Path, *, train_images: int, val_images: int, seed: int = 0, workers: int = 1, progress: bool = True
) -> tuple[CocoKeypoints, CocoKeypoints]:
    """Draws people to train and to validate with, unless the folder has them already.

    Args:
        folder: becomes a COCO folder with the splits ``train`` and ``val``.
        train_images, val_images: number of images; there are about two people in each.
        seed: of the drawings; those of the two splits differ.
        workers: processes that draw.
        progress: show progress bars.
    """
    for split, count in (("train", train_images), ("val", val_images)):
        _draw_split(Path(folder), split, count, seed, workers, progress)
    return find_coco_splits(folder)


def _draw_split(folder: Path, split: str, count: int, seed: int, workers: int, progress: bool) -> None:
    with tqdm(total=count, desc=f"draw {split}", unit="image", disable=not progress) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        write_coco(folder, count, seed, split, workers=workers, progress=show)
        show(count)  # also where the drawings were there already
