"""A small program for compute-sanitizer: a training step of every op, on shapes that take each path of the kernels, and
all launches of the networks' plans.

    compute-sanitizer --tool memcheck python python_tests/gpu_steps.py

Results are compared with those of the reference on the CPU, so that all that runs on the GPU are the ops and PyTorch's
copies; inputs come from the CPU, by copies of which initcheck knows.
"""

from __future__ import annotations

import sys

import gpu_cases
import op_cases
import torch
from gpu_cases import gpu_op, to_device
from plan_cases import pose_network
from training_cases import require_grad

from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.executor import run_program
from litehrnet_cuda.plan.program import compile_plan
from litehrnet_cuda.plan.reference import run_reference

SIZES = ("two_exact", "odd", "one_pixel", "width_17", "four_exact")
DTYPES = (torch.float32, torch.float16)
PLANS = (("litehrnet_18", (64, 48), 1), ("litehrnet_18", (50, 71), 2), ("naive_litehrnet_18", (50, 71), 1))


def run_plans() -> int:
    """Runs plans of small images, and returns how many."""
    for network, size, batch in PLANS:
        for dtype in DTYPES:
            plan = build_plan(pose_network(network), *size, dtype)
            images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
            program, expected = compile_plan(plan).to(gpu_cases.DEVICE), run_reference(plan, images)
            for persistent in (False, True):
                outputs = run_program(program, images.to(gpu_cases.DEVICE), persistent=persistent)
                for y, truth in zip(outputs, expected, strict=True):
                    atol = 32 * op_cases.FLOOR[dtype] * truth.abs().max().item()
                    torch.testing.assert_close(y.cpu(), truth, rtol=0, atol=atol)
    return 2 * len(PLANS) * len(DTYPES)


def main() -> int:
    steps = run_plans()
    for name in gpu_cases.NAMES:
        case = gpu_op(name)
        for sizes in SIZES:
            for dtype in DTYPES:
                args = case.arguments(sizes, dtype, device="cpu")
                results = case.step(to_device(args, gpu_cases.DEVICE))
                count = len(args[0])
                expected = case.reference(*require_grad(args, 0))
                expected = expected[0] if isinstance(expected, tuple) else expected
                for y, truth in zip(results[:count], expected, strict=True):
                    # Sanitizers look for the rest; this finds a step that did nothing.
                    scale = truth.abs().max().item()
                    torch.testing.assert_close(y.cpu(), truth, rtol=0, atol=32 * op_cases.FLOOR[dtype] * scale)
                steps += 1
    print(f"{steps} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
