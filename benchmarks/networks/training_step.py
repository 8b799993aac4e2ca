"""A process that makes training steps when it is told to; `training.py` starts one for each contender.

    python training_step.py '{"network": ..., "height": ..., "width": ..., "batch": ..., "threads": ...,
                              "backend": ..., "device": ...}'

It prints a line of JSON when it is ready, then one for each line that it reads: the step's loss, and at the end of its
input the peak of its memory. A process of its own is the only way to tell whose peak it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch

from litehrnet_cuda.backends import select_backend, use_backend
from litehrnet_cuda.engine.losses import joints_mse_loss
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.nn.dispatch import has_fused_backend


def trainer(case: dict[str, Any]) -> Callable[[], float]:
    """Forward pass, loss, backward pass and Adam on the same random images; the call returns the loss."""
    torch.set_num_threads(case["threads"])
    device = torch.device(case.get("device", "cpu"))
    torch.manual_seed(0)
    model = create_model(case["network"]).train().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batch, height, width = case["batch"], case["height"], case["width"]
    images = torch.randn(batch, 3, height, width).to(device)
    targets = torch.rand(batch, 17, -(-height // 4), -(-width // 4)).to(device)
    weights = torch.ones(batch, 17, device=device)

    def step() -> float:
        with use_backend(case["backend"]):
            loss = joints_mse_loss(model(images), targets, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()  # waits for a GPU

    return step


def peak_megabytes(device: str = "cpu", path: Path = Path("/proc/self/status")) -> float | None:
    """Of memory of this process, or of a GPU.

    Not getrusage's, which begins with the peak of the process that started this one.
    """
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return found[0] * 1024 / 1e6 if found else None


def serve(case: dict[str, Any], commands: TextIO, answers: TextIO) -> None:
    """Makes a step for each line of commands."""

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    step, device = trainer(case), case.get("device", "cpu")
    device_type = torch.device(device).type
    with use_backend(case["backend"]):
        fused = select_backend(device_type) if has_fused_backend(device_type) else ""
    before = peak_megabytes(device)
    say(blocks=f"fused, {fused}" if fused else "plain PyTorch", before_mb=before)
    for _ in commands:
        say(loss=step())
    # Linux adds up each processor's count of pages now and then: a peak read later may be some pages lower.
    say(peak_mb=None if before is None else max(before, peak_megabytes(device) or 0.0))


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]), sys.stdin, sys.stdout)
