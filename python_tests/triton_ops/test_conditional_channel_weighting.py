from __future__ import annotations

from pathlib import Path

import interpreted_ops
import pytest
import torch
from op_cases import OPS, SIZES, cast, channels_for
from triton_compilation import compile_launches

from litehrnet_cuda.backends import is_interpreted

pytest.importorskip("triton", reason="needs triton, which the `test` extra installs on Linux")

# Lite-HRNet's last stage at 256x192.
STAGE4 = ([20, 40, 80, 160], [(64, 48), (32, 24), (16, 12), (8, 6)])


@pytest.mark.parametrize("suite", ["TestConditionalChannelWeighting", "TestBlocks"])
def test_suite_in_the_interpreter(suite: str, tmp_path: Path) -> None:
    interpreted_ops.run(suite, tmp_path)


@pytest.mark.skipif(is_interpreted(), reason="Triton interprets in this process")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize(
    ("channels", "sizes", "batch", "dtype"),
    [
        pytest.param(*STAGE4, 1, torch.float32, id="stage4_b1_float32"),
        pytest.param(*STAGE4, 64, torch.float16, id="stage4_b64_float16"),
        pytest.param(channels_for(SIZES["odd"]), SIZES["odd"], 1, torch.bfloat16, id="odd_b1_bfloat16"),
    ],
)
def test_compiles_without_spills(
    channels: list[int],
    sizes: list[tuple[int, int]],
    batch: int,
    dtype: torch.dtype,
    architecture: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "conditional_channel_weighting"
    args = cast(OPS[name].arguments(sizes, channels, batch), dtype)
    codes = compile_launches(name, args, architecture, str(tmp_path), monkeypatch)
    kernels = ["cross_resolution_weighting_kernel", "depthwise_conv_kernel", "spatial_weighting_kernel"]
    assert [code.kernel for code in codes] == kernels
    for code in codes:
        assert code.target == f"sm_{architecture}"
        assert code.cubin.startswith(b"\x7fELF")
        assert code.spill_bytes == 0, code.kernel
        # Two programs of 8 warps fit into the 65,536 registers of a multiprocessor, and four of 4 warps.
        assert code.registers <= 128, code.kernel
