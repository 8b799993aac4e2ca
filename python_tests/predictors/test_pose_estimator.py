"""PoseEstimator: where it finds things, what it takes, and what it says about what it cannot take."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import emulated_ops
import emulation
import numpy as np
import pytest
import torch
from official_reference import load_recipe
from spot_network import SpotNetwork, spot_image
from torch import Tensor

from litehrnet_cuda import InputError, KeyPoints, PoseEstimator, create_model
from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import PersonCrops
from litehrnet_cuda.keypoints import COCO, MPII
from litehrnet_cuda.models import checkpoints
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata, save_checkpoint
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.predictors.arguments import choose_device

Array = np.ndarray[Any, Any]
BOXES = [[10, 12, 60, 110], [50, 5, 120, 100], [-8, 20, 90, 130]]


# --------------------------------------------------------------------------------------------------- what it finds


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("decoder", ["quarter", "quarter_per_axis", "dark", "udp"])
def test_finds_a_spot_where_it_is_in_every_box(decoder: Any, flip_test: bool) -> None:
    # Half a heat-map pixel, the resolution without refinement, in the largest region: box height 110 x 1.25 for 24
    # pixels. With the flip test and without UDP, the mirrored half of the average is off by one of four crop pixels.
    spots = SpotNetwork(udp=decoder == "udp")
    poses = PoseEstimator(spots, input_size=(64, 96), decoder=decoder, flip_test=flip_test)(spot_image(40, 60), BOXES)
    assert poses.keypoints.shape == (3, 17, 2)
    pixel = 110 * 1.25 / 24
    shift = 0.25 / 2 if flip_test and decoder != "udp" else 0.0
    np.testing.assert_allclose(poses.keypoints, np.broadcast_to([40, 60], (3, 17, 2)), atol=(0.5 + shift) * pixel)


@pytest.mark.parametrize("decoder", ["quarter", "dark", "udp"])
def test_crops_are_those_of_the_evaluation(spots: SpotNetwork, people: CocoKeypoints, decoder: Any) -> None:
    image_id = people.people[0].image_id
    boxes = [person for person in people.people if person.image_id == image_id]
    PoseEstimator(spots, input_size=(64, 96), decoder=decoder)(
        people.read_image(image_id), np.stack([person.box for person in boxes])
    )
    crops = PersonCrops(people, boxes, (64, 96), udp=decoder == "udp")
    expected = torch.stack([crops[index]["image"] for index in range(len(crops))])
    torch.testing.assert_close(spots.batches[0], expected, rtol=0, atol=0)


def test_without_a_box_the_whole_image_is_one_person(spots: SpotNetwork) -> None:
    poses = PoseEstimator(spots, input_size=(64, 96))(spot_image(100, 30))
    np.testing.assert_array_equal(poses.boxes, [[0, 0, 160, 120]])
    np.testing.assert_array_equal(poses.box_scores, [1])
    # Half a heat-map pixel: 160 x 1.25 pixels wide for 16.
    np.testing.assert_allclose(poses.keypoints[0], np.broadcast_to([100, 30], (17, 2)), atol=0.5 * 160 * 1.25 / 16)


def test_many_boxes_are_one_batch(spots: SpotNetwork, street: Array) -> None:
    boxes = [[i, i, i + 40, i + 60] for i in range(20)]
    estimator = PoseEstimator(spots, input_size=(64, 96))
    assert len(estimator(street, boxes)) == 20
    assert [len(batch) for batch in spots.batches] == [20]
    assert not any(spots.was_training)


def test_batch_size_is_the_most_that_go_at_once(spots: SpotNetwork, street: Array) -> None:
    PoseEstimator(spots, input_size=(64, 96), batch_size=2)(street, BOXES)
    assert [len(batch) for batch in spots.batches] == [2, 1]


@pytest.mark.parametrize("decoder", ["quarter", "dark"])
def test_key_points_alone_come_back_from_the_device_and_at_once(
    monkeypatch: pytest.MonkeyPatch, spots: SpotNetwork, street: Array, decoder: Any
) -> None:
    transfers = []
    to_cpu = Tensor.cpu

    def recorded(tensor: Tensor) -> Tensor:
        transfers.append(tuple(tensor.shape))
        return to_cpu(tensor)

    estimator = PoseEstimator(spots, input_size=(64, 96), batch_size=2, decoder=decoder, flip_test=True)
    monkeypatch.setattr(Tensor, "cpu", recorded)
    estimator(street, BOXES)
    assert transfers == [(3, 17, 3)]


def test_nobody_is_an_empty_result_without_a_forward_pass(spots: SpotNetwork, street: Array) -> None:
    estimator = PoseEstimator(spots, keypoint_set=COCO)
    for nobody in ([], np.empty((0, 4)), np.empty((0, 4), np.float32)):
        poses = estimator(street, nobody, [])
        assert isinstance(poses, KeyPoints)
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 17, 2)
        assert poses.to_coco(7) == []
        np.testing.assert_array_equal(poses.draw(street), street)
    assert spots.batches == []


def test_result_can_be_drawn_and_exported(checkpoint: Path, street: Array, tmp_path: Path) -> None:
    file = tmp_path / "street.png"
    cv2.imwrite(str(file), street)
    poses = PoseEstimator(checkpoint=checkpoint)(file, BOXES, [0.5, 0.25, 1.0])
    np.testing.assert_array_equal(poses.box_scores, [0.5, 0.25, 1.0])
    assert poses.draw(street, min_score=-1).shape == street.shape
    assert [entry["image_id"] for entry in poses.to_coco(3)] == [3, 3, 3]
    restored = KeyPoints.from_json(poses.to_json())
    np.testing.assert_array_equal(restored.keypoints, poses.keypoints)


def test_a_file_and_its_pixels_give_the_same(checkpoint: Path, street: Array, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), street)
    estimator = PoseEstimator(checkpoint=checkpoint)
    for image in (tmp_path / "street.png", str(tmp_path / "street.png")):
        np.testing.assert_array_equal(estimator(image, BOXES).keypoints, estimator(street, BOXES).keypoints)


def test_images_that_are_not_contiguous_or_writable(spots: SpotNetwork) -> None:
    estimator, image = PoseEstimator(spots, input_size=(64, 96)), spot_image(100, 30)
    expected = estimator(image, BOXES)
    view = np.repeat(image, 2, axis=1)[:, ::2]
    view.setflags(write=False)
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(estimator(view, BOXES).keypoints, expected.keypoints)


def test_batch_size_does_not_change_the_result(shared: Path) -> None:
    # Sums of another order may differ by float32's rounding; 1e-4 of the largest output is the design's bound for
    # that. DARK, whose joints depend continuously on the heat maps, moves them by a fraction of that times the
    # curvature of a Gaussian of sigma 2: at scores above 0.2 below 0.01 heat-map pixels, here below 0.05 image pixels.
    weights = shared / "weights" / "tinypose_256x192.safetensors"
    image = cv2.imread(str(shared / "data" / "coco" / "000000197388.jpg"))
    boxes = [[20 * i, 10 * i, 20 * i + 150, 10 * i + 220] for i in range(9)]
    expected = PoseEstimator(checkpoint=weights, decoder="dark")(image, boxes)
    for batch_size in (1, 4):
        poses = PoseEstimator(checkpoint=weights, decoder="dark", batch_size=batch_size)(image, boxes)
        np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-4)
        found = expected.scores > 0.2
        assert found.sum() > 50
        np.testing.assert_allclose(poses.keypoints[found], expected.keypoints[found], atol=0.05)


def test_finds_the_people_of_a_real_photograph(shared: Path) -> None:
    folder = shared / "data" / "coco"
    annotations = CocoKeypoints(folder / "test_coco.json", folder)
    estimator = PoseEstimator(checkpoint=shared / "weights" / "tinypose_256x192.safetensors", flip_test=True)
    person = max(annotations.people, key=lambda person: person.visible.sum())
    poses = estimator(annotations.read_image(person.image_id), [person.box])
    distance = np.linalg.norm(poses.keypoints[0] - person.keypoints, axis=1)[person.visible > 0]
    # COCO's annotators differ by about a tenth of the root of the area (twice the largest sigma).
    assert np.median(distance) < 0.1 * np.sqrt(np.prod(person.box[2:] - person.box[:2]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2**-9), (torch.bfloat16, 2**-6), (torch.float64, 0)])
def test_networks_of_other_types(dtype: torch.dtype, tolerance: float, street: Array) -> None:
    # Pixels, their mean and the difference to the least are each rounded to 2^-11 or 2^-8 of themselves; the least is
    # as large as the greatest.
    expected = PoseEstimator(SpotNetwork(), input_size=(64, 96))(street, BOXES)
    estimator = PoseEstimator(SpotNetwork().to(dtype), input_size=(64, 96), flip_test=False)
    poses = estimator(street, BOXES)
    assert poses.scores.dtype == np.float32
    np.testing.assert_allclose(poses.scores, expected.scores, rtol=tolerance + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_real_network_runs_in_half_precision(dtype: torch.dtype, street: Array) -> None:
    network = create_model("litehrnet_18", dtype=dtype)
    poses = PoseEstimator(network, input_size=(64, 96), flip_test=True, decoder="dark")(street, BOXES)
    assert poses.keypoints.shape == (3, 17, 2)
    assert next(network.parameters()).dtype == dtype


def test_a_network_in_training_is_put_into_evaluation_mode(spots: SpotNetwork, street: Array) -> None:
    estimator = PoseEstimator(spots.train(), input_size=(64, 96))
    assert not spots.training
    spots.train()
    estimator(street)
    assert spots.was_training == [False]


def test_a_network_stays_on_its_device(monkeypatch: pytest.MonkeyPatch, spots: SpotNetwork) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert PoseEstimator(spots).device == torch.device("cpu")


# ------------------------------------------------------------------------------------------------ optimised networks


@pytest.fixture
def emulator() -> Iterator[emulation.Library]:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    with use_backend("emulated"):
        yield library
    assert library.errors() == []


def small_network() -> PoseNetwork:
    """Of random weights that make every path matter, in float32."""
    return load_recipe(PoseNetwork(LiteHRNet(Variant("small", (1, 1), (8, 16, 32))), 17), "w0").float()


@pytest.mark.parametrize("flip_test", [False, True])
def test_optimised_network_finds_the_same(flip_test: bool, emulator: emulation.Library, street: Array) -> None:
    network = small_network()
    optimised, plain = (
        PoseEstimator(network, input_size=(48, 64), flip_test=flip_test, optimize=optimize)
        for optimize in (True, False)
    )
    found = optimised(street, BOXES)
    assert all("::plan_" in launch["kernel"] for launch in emulator.launches())
    emulator.reset()
    expected = plain(street, BOXES)
    assert not any("::plan_" in launch["kernel"] for launch in emulator.launches())
    # The design's bound for heat maps in float32, which are what scores are read off.
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4 * np.abs(expected.scores).max())
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)


def test_estimator_follows_the_training_of_its_network(emulator: emulation.Library, street: Array) -> None:
    network = small_network()
    estimator = PoseEstimator(network, input_size=(32, 32))
    before = estimator(street)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    with use_backend("reference"):
        network.train()(torch.randn(2, 3, 32, 32)).sum().backward()
        optimizer.step()
    emulator.reset()
    after = estimator(street)
    assert all("::plan_" in launch["kernel"] for launch in emulator.launches())
    with use_backend("reference"):
        expected = PoseEstimator(network, input_size=(32, 32))(street)
    np.testing.assert_allclose(after.scores, expected.scores, rtol=1e-4)
    assert np.abs(after.scores - before.scores).max() > 1e-2 * np.abs(before.scores).max()


def test_estimator_that_is_made_in_inference_mode(checkpoint: Path) -> None:
    with torch.inference_mode():
        estimator = PoseEstimator(checkpoint=checkpoint)
    # Else writes to it would not be counted, and it could not be optimised.
    assert not any(tensor.is_inference() for tensor in estimator.model.state_dict().values())


def test_copies_of_an_estimator_have_networks_of_their_own(checkpoint: Path, street: Array) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    twin = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(twin(street).scores, estimator(street).scores)
    with torch.no_grad():
        twin.model.keypoint_head.final_layer.bias.add_(1)
    np.testing.assert_allclose(twin(street).scores, estimator(street).scores + 1, atol=1e-6)


# ------------------------------------------------------------------------------------------- models and checkpoints


def test_metadata_tells_network_size_and_joints(checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    assert estimator.model.variant.name == "naive_litehrnet_18"
    assert estimator.input_size == (64, 96)
    assert estimator.keypoint_set == COCO
    assert PoseEstimator(None, checkpoint=str(checkpoint), input_size=(32, 48)).input_size == (32, 48)


def test_a_checkpoint_of_mpii_without_metadata_has_mpii_joints(tmp_path: Path, street: Array) -> None:
    file = tmp_path / "mpii.pth"
    torch.save(create_model("litehrnet_18", num_outputs=16).state_dict(), file)
    estimator = PoseEstimator(checkpoint=file, input_size=(64, 64))
    assert estimator.keypoint_set == MPII
    assert estimator(street, BOXES).keypoints.shape == (3, 16, 2)
    assert PoseEstimator("litehrnet_18", checkpoint=file).input_size == (192, 256)


def test_a_published_name_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "downloaded.pth"
    torch.save({"state_dict": create_model("litehrnet_18", num_outputs=16).state_dict()}, file)
    fetched: list[str] = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return file

    monkeypatch.setattr(checkpoints, "fetch", fetch)
    estimator = PoseEstimator("litehrnet_18", checkpoint="litehrnet_18_mpii_256x256")
    assert set(fetched) == {"litehrnet_18_mpii_256x256"}
    assert estimator.keypoint_set == MPII
    assert estimator.input_size == (256, 256)


def test_a_network_takes_the_weights_of_a_checkpoint(checkpoint: Path) -> None:
    network = create_model("naive_litehrnet_18")
    estimator = PoseEstimator(network, checkpoint=checkpoint)
    assert estimator.model is network
    saved = read_checkpoint(checkpoint)
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())


def test_other_joints_need_a_keypoint_set() -> None:
    network = create_model("litehrnet_18", num_outputs=5)
    with pytest.raises(InputError, match="keypoint_set: expected one to be passed, because no known one has 5 joints"):
        PoseEstimator(network)
    five = replace(COCO, name="five", names=tuple("abcde"), sigmas=(0.1,) * 5, flip_pairs=(), links=(), upper_body=())
    assert PoseEstimator(network, keypoint_set=five).keypoint_set is five
    with pytest.raises(
        InputError, match=r"keypoint_set: expected 5 joints as the network has outputs, got 16 \(mpii\)"
    ):
        PoseEstimator(network, keypoint_set=MPII)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected a checkpoint"),
        ({"checkpoint": "litehrnet_18_coco_256x129"}, "did you mean litehrnet_18_coco_256x192"),
        ({"checkpoint": "/nowhere/model.pth"}, "which is neither"),
        ({"model": "litehrnet-18", "checkpoint": "CHECKPOINT"}, "did you mean 'litehrnet_18'"),
        ({"model": "litehrnet_18", "checkpoint": "CHECKPOINT"}, "the checkpoint is of naive_litehrnet_18"),
        ({"checkpoint": "CHECKPOINT", "decoder": "darc"}, "decoder: expected one of quarter, .*, got 'darc'"),
        ({"checkpoint": "CHECKPOINT", "batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"checkpoint": "CHECKPOINT", "keypoint_set": "coco"}, "keypoint_set: expected a KeypointSet, .*, got 'coco'"),
        ({"model": torch.nn.ReLU()}, "model: expected a name or a PoseNetwork .*, got ReLU"),
        ({"checkpoint": "CHECKPOINT", "input_size": (31, 64)}, r"input_size: expected .*, got \(31, 64\)"),
        ({"checkpoint": "CHECKPOINT", "input_size": (64, 100000)}, r"input_size: expected .*, got \(64, 100000\)"),
        ({"checkpoint": "CHECKPOINT", "input_size": 256}, r"input_size: expected \(width, height\) .*, got 256"),
        (
            {"checkpoint": "CHECKPOINT", "device": "gpu"},
            r"device: expected one that can be used here \(cpu.*, got 'gpu'",
        ),
        ({"checkpoint": "CHECKPOINT", "device": ""}, "device: expected"),
        ({"checkpoint": "CHECKPOINT", "device": "meta"}, "device: expected .* got 'meta'"),
    ],
)
def test_what_cannot_be_used_is_said(options: dict[str, Any], message: str, checkpoint: Path) -> None:
    if options.get("checkpoint") == "CHECKPOINT":
        options = {**options, "checkpoint": checkpoint}
    with pytest.raises(InputError, match=message):
        PoseEstimator(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without CUDA")
def test_cuda_without_cuda_is_said() -> None:
    assert choose_device(None) == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match=rf"device: expected one that can be used here \(cpu\), got '{name}'"):
            choose_device(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "segmentation"}, "expected a network for poses, got one for segmentation"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, "normalised by ImageNet's mean"),
        ({"variant": "litehrnet_99"}, "unknown model 'litehrnet_99'"),
    ],
)
def test_checkpoints_of_something_else_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    metadata = replace(CheckpointMetadata("naive_litehrnet_18", "pose", 17, COCO, (64, 96)), **change)
    file = save_checkpoint(create_model("naive_litehrnet_18"), tmp_path / "other.safetensors", metadata)
    assert read_metadata(file) == metadata
    with pytest.raises(InputError, match=message):
        PoseEstimator(checkpoint=file)


@pytest.mark.parametrize(
    ("of_checkpoint", "asked", "expected"),
    [("udp", None, "udp"), ("udp", "dark", "dark"), (None, None, "quarter"), ("of a later version", None, "quarter")],
)
def test_the_decoder_is_that_of_the_training_unless_asked_for(
    of_checkpoint: str | None, asked: Any, expected: str, tmp_path: Path
) -> None:
    metadata = CheckpointMetadata("naive_litehrnet_18", "pose", 17, COCO, (64, 96), decoder=of_checkpoint)
    file = save_checkpoint(create_model("naive_litehrnet_18"), tmp_path / "net.safetensors", metadata)
    assert PoseEstimator(checkpoint=file, decoder=asked, device="cpu").decoder == expected
