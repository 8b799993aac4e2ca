"""Networks for segmentation: names and shapes as published, both heads, and training."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from litehrnet_cuda.backends import can_run_cpu, use_backend
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, Variant
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.models.segmentation import SEGMENTATION_HEADS, SegmentationNetwork

TINY = Variant("tiny", (1, 1, 1), (8, 8, 16, 16), num_blocks=1, reduce_ratio=2, stem_channels=8)


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_pixel_of_a_quarter_has_logits(name: str, head: Any, with_head: bool) -> None:
    model = create_model(name, "segmentation", num_outputs=7, head=head, with_head=with_head).eval()
    assert (model.variant, model.num_outputs, model.head) == (VARIANTS[name], 7, head)
    with torch.no_grad():
        assert model(torch.randn(2, 3, 50, 71)).shape == (2, 7, 13, 18)


def conv_module(name: str, rows: int, columns: int, size: int) -> dict[str, tuple[int, ...]]:
    norm = {f"{name}.bn.{part}": (rows,) for part in ("weight", "bias", "running_mean", "running_var")}
    counter: dict[str, tuple[int, ...]] = {f"{name}.bn.num_batches_tracked": ()}
    return {f"{name}.conv.weight": (rows, columns, size, size)} | norm | counter


def classifier(channels: int) -> dict[str, tuple[int, ...]]:
    return {"decode_head.conv_seg.weight": (19, channels, 1, 1), "decode_head.conv_seg.bias": (19,)}


@pytest.mark.parametrize(
    ("head", "with_head", "expected"),
    [
        (
            "fcn",
            True,
            conv_module("decode_head.convs.0", 40, 40, 3)
            | conv_module("decode_head.convs.1", 40, 40, 3)
            | conv_module("decode_head.conv_cat", 40, 80, 3)
            | classifier(40),
        ),
        ("resize_concat", True, conv_module("decode_head.convs.0", 320, 320, 1) | classifier(320)),
        ("resize_concat", False, conv_module("decode_head.convs.0", 600, 600, 1) | classifier(600)),
    ],
)
def test_names_and_shapes_are_those_of_mmsegmentation(
    golden: Path, head: Any, with_head: bool, expected: dict[str, tuple[int, ...]]
) -> None:
    """The head's as in the published configurations: 40 channels, or all branches'; the backbone's are official."""
    model = create_model("litehrnet_18", "segmentation", head=head, with_head=with_head)
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    official = json.loads((golden / "keys" / "lite_18.json").read_text())
    dropped = ("keypoint_head.",) if with_head else ("keypoint_head.", "backbone.head_layer.")
    backbone = {name: tuple(shape) for name, shape in official.items() if not name.startswith(dropped)}
    assert found == backbone | expected


@pytest.mark.parametrize(("head", "others"), [("fcn", "all"), ("resize_concat", "top")])
def test_a_backbone_with_other_branches_is_refused(head: Any, others: Any) -> None:
    with pytest.raises(InputError, match=f"got branches='{others}'"):
        SegmentationNetwork(LiteHRNet(TINY, branches=others), 2, head)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="head: expected one of fcn, resize_concat, got 'fpn'"):
        create_model(TINY, "segmentation", head="fpn")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="head: expected one of fcn, resize_concat, got 'fpn'"):
        SegmentationNetwork(LiteHRNet(TINY), 2, "fpn")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected num_outputs of at least 1, got 0"):
        create_model(TINY, "segmentation", num_outputs=0)


def test_classes_are_those_of_cityscapes_by_default() -> None:
    assert create_model(TINY, "segmentation").num_outputs == 19
    assert create_model(TINY).num_outputs == 17


@pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)
@pytest.mark.parametrize("with_cp", [True, False])
@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
def test_fused_modules_train_as_plain_ones(head: Any, with_cp: bool) -> None:
    """Losses, gradients and running statistics of two steps, in fp64, with the CPU's fused ops and without."""
    results = []
    for backend in ("cpu", "reference"):
        torch.manual_seed(0)
        model = create_model(TINY, "segmentation", num_outputs=3, head=head, with_cp=with_cp, dtype=torch.float64)
        model.decode_head.dropout.p = 0.0  # the one thing that is random
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        images = torch.randn(3, 3, 50, 71, dtype=torch.float64)
        labels = torch.randint(3, (3, 13, 18))
        with use_backend(backend):
            for _ in range(2):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
        assert all(parameter.grad is not None for parameter in model.parameters())
        results.append((dict(model.state_dict()), [parameter.grad for parameter in model.parameters()]))
    (fused, fused_grads), (plain, plain_grads) = results
    for name, value in plain.items():
        # Rounding of fp64 through the network's some hundred layers, twice, and a division by small variances.
        torch.testing.assert_close(fused[name], value, rtol=1e-9, atol=1e-11, msg=lambda t, n=name: f"{n}: {t}")
    for one, other in zip(fused_grads, plain_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("head", SEGMENTATION_HEADS)
def test_a_copy_through_pickle_is_the_same_network(head: Any) -> None:
    model = create_model(TINY, "segmentation", num_outputs=3, head=head).eval()
    copy = pickle.loads(pickle.dumps(model))
    images = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(copy(images), model(images))
    assert (copy.head, copy.num_outputs, copy.variant) == (head, 3, TINY)
