"""The suites that the ops stand on the emulated backend, on the CPU's own kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from op_suite import InferenceOpSuite
from training_suite import TrainingOpSuite

from litehrnet_cuda.backends import can_run_cpu

pytestmark = pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)


class Threads:
    """Takes the emulator's place in the suites: another seed is another number of threads, and nothing is launched."""

    def configure(self, seed: int) -> None:
        torch.set_num_threads(1 + seed)

    def reset(self) -> None: ...

    def launches(self) -> list[Any]:
        return []


class OnCpu:
    test_launches = None

    @pytest.fixture(autouse=True)
    def emulator(self) -> Iterator[Threads]:
        before = torch.get_num_threads()
        yield Threads()
        torch.set_num_threads(before)


class TestDepthwiseConv(OnCpu, InferenceOpSuite):
    name = "depthwise_conv"


class TestSpatialWeighting(OnCpu, InferenceOpSuite):
    name = "spatial_weighting"


class TestCrossResolutionWeighting(OnCpu, InferenceOpSuite):
    name = "cross_resolution_weighting"


class TestConditionalChannelWeighting(OnCpu, InferenceOpSuite):
    name = "conditional_channel_weighting"


class TestDepthwiseConvBatchNorm(OnCpu, TrainingOpSuite):
    name = "depthwise_conv_batch_norm"


class TestCrossResolutionWeightingBatchNorm(OnCpu, TrainingOpSuite):
    name = "cross_resolution_weighting_batch_norm"


class TestConditionalChannelWeightingBatchNorm(OnCpu, TrainingOpSuite):
    name = "conditional_channel_weighting_batch_norm"
