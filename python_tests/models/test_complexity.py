from __future__ import annotations

from typing import Any

import pytest
import torch
from official_reference import REGISTRY_NAMES, read_json

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.complexity import measure_complexity
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork
from litehrnet_cuda.models.registry import create_model

CONFIGURATIONS = read_json("complexity.json")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_counts_as_official(name: str) -> None:
    expected: dict[str, Any] = CONFIGURATIONS[name]
    variant, dataset, _ = name.rsplit("_", 2)
    result = measure_complexity(
        VARIANTS[REGISTRY_NAMES[variant]],
        num_outputs={"coco": 17, "mpii": 16}[dataset],
        height=expected["h"],
        width=expected["w"],
    )
    assert result.parameters == expected["params_total"]
    assert result.official_operations == expected["torchstat_flops"]
    assert result.to_dict()["official_operations_M"] == expected["torchstat_M"]
    assert result.macs == expected["conv_macs_each_module_once"]
    assert result.official_macs == expected["conv_macs_executed"]


def test_published_figures_agree_but_one() -> None:
    differing = [
        name
        for name, config in CONFIGURATIONS.items()
        if abs(config["torchstat_M"] - config["published_M"]) > 0.0501  # published with one decimal
    ]
    assert differing == ["wider_naive_18_mpii_256x256"]


def test_macs_are_those_that_run() -> None:
    """PyTorch's own counter, which sees convolutions only and counts two operations per multiply-accumulate."""
    from torch.utils.flop_counter import FlopCounterMode

    variant = VARIANTS["litehrnet_18"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        PoseNetwork(LiteHRNet(variant), 17).eval()(torch.zeros(2, 3, 70, 45))
    assert measure_complexity(variant, height=70, width=45, batch=2).macs * 2 == counter.get_total_flops()


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
def test_networks_for_segmentation(head: Any, with_head: bool) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    variant = VARIANTS["litehrnet_18"]
    model = create_model(variant, "segmentation", head=head, with_head=with_head).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(2, 3, 70, 45))
    found = measure_complexity(
        variant, task="segmentation", head=head, with_head=with_head, height=70, width=45, batch=2
    )
    assert found.macs * 2 == counter.get_total_flops()
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.task == "segmentation"
    # By hand: three 3x3 convolutions of 40, 40 and 80 channels, or one 1x1 of all; 19 classes; on 2 x 18 x 12 pixels.
    channels = 40 if head == "fcn" else 320 if with_head else 600
    convs = 9 * (40 + 40 + 80) * 40 if head == "fcn" else channels**2
    backbone = counted_backbone(head, with_head)
    assert found.macs - backbone == 2 * 18 * 12 * (convs + 19 * channels)


def counted_backbone(head: str, with_head: bool) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    branches: Any = "top" if head == "fcn" else "all"
    backbone = create_model("litehrnet_18", "backbone", branches=branches, with_head=with_head).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.zeros(2, 3, 70, 45))
    return int(counter.get_total_flops()) // 2


def test_classes_count_too() -> None:
    few, many = (
        measure_complexity(VARIANTS["litehrnet_18"], task="segmentation", num_outputs=count, height=64, width=64)
        for count in (2, 19)
    )
    assert many.parameters - few.parameters == 17 * 41
    assert many.macs - few.macs == 17 * 40 * 16 * 16


def test_scales_with_batch_and_size() -> None:
    small = measure_complexity(VARIANTS["litehrnet_18"], height=64, width=64)
    batch = measure_complexity(VARIANTS["litehrnet_18"], height=64, width=64, batch=3)
    large = measure_complexity(VARIANTS["litehrnet_18"], height=128, width=128)
    assert batch.macs == 3 * small.macs
    assert batch.official_operations == 3 * small.official_operations
    assert batch.peak_bytes == 3 * small.peak_bytes
    assert 3.5 < large.peak_bytes / small.peak_bytes <= 4
    assert large.parameter_bytes == small.parameter_bytes
    # Peak: the input, and at least the first convolution's output beside batch norm's; far less than all outputs.
    first = 32 * 32 * 32 * 4
    assert 3 * 64 * 64 * 4 + 2 * first <= small.peak_bytes < small.output_bytes / 4


def test_too_small() -> None:
    with pytest.raises(InputError, match="at least 32"):
        measure_complexity(VARIANTS["litehrnet_18"], height=16, width=64)
