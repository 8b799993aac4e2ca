"""Loads a native library into this interpreter's torch, which has CUDA, and checks what shows without a GPU.

    python python_tests/load_check.py .venv/lib/python3.11/site-packages/litehrnet_cuda/_C.so

`make cuda-load-check` installs such a torch, several gigabytes, and runs this on the library that was built against a
torch for the CPU: one binary serves both.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch

NAMESPACE = "litehrnet_cuda"
STREAM = "aoti_torch_get_current_cuda_stream"  # weak in our library, defined in libtorch_cuda


def main(library: Path) -> None:
    if torch.version.cuda is None:
        raise SystemExit(f"expected a torch with CUDA, got {torch.__version__}")
    torch.ops.load_library(str(library))
    info = getattr(torch.ops, NAMESPACE).build_info()
    check("the library was built with kernels", '"cuda_architectures": []' not in info, info)

    operators = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith(f"{NAMESPACE}::")]
    operators.remove(f"{NAMESPACE}::build_info")
    registered = [name for name in operators if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")]
    check("every operator has a CUDA kernel", bool(operators) and registered == operators, ", ".join(registered))

    x, weight, bias = torch.zeros(1, 4, 8, 8), torch.zeros(4, 3, 3), torch.zeros(4)
    try:
        torch.ops.litehrnet_cuda.depthwise_conv([x], [weight], [bias])
        said = "no error"
    except NotImplementedError as error:
        said = str(error).split(".")[0]
    check("CPU tensors are refused by the dispatcher", "'CPU' backend" in said, said)

    bindings = subprocess.run(
        [sys.executable, "-c", f"import torch; torch.ops.load_library({str(library)!r})"],
        env=os.environ | {"LD_DEBUG": "bindings"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    bound = re.search(rf"binding file \S*{library.name} \[\d+\] to (\S+) \[\d+\]: normal symbol `{STREAM}'", bindings)
    provider = bound[1] if bound else "not bound"
    check("torch's current stream is within reach", Path(provider).name == "libtorch_cuda.so", provider)

    if torch.cuda.is_available():
        x, weight, bias = x.cuda(), weight.cuda(), bias.cuda()
        (y,) = torch.ops.litehrnet_cuda.depthwise_conv([x], [weight], [bias])
        torch.cuda.synchronize()
        check("a kernel runs on the GPU", y.shape == x.shape, torch.cuda.get_device_name())
    else:
        try:
            x.cuda()
            said = "no error"
        except (RuntimeError, AssertionError) as error:
            said = str(error).split(".")[0]
        check("without a driver torch says so", "driver" in said or "CUDA" in said, said)


def check(what: str, holds: bool, detail: str) -> None:
    print(f"{'ok' if holds else 'FAILED':<7} {what}: {detail}")
    if not holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
