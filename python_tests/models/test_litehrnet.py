"""The whole network against the official code: every variant, intermediates, and training in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from network_cases import INDEX, STORED_AS_FLOAT32, TRAINING, assert_training_matches_official, build, images
from official_reference import REGISTRY_NAMES, read_tensors, relative_error
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork, Variant


@pytest.mark.parametrize("case", INDEX["eval"], ids=lambda case: case["name"])
def test_evaluation_matches_official(case: dict[str, Any]) -> None:
    expected = read_tensors("eval_outputs.safetensors", case["name"])[""]
    model = build(case).eval()
    with torch.no_grad():
        assert relative_error(model(images(case)), expected) < STORED_AS_FLOAT32
        # In float32 within a few times the official code's own float32 error (1.2e-6 of max|output|).
        assert relative_error(model.float()(images(case).float()), expected) < 5e-6


@pytest.mark.parametrize("case", INDEX["intermediates"], ids=lambda case: case["variant"])
def test_intermediates_match_official(case: dict[str, Any]) -> None:
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            for branch, tensor in enumerate(output if isinstance(output, list) else [output]):
                seen[f"{name}.{branch}"] = tensor

        return hook

    model = build(case).eval()
    for name, module in model.backbone.named_modules():
        if name in ("stem", "head_layer") or (name.startswith("stage") and name.count(".") <= 1):
            module.register_forward_hook(record(name))
    with torch.no_grad():
        seen["heatmap"] = model(images(case))
    expected = read_tensors("intermediates.safetensors", f"{case['variant']}.")
    assert len(expected) == 30
    for name, tensor in expected.items():
        assert relative_error(seen[name], tensor) < STORED_AS_FLOAT32, name


@pytest.mark.parametrize("case", TRAINING, ids=lambda case: case["variant"])
def test_adam_training_matches_official(case: dict[str, Any]) -> None:
    assert_training_matches_official(case)


@pytest.mark.parametrize(
    "case",
    INDEX["sizes_where_the_official_code_errors"],
    ids=lambda case: f"{case['variant']}_{case['height']}x{case['width']}",
)
def test_sizes_where_the_official_code_fails(case: dict[str, Any]) -> None:
    model = PoseNetwork(LiteHRNet(VARIANTS[REGISTRY_NAMES[case["variant"]]]), 17).eval()
    height, width = case["height"], case["width"]
    x = torch.randn(1, 3, height, width)
    if min(height, width) < 32:
        with pytest.raises(InputError, match="H and W of at least 32"):
            model(x)
        return
    with torch.no_grad():
        out = model(x)
    assert out.shape == (1, 17, -(-height // 4), -(-width // 4))
    assert out.isfinite().all()


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_backbone_returns_branches(name: str, with_head: bool) -> None:
    backbone = LiteHRNet(VARIANTS[name], branches="all", with_head=with_head).eval()
    with torch.no_grad():
        out = backbone(torch.randn(2, 3, 50, 71))
    assert [tuple(s.shape) for s in out] == [
        (2, c, *size) for c, size in zip(backbone.out_channels, [(13, 18), (7, 9), (4, 5), (2, 3)], strict=True)
    ]
    top = LiteHRNet(VARIANTS[name], branches="top", with_head=with_head).eval()
    top.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        x = torch.randn(1, 3, 32, 32)
        assert torch.equal(top(x), backbone(x)[0])


def test_initialisation_is_official() -> None:
    torch.manual_seed(0)
    model = PoseNetwork(LiteHRNet(VARIANTS["litehrnet_18"]), 17)
    weights = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, torch.nn.Conv2d)])
    assert weights.std().item() == pytest.approx(1e-3, rel=0.01)
    assert abs(weights.mean().item()) < 1e-5
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            assert not parameter.any(), key
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), key


def test_gradient_checkpointing_of_the_network_changes_nothing() -> None:
    case = INDEX["intermediates"][0]
    results = []
    for with_cp in (False, True):
        model = build(case, with_cp=with_cp).train()
        model(images(case)[:, :, :32, :32].repeat(2, 1, 1, 1)).square().mean().backward()
        results.append([*(p.grad for p in model.parameters()), *model.buffers()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 31, 64)])
def test_bad_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected images of shape \[N, 3, H, W\]"):
        LiteHRNet(VARIANTS["litehrnet_18"])(torch.zeros(shape))


def test_variant_checks_its_widths() -> None:
    with pytest.raises(ValueError, match="expected 4 channels for 3 stages"):
        Variant("mine", (2, 4, 2), (40, 80, 160))
