"""Names of parameters in every layout, and what they say about the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sample_checkpoints import VARIANTS, assert_same, state_of, to_mmpose_1x, to_paddle

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.key_layouts import (
    DetectedHead,
    convert_keys,
    detect_segmentation,
    detect_variant,
    layout_of,
    to_layout,
)
from litehrnet_cuda.models.registry import create_model


def test_paddle_names(golden: Path) -> None:
    names = json.loads((golden / "keys" / "paddledetection_wider_naive_18.json").read_text())
    assert set(to_paddle(state_of(golden, "wider_naive_litehrnet_18"))) == set(names)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("prefix", "rename"),
    [("", dict), ("", to_mmpose_1x), ("module.", dict), ("_orig_mod.module.", to_mmpose_1x), ("model.", dict)],
)
def test_every_layout_becomes_the_official_one(golden: Path, variant: str, prefix: str, rename: Any) -> None:
    state = state_of(golden, variant)
    assert_same(convert_keys({prefix + name: value for name, value in rename(state).items()}), state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_paddle_becomes_official_with_counters_of_zero(golden: Path, variant: str) -> None:
    state = state_of(golden, variant)
    zeroed = {k: torch.tensor(0) if k.endswith("num_batches_tracked") else v for k, v in state.items()}
    assert_same(convert_keys(to_paddle(state)), zeroed)


def test_the_way_back_to_other_layouts(golden: Path) -> None:
    state = state_of(golden)
    assert_same(to_layout(state, "official"), state)
    assert_same(to_layout(state, "mmpose"), to_mmpose_1x(state))
    with pytest.raises(InputError, match="layout: expected one of official, mmpose, got 'keras'"):
        to_layout(state, "keras")


def test_backbone_on_its_own_gets_its_prefix(golden: Path) -> None:
    state = {k: v for k, v in state_of(golden).items() if k.startswith("backbone.")}
    assert_same(convert_keys({k.removeprefix("backbone."): v for k, v in state.items()}), state)


def test_convert_keys_refuses_two_tensors_for_one_name_and_unknown_tasks() -> None:
    head = torch.zeros(17, 40, 1, 1)
    with pytest.raises(InputError, match=r"two: head\.final_layer\.weight and keypoint_head\.final_layer\.weight"):
        convert_keys({"head.final_layer.weight": head, "keypoint_head.final_layer.weight": head})
    with pytest.raises(InputError, match=r"expected one of pose, segmentation, got 'poses'"):
        convert_keys({"x": head}, task="poses")
    assert list(convert_keys({"head.final_layer.weight": head}, "segmentation")) == ["head.final_layer.weight"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_detect_variant(golden: Path, variant: str) -> None:
    state = state_of(golden, variant, joints=16)
    assert detect_variant(state) == (variant, 16)
    assert detect_variant(to_paddle(state)) == (variant, 16)
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    assert detect_variant(backbone) == (variant, None)


def test_detect_variant_names_what_it_found(golden: Path) -> None:
    with pytest.raises(InputError, match=r"expected the names of a Lite-HRNet.*got layer1\.weight"):
        detect_variant({"layer1.weight": torch.zeros(1)})
    shorter = {k: v for k, v in state_of(golden).items() if not k.startswith("backbone.stage1.3.")}
    with pytest.raises(InputError, match=r"type LITE with \(2, 3, 2\) modules .* 40 channels"):
        detect_variant(shorter)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
def test_detect_segmentation(head: Any, with_head: bool, prefix: str) -> None:
    with torch.device("meta"):
        model = create_model("litehrnet_30", "segmentation", num_outputs=7, head=head, with_head=with_head)
    state = {prefix + name: value for name, value in model.state_dict().items()}
    assert detect_segmentation(state) == DetectedHead(7, head, with_head)
    assert detect_variant(state) == ("litehrnet_30", None)
    assert layout_of(state) == "mmsegmentation"
    # Names are as they should be already.
    assert set(convert_keys(state, "segmentation")) == set(convert_keys(state)) == set(model.state_dict())


def test_networks_for_poses_are_of_no_segmentation(golden: Path) -> None:
    state = state_of(golden)
    for renamed in (state, to_mmpose_1x(state), to_paddle(state)):
        assert detect_segmentation(renamed) is None
