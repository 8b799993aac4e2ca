"""Training and evaluation samples: every joint must land where its heat map says, whatever was augmented."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from litehrnet_cuda.codecs.heatmap import decode_heatmaps
from litehrnet_cuda.data.augmentation import MMPOSE1_COCO, NO_AUGMENTATION, OFFICIAL_COCO, Augmentation
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import (
    PersonCrops,
    PoseDataset,
    batches,
    use_one_thread,
)
from litehrnet_cuda.data.transforms import IMAGENET_MEAN, IMAGENET_STD, normalize
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet

SIZE = (96, 128)
# Joints are marked by discs of their own colour, one pure channel each, so that a crop tells which joint lies where.
COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
THREE = KeypointSet(name="colours", names=tuple(COLOURS), flip_pairs=((0, 1),), sigmas=(0.05,) * 3, upper_body=(0, 1))


@pytest.fixture
def people(tmp_path):
    """Four people with coloured joints in two images of 240 x 200 pixels."""
    rng = np.random.default_rng(3)
    images, annotations = [], []
    for image_id in (1, 2):
        picture = np.zeros((200, 240, 3), dtype=np.uint8)
        for left in (10, 130):
            joints = np.array([left, 50]) + rng.uniform((10, 10), (90, 90), (3, 2))
            while min(np.linalg.norm(joints[a] - joints[b]) for a, b in ((0, 1), (0, 2), (1, 2))) < 30:
                joints = np.array([left, 50]) + rng.uniform((10, 10), (90, 90), (3, 2))
            joints = joints.round()
            for joint, colour in zip(joints, COLOURS.values(), strict=True):
                cv2.circle(picture, joint.astype(int).tolist(), 7, colour, -1)
            triples = np.column_stack([joints, np.full(3, 2)]).ravel().tolist()
            fields = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "area": 5000}
            annotations.append(fields | {"bbox": [left, 50, 100, 100], "keypoints": triples})
        cv2.imwrite(str(tmp_path / f"{image_id}.png"), picture)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 240, "height": 200})
    categories = [{"id": 1, "name": "person", "keypoints": list(COLOURS)}]
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return CocoKeypoints(file, tmp_path, THREE)


def colours_at_peaks(sample: dict[str, torch.Tensor], udp: bool = False) -> dict[int, int]:
    """For every joint whose peak lies in the crop: the brightest colour (0 red, 1 green, 2 blue) there."""
    points, _ = decode_heatmaps(sample["heatmaps"][None].numpy(), SIZE, decoder="udp" if udp else "dark")
    rgb = sample["image"].numpy() * np.array(IMAGENET_STD)[:, None, None] + np.array(IMAGENET_MEAN)[:, None, None]
    found = {}
    for joint, (x, y) in enumerate(points[0].round().astype(int)):
        if 4 <= x < SIZE[0] - 4 and 4 <= y < SIZE[1] - 4:
            pixel = rgb[:, y, x]
            assert pixel.max() > 200, (joint, pixel)
            assert np.sort(pixel)[1] < 60, (joint, pixel)
            found[joint] = int(pixel.argmax())
    return found


@pytest.mark.parametrize("mode", ["gaussian", "unbiased", "udp"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_joints_lie_where_the_heat_maps_say(people, mode, flip):
    always = Augmentation(
        flip_probability=flip, rotation_probability=1.0, half_body_probability=0.5, half_body_joints=2
    )
    data = PoseDataset(people, SIZE, augmentation=always, mode=mode)
    # In a mirrored sample the left joint (red by name) is the one that was right (green).
    expected = {0: 1, 1: 0, 2: 2} if flip else {0: 0, 1: 1, 2: 2}
    seen = 0
    for epoch in range(10):
        data.set_epoch(epoch)
        for index in range(len(data)):
            found = colours_at_peaks(data[index], mode == "udp")
            assert found == {joint: expected[joint] for joint in found}
            seen += len(found)
    assert seen > 60  # of 120: most joints stay inside


def test_shapes_and_types(people):
    sample = PoseDataset(people, SIZE)[0]
    assert {key: (list(value.shape), value.dtype) for key, value in sample.items()} == {
        "image": ([3, 128, 96], torch.float32),
        "heatmaps": ([3, 32, 24], torch.float32),
        "weights": ([3], torch.float32),
    }


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_a_sample_depends_on_seed_epoch_and_index_only(people):
    data = PoseDataset(people, SIZE, seed=5)
    data.set_epoch(2)
    forward = [data[index] for index in range(4)]
    other = PoseDataset(people, SIZE, seed=5, cache_images=True)
    other.set_epoch(2)
    assert all(equal(other[index], forward[index]) for index in (3, 1, 2, 0))
    other.set_epoch(3)
    assert not any(equal(other[index], forward[index]) for index in range(4))
    assert not any(equal(PoseDataset(people, SIZE, seed=6)[index], forward[index]) for index in range(4))


def test_persistent_workers_see_the_epoch(people):
    data = PoseDataset(people, SIZE)
    loader = DataLoader(
        data,
        batch_size=2,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
        worker_init_fn=use_one_thread,
    )
    for epoch in (0, 1):
        data.set_epoch(epoch)
        loaded = torch.cat([batch["image"] for batch in loader])
        assert torch.equal(loaded, torch.stack([data[index]["image"] for index in range(4)]))


def test_without_augmentation_a_training_crop_is_an_evaluation_crop(people):
    training, evaluation = (
        PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION),
        PersonCrops(people, people.people, SIZE),
    )
    for index, person in enumerate(people.people):
        sample = evaluation[index]
        assert torch.equal(training[index]["image"], sample["image"])
        assert (sample["image_id"], sample["annotation_id"]) == (person.image_id, person.annotation_id)
        np.testing.assert_allclose(sample["center"], (person.box[:2] + person.box[2:]) / 2)
        np.testing.assert_allclose(sample["scale"], (125, 125 / 0.75), rtol=1e-6)  # 100 pixels high and wide, padded
    batch = next(iter(DataLoader(evaluation, batch_size=4)))
    assert list(batch["image"].shape) == [4, 3, 128, 96]
    assert batch["annotation_id"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("part", ["flip_probability", "scale", "rotation", "half_body_probability"])
def test_each_part_can_be_switched_off_alone(people, part):
    on = Augmentation(1.0, 0.25, 30.0, 1.0, 1.0, half_body_joints=2)
    off = Augmentation(**{**vars(on), part: 0.0})
    first, second = (PoseDataset(people, SIZE, augmentation=change) for change in (on, off))
    assert not all(equal(first[index], second[index]) for index in range(4))


def test_a_mirrored_sample_is_the_mirror_image(people):
    always = PoseDataset(people, SIZE, augmentation=Augmentation(1.0, 0.0, 0.0, 0.0, 0.0), mode="unbiased")
    never = PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION, mode="unbiased")
    for index in range(4):
        mirrored, plain = always[index], never[index]
        # Crop pixel x becomes width - x, as in the official code: column 0 has no partner.
        expected = plain["heatmaps"][[1, 0, 2]].flip(-1)[..., :-1]
        # Crop positions to 1e-4 pixels in float32, times the steepest slope of a Gaussian, 0.3 per heat-map pixel
        torch.testing.assert_close(mirrored["heatmaps"][..., 1:], expected, rtol=0, atol=3e-5)
        # OpenCV rounds positions to 1/32 pixel: at an edge of a disc that is 8 grey levels, 0.14 deviations.
        torch.testing.assert_close(mirrored["image"][..., 1:], plain["image"].flip(-1)[..., :-1], rtol=0, atol=0.15)


def test_flip_frequency_is_the_probability(people):
    only_flip = Augmentation(0.5, 0.0, 0.0, 0.0, 0.0)
    data, still = (
        PoseDataset(people, SIZE, augmentation=only_flip),
        PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION),
    )
    flips = 0
    for epoch in range(50):
        data.set_epoch(epoch)
        flips += sum(not torch.equal(data[index]["image"], still[index]["image"]) for index in range(4))
    assert 65 < flips < 135  # 200 tosses: 100, five standard deviations of 7


def test_a_crop_is_what_the_sample_is_made_of(people):
    for cached in (False, True):
        data = PoseDataset(people, SIZE, cache_images=cached)
        for index in range(4):
            crop, sample = data.crop(index), data[index]
            assert crop.pixels.shape == (128, 96, 3)
            assert np.array_equal(normalize(crop.pixels), sample["image"])
            assert crop.visible.tolist() == [1, 1, 1]


def test_a_shift_moves_the_region_by_its_padded_box(people):
    data = PoseDataset(people, SIZE, augmentation=Augmentation(0, 0, 0, 0, 0, shift=0.5, shift_probability=1.0))
    still = PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION)
    moves = []
    for epoch in range(50):
        data.set_epoch(epoch)
        for index in range(4):
            moves.append((still.crop(index).keypoints - data.crop(index).keypoints).mean(axis=0))
    # A box of 100 x 100 pixels, padded to 125: half of that is 62.5 pixels of the image; the region of 125 x 166.7
    # pixels becomes a crop of 96 x 128, so that 62.5 are 48 pixels of the crop along both axes.
    moves = np.array(moves)
    assert np.abs(moves).max() <= 48
    assert np.abs(moves).max(axis=0).min() > 40
    assert abs(np.corrcoef(moves.T)[0, 1]) < 0.25  # 200 pairs: a standard deviation of 0.07


def test_presets_of_mmpose_1_train_too(people):
    changed, official = (PoseDataset(people, SIZE, augmentation=change) for change in (MMPOSE1_COCO, OFFICIAL_COCO))
    assert not any(equal(changed[index], official[index]) for index in range(4))
    assert all(equal(changed[index], PoseDataset(people, SIZE, augmentation=MMPOSE1_COCO)[index]) for index in range(4))


# ---------------------------------------------------------------------------------------------------- bad images


def damage(people, name: str) -> None:
    (people.image_dir / name).write_bytes(b"nonsense")


def test_a_bad_image_is_skipped_and_told_once(people, capfd):
    damage(people, "1.png")  # of people 0 and 1
    data = PoseDataset(people, SIZE, bad_images="skip")
    samples = [data[index] for index in (0, 1, 2, 0)]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "1.png: expected an image that OpenCV can decode" in lines[0]
    assert data.skipped_images == 1
    assert equal(samples[0], samples[3])
    # The next person who can be seen, with the random numbers of the sample.
    assert data._next_readable(0)[0] == data._next_readable(1)[0] == 2
    assert not equal(samples[0], samples[2])
    plain = PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION, bad_images="skip")
    assert equal(plain[0], plain[2])


def test_the_last_is_followed_by_the_first(people):
    (people.image_dir / "2.png").unlink()
    plain = PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION, bad_images="skip", cache_images=True)
    assert equal(plain[3], plain[0])
    assert equal(plain[1], PoseDataset(people, SIZE, augmentation=NO_AUGMENTATION, bad_images="skip")[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_stop_where_that_is_chosen(people, workers):
    data = PoseDataset(people, SIZE)
    damage(people, "2.png")
    with pytest.raises(InputError, match=r"^\S*2\.png: expected an image that OpenCV can decode"):
        list(batches(DataLoader(data, num_workers=workers)))


def test_when_everything_is_bad_it_stops(people, capfd):
    for name in ("1.png", "2.png"):
        damage(people, name)
    data = PoseDataset(people, SIZE, bad_images="skip")
    with pytest.raises(InputError, match=r"people\.json: expected at least one image that can be read, but all 2 are"):
        data[1]
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_workers_tell_of_a_bad_image_once_together(people, capfd):
    damage(people, "1.png")
    data = PoseDataset(people, SIZE, bad_images="skip")
    for epoch in (0, 1):
        data.set_epoch(epoch)
        # One at a time and in turns, so that no two workers meet the image at the same moment.
        loader = DataLoader(data, num_workers=2, prefetch_factor=1, multiprocessing_context="fork")
        loaded = torch.cat([batch["image"] for batch in loader])
        assert torch.equal(loaded, torch.stack([data[index]["image"] for index in range(4)]))
    assert 1 <= capfd.readouterr().err.count("skipped: ") <= 2  # both, if they met it at the same moment
    assert data.skipped_images == 1


def test_evaluation_skips_bad_images_and_says_why(people):
    damage(people, "1.png")
    with pytest.raises(InputError, match=r"1\.png"):
        PersonCrops(people, people.people, SIZE)[0]
    (people.image_dir / "1.png").unlink()
    crops = PersonCrops(people, people.people, SIZE, bad_images="skip")
    (batch,) = DataLoader(crops, batch_size=4)
    bad, good = batch["problem"][:2], batch["problem"][2:]
    assert all("1.png: image 1 of people.json is missing" in said for said in bad)
    assert good == ["", ""]
    expected = PersonCrops(people, people.people[2:], SIZE)
    assert torch.equal(batch["image"][2:], torch.stack([expected[index]["image"] for index in range(2)]))


def test_says_what_is_wrong(people):
    with pytest.raises(InputError, match="bad_images: expected one of stop, skip, got 'ignore'"):
        PoseDataset(people, SIZE, bad_images="ignore")
    with pytest.raises(IndexError, match="sample 4: expected 0 to 3"):
        PoseDataset(people, SIZE)[4]
    (people.image_dir / "2.png").unlink()
    for make in (lambda: PoseDataset(people, SIZE), lambda: PersonCrops(people, people.people, SIZE)):
        with pytest.raises(InputError, match=r"2\.png: image 2 of people\.json is missing"):
            make()
    people.people.clear()
    with pytest.raises(InputError, match=r"people\.json: expected at least one person with key points, got none"):
        PoseDataset(people, SIZE)
