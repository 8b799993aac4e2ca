from __future__ import annotations

import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.plan.gpus import GPUS, Gpu, find_gpu


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_data_sheets_agree_with_themselves(gpu: Gpu) -> None:
    # Lanes of float32 in a multiprocessor, from the CUDA programming guide; data sheets have one decimal.
    lanes = {"7.5": 64, "8.0": 64, "8.9": 128, "9.0": 128}[gpu.architecture]
    assert gpu.teraflops == pytest.approx(2 * lanes * gpu.multiprocessors * gpu.gigahertz / 1e3, abs=0.05)


@pytest.mark.parametrize(
    ("name", "found"),
    [("T4", "T4"), ("a100", "A100 40 GB"), ("4090", "RTX 4090"), ("rtx-4090", "RTX 4090"), ("H100 SXM", "H100 SXM")],
)
def test_parts_of_names_will_do(name: str, found: str) -> None:
    assert find_gpu(name).name == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("V100", "unknown GPU 'V100', expected one of T4, A100 40 GB, RTX 4090, H100 SXM"),
        ("100", "ambiguous GPU '100', expected one of T4,"),
        ("", "unknown GPU ''"),
        (" - ", "unknown GPU ' - '"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        find_gpu(name)
    assert str(error.value).startswith(message)
