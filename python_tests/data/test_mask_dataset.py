"""Training samples for segmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mask_cases import write_part
from torch.utils.data import DataLoader

from litehrnet_cuda.data.mask_augmentation import NO_MASK_AUGMENTATION
from litehrnet_cuda.data.mask_dataset import MaskDataset
from litehrnet_cuda.data.mask_datasets import locate_mask_splits
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.data.transforms import normalize
from litehrnet_cuda.errors import InputError


@pytest.fixture
def masks(tmp_path: Path) -> MaskAnnotations:
    write_part(tmp_path, "train", 4)
    return locate_mask_splits(tmp_path)["train"].read()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_sample_is_a_normalised_image_with_labels(masks: MaskAnnotations) -> None:
    sample = MaskDataset(masks, (72, 56), augmentation=NO_MASK_AUGMENTATION)[1]
    image, labels = masks.read(1)
    torch.testing.assert_close(sample["image"], torch.from_numpy(normalize(image)), rtol=0, atol=0)
    np.testing.assert_array_equal(sample["labels"].numpy(), labels)
    assert (sample["image"].dtype, sample["labels"].dtype) == (torch.float32, torch.uint8)


def test_what_a_small_image_lacks_is_grey_and_ignored(masks: MaskAnnotations) -> None:
    sample = MaskDataset(masks, (80, 64), augmentation=NO_MASK_AUGMENTATION)[0]
    assert sample["image"].shape == (3, 64, 80)
    assert (sample["labels"][56:] == 255).all()
    assert (sample["labels"][:, 72:] == 255).all()
    assert not sample["image"][:, 56:].any()
    assert not sample["image"][:, :, 72:].any()
    np.testing.assert_array_equal(sample["labels"][:56, :72].numpy(), masks.read_labels(0))


def test_a_sample_depends_on_seed_epoch_and_number_alone(masks: MaskAnnotations) -> None:
    def sample(number: int, epoch: int = 1, seed: int = 0, **options: bool) -> dict[str, torch.Tensor]:
        dataset = MaskDataset(masks, (32, 32), seed=seed, **options)
        dataset.set_epoch(epoch)
        return dataset[number]

    assert equal(sample(2), sample(2))
    assert equal(sample(2), sample(2, cache_images=True))
    assert not equal(sample(2), sample(2, epoch=2))
    assert not equal(sample(2), sample(2, seed=1))
    assert not equal(sample(2), sample(1))


def test_workers_make_no_difference_and_see_new_epochs(masks: MaskAnnotations) -> None:
    dataset = MaskDataset(masks, (32, 32))
    loader = DataLoader(dataset, batch_size=2, num_workers=1, persistent_workers=True)
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        found = torch.cat([batch["image"] for batch in loader])
        assert torch.equal(found, torch.stack([dataset[number]["image"] for number in range(4)]))


def test_bad_images_stop_or_are_skipped(masks: MaskAnnotations, capsys: pytest.CaptureFixture[str]) -> None:
    masks.images[1].mask.write_bytes(b"no mask")
    stopping = MaskDataset(masks, (32, 32))
    with pytest.raises(InputError, match=r"1\.png: expected a mask"):
        stopping[1]
    skipping = MaskDataset(masks, (32, 32), augmentation=NO_MASK_AUGMENTATION, bad_images="skip")
    skipping[0]
    assert capsys.readouterr().err == ""
    for _ in range(2):
        skipping[1]
    assert capsys.readouterr().err.count("skipped: ") == 1
    masks.images[0].image.unlink()
    with pytest.raises(InputError, match=r"image 0 of .* is missing"):
        MaskDataset(masks, (32, 32))
    for image in masks.images[2:]:
        image.image.unlink()
    with pytest.raises(InputError, match="expected at least one image with a mask that can be read, but all 4"):
        MaskDataset(masks, (32, 32), bad_images="skip")[3]


def test_numbers_outside_and_unknown_ways_are_refused(masks: MaskAnnotations) -> None:
    with pytest.raises(IndexError):
        MaskDataset(masks, (32, 32))[4]
    with pytest.raises(InputError, match="bad_images: expected one of stop, skip, got 'leave'"):
        MaskDataset(masks, (32, 32), bad_images="leave")  # type: ignore[arg-type]
