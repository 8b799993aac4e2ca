"""Where images and masks to train and to validate with come from.

Four layouts are known, SPLIT being ``train`` or ``val``:

* Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``.
* drawn people, as :func:`~litehrnet_cuda.data.generated.coco_folder.write_coco` writes them.
* any folder: ``images/SPLIT`` and ``masks/SPLIT``, or ``images`` and ``masks`` alone, to evaluate with; a mask is a PNG
  file with the name of its image.
* a TOML file that says where images and masks lie and what the classes are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from litehrnet_cuda.classes import CITYSCAPES, IGNORE_INDEX, PERSON, ClassSet
from litehrnet_cuda.data.generated.clothes import CATEGORIES
from litehrnet_cuda.data.generated.coco_folder import generator_parameters
from litehrnet_cuda.data.images import SUFFIXES
from litehrnet_cuda.data.index_masks import read_index_mask
from litehrnet_cuda.data.mask_description import is_mask_description, read_mask_description
from litehrnet_cuda.data.masks import MaskAnnotations, MaskedImage
from litehrnet_cuda.errors import InputError

SPLITS = ("train", "val")

# Ids of the classes that are evaluated, in their order; what has another id is ignored: cityscapesScripts,
# helpers/labels.py. A licence plate is -1, which a file of bytes holds as 255.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_NUMBERS = {number: IGNORE_INDEX for number in (*range(34), 255)} | {
    number: index for index, number in enumerate(CITYSCAPES_IDS)
}
_IMAGE, _IDS, _INDICES = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
_ANY_PERSON = {number: min(number, 1) for number in range(len(CATEGORIES))}


@dataclass(frozen=True)
class MaskSplit:
    """One part of a data set of masks, found but not read yet.

    Args:
        place: folder or file that it was found in.
        images: with their masks.
        class_set: the classes; None where only the masks tell how many there are.
        numbers: what the numbers in masks mean, see :class:`~litehrnet_cuda.data.masks.MaskAnnotations`.
        kind: ``"cityscapes"``, ``"generated"`` or ``"folder"``.
    """

    place: Path
    images: tuple[MaskedImage, ...]
    class_set: ClassSet | None = None
    numbers: Mapping[int, int] | None = None
    kind: str = "folder"

    def read(self, class_set: ClassSet | None = None) -> MaskAnnotations:
        """The images with their classes; those that are given, if the data don't say."""
        classes = self.class_set or class_set or ClassSet.numbered(self.most_classes())
        return MaskAnnotations(self.place, self.images, classes, self.numbers)

    def most_classes(self) -> int:
        """The greatest number in the masks that can be read and one more, or 2."""
        greatest = 1
        for image in self.images:
            try:
                mask = read_index_mask(image.mask)
            except InputError:  # which is found again, and reported or skipped, when the image is used
                continue
            greatest = max(greatest, int(mask[mask != IGNORE_INDEX].max(initial=0)))
        return greatest + 1


def find_mask_splits(folder_or_file: str | Path) -> tuple[MaskAnnotations, MaskAnnotations]:
    """The part to train and the part to validate with of a data set of masks.

    Args:
        folder_or_file: see the head of this file.

    Raises:
        InputError: if it is none of these, a part or a file is missing, or the masks of a folder cannot be read.
    """
    found = locate_mask_splits(folder_or_file)
    for split in SPLITS:
        if split not in found:
            raise InputError(f"{folder_or_file}: expected images and masks to {_USES[split]} with, found none")
    train, val = found["train"], found["val"]
    classes = None
    if train.class_set is None:
        classes = ClassSet.numbered(max(train.most_classes(), val.most_classes()))
    return train.read(classes), val.read(classes)


_USES = {"train": "train", "val": "validate"}


def locate_mask_splits(folder_or_file: str | Path) -> dict[str, MaskSplit]:
    """The parts ``"train"`` and ``"val"`` of a data set of masks, unread; one may be missing.

    Raises:
        InputError: if it is none of the layouts that are known, or an image has no mask.
    """
    path = Path(folder_or_file)
    found = _located(path)
    if not found:
        raise InputError(
            f"{path}: expected Cityscapes' layout (leftImg8bit/train, gtFine/train, ...), images/train and "
            "masks/train, or the TOML file of a data set; found none"
        )
    return found


def has_masks(folder_or_file: str | Path) -> bool:
    """Whether a folder or TOML file is of masks rather than of people; the drawn people, who have both, are people."""
    path = Path(folder_or_file)
    if path.suffix.lower() == ".toml":
        return is_mask_description(path)
    if (path / "leftImg8bit").is_dir():
        return True
    files = (path / "annotations").glob("*.json")
    people = any(file.name.startswith(("person_keypoints_", "mpii_")) for file in files)
    return (path / "images").is_dir() and (path / "masks").is_dir() and not people


def _is_drawn(path: Path) -> bool:
    files = (path / "annotations").glob("person_keypoints_*.json") if (path / "masks").is_dir() else ()
    return any(generator_parameters(file) is not None for file in files)


def is_mask_dataset(folder_or_file: str | Path) -> bool:
    """Whether :func:`locate_mask_splits` would find masks; the drawn people count, who have both."""
    path = Path(folder_or_file)
    return has_masks(path) or _is_drawn(path)


def _located(path: Path) -> dict[str, MaskSplit]:
    if path.suffix.lower() == ".toml":
        description = read_mask_description(path)
        return {
            name: MaskSplit(path, _pairs(places.images, places.masks), description.class_set)
            for name, places in description.splits.items()
        }
    if (path / "leftImg8bit").is_dir():
        return {split: _cityscapes(path, split) for split in SPLITS if (path / "leftImg8bit" / split).is_dir()}
    if _is_drawn(path):
        return {
            split: MaskSplit(path, _pairs(path / split, path / "masks" / split), PERSON, _ANY_PERSON, "generated")
            for split in SPLITS
            if (path / "masks" / split).is_dir()
        }
    images, masks = path / "images", path / "masks"
    if not (images.is_dir() and masks.is_dir()):
        return {}
    found = {
        split: MaskSplit(path, _pairs(images / split, masks / split)) for split in SPLITS if (images / split).is_dir()
    }
    return found or {"val": MaskSplit(path, _pairs(images, masks))}


def _cityscapes(path: Path, split: str) -> MaskSplit:
    images = []
    files = sorted((path / "leftImg8bit" / split).glob(f"*/*{_IMAGE}"))
    folder = path / "gtFine" / split
    ids = any(folder.glob(f"*/*{_IDS}"))
    for file in files:
        name = file.name.removesuffix(_IMAGE)
        mask = folder / file.parent.name / f"{name}{_IDS if ids else _INDICES}"
        images.append(MaskedImage(name, file, mask))
    if not images:
        raise InputError(f"{path / 'leftImg8bit' / split}: expected images CITY/*{_IMAGE}, found none")
    return MaskSplit(path, tuple(images), CITYSCAPES, _CITYSCAPES_NUMBERS if ids else None, "cityscapes")


def _pairs(images: Path, masks: Path) -> tuple[MaskedImage, ...]:
    """The images of a folder with the masks of another, by name."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder, but there is none")
    found: dict[str, Path] = {}
    for file in sorted(images.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            if file.stem in found:
                raise InputError(
                    f"{file}: expected names that differ before the ending, got {found[file.stem].name} too"
                )
            found[file.stem] = file
    if not found:
        raise InputError(f"{images}: expected images ({', '.join(SUFFIXES)}) in the folder, found none")
    return tuple(MaskedImage(stem, file, masks / f"{stem}.png") for stem, file in found.items())
