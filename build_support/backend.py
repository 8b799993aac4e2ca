"""The build backend of pyproject.toml: setuptools', and NVIDIA's compiler for builds that have use for it.

pip asks it what an isolated build needs. The wheels are 110 MB to download, which a build without kernels, or with the
toolkit that ``CUDA_HOME`` names, can do without. torch is never asked for: building against a second one would cost a
download of gigabytes, and setup.py finds that of the environment which is installed into.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from setuptools.build_meta import *  # noqa: F403  the hooks that are not written here

# Of one release, or the parts do not fit together.
COMPILER = tuple(f"nvidia-{part}==13.0.*" for part in ("cuda-nvcc", "cuda-crt", "nvvm", "cuda-runtime", "cuda-cccl"))


def compiler_wheels() -> tuple[str, ...]:
    """The wheels that a build here may compile kernels with; none where it will not, or has a toolkit by name."""
    wanted = os.environ.get("LITEHRNET_CUDA_BUILD") not in ("cpu", "0") and not os.environ.get("CUDA_HOME")
    there_are_some = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    return COMPILER if wanted and there_are_some else ()


# Without setuptools' answers, which are empty: it runs setup.py for them, which looks for what is asked for here.
def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return list(compiler_wheels())


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:
    # Nothing is compiled, but where kernels are insisted on setup.py wants to see a compiler.
    return list(compiler_wheels()) if os.environ.get("LITEHRNET_CUDA_BUILD") == "1" else []


get_requires_for_build_editable = get_requires_for_build_wheel
