"""Which networks a plan would not do justice to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plan_cases import UNUSUAL
from torch import nn

from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.plan.structure import unusual_part

SMALL = Variant("small", (1, 1), (8, 16, 32))


def small(**options: Any) -> PoseNetwork:
    return PoseNetwork(LiteHRNet(SMALL, **options), 3)


@pytest.mark.parametrize("variant", [*VARIANTS.values(), *UNUSUAL], ids=lambda variant: variant.name)
def test_networks_are_usual_as_they_come(variant: Variant) -> None:
    assert unusual_part(PoseNetwork(LiteHRNet(variant), 17)) == ""


@pytest.mark.parametrize("options", [{"branches": "all"}, {"with_head": False}, {"in_channels": 1}, {"with_cp": True}])
def test_backbones_are_usual_as_they_come(options: dict[str, Any]) -> None:
    assert unusual_part(LiteHRNet(SMALL, **options)) == ""


def test_what_makes_no_difference_in_inference_is_usual() -> None:
    model = small()
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model.half().eval().requires_grad_(False))
    model.backbone.stem.conv1.bn.eps = 1e-3  # the builder reads it
    model.backbone.stem.conv1.bn.momentum = 0.5
    assert unusual_part(model) == ""


def parametrise(model: PoseNetwork) -> None:
    nn.utils.parametrizations.weight_norm(model.keypoint_head.final_layer)


class Doubled(PoseNetwork):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


CHANGES: dict[str, tuple[Callable[[PoseNetwork], Any], str]] = {
    "hook": (lambda m: m.register_forward_hook(lambda *_: None), "the network: expected no hook, got one"),
    "pre-hook": (
        lambda m: m.backbone.stem.register_forward_pre_hook(lambda *_: None),
        "backbone.stem: expected no hook, got one",
    ),
    "forward": (lambda m: setattr(m.backbone, "forward", print), "backbone: expected the forward of its class"),
    "activation": (
        lambda m: setattr(m.backbone.stem.conv1, "activate", nn.GELU()),
        r"backbone.stem.conv1.activate: expected ReLU\(\), got GELU\(\)",
    ),
    "no norm": (
        lambda m: setattr(m.backbone.stem.conv1, "bn", nn.Identity()),
        "backbone.stem.conv1.bn: expected BatchNorm2d",
    ),
    "padding": (
        lambda m: setattr(m.backbone.stem.conv1.conv, "padding_mode", "reflect"),
        "backbone.stem.conv1.conv: expected .* got .*padding_mode=reflect",
    ),
    "statistics": (
        lambda m: setattr(m.backbone.stem.conv1.bn, "running_mean", None),
        r"backbone.stem.conv1.bn: expected .* got BatchNorm2d\(32 with weight, bias, running_var, num",
    ),
    "added": (lambda m: m.keypoint_head.add_module("more", nn.Dropout()), "expected [0-9]+ parts, got [0-9]+"),
    "inserted": (
        lambda m: m.backbone.stage0.insert(0, nn.Dropout()),
        r"backbone.stage0.0: expected LiteHRModule\(\), got Dropout",
    ),
    "removed": (lambda m: m.backbone.stage1.pop(0), "backbone.stage1.0: expected .* as backbone.head_layer"),
    "derived": (lambda m: setattr(m, "__class__", Doubled), "a PoseNetwork or a SegmentationNetwork, got Doubled"),
    "parametrised": (parametrise, "keypoint_head.final_layer: expected Conv2d.*, got ParametrizedConv2d"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_found_and_named(name: str) -> None:
    model = small()
    change, message = CHANGES[name]
    change(model)
    assert re.search(message, unusual_part(model)), unusual_part(model)


def test_other_modules_are_no_networks() -> None:
    assert unusual_part(nn.ReLU()) == "expected a LiteHRNet, a PoseNetwork or a SegmentationNetwork, got ReLU"
    model = small()
    model.backbone = nn.Identity()
    assert unusual_part(model) == "backbone: expected a LiteHRNet, got Identity"


def test_asking_takes_no_random_numbers() -> None:
    model = PoseNetwork(LiteHRNet(Variant("fresh", (1,), (8, 16))), 3)
    before = torch.get_rng_state()
    assert unusual_part(model) == ""
    assert torch.equal(torch.get_rng_state(), before)
