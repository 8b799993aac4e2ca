"""Networks as `torch.export` programs, and compiled ahead of time by AOTInductor."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.network import ExportedNetwork, Inside, decoding_inside
from litehrnet_cuda.export.parity import Parity, measure_parity, require_parity
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.files import written_whole
from litehrnet_cuda.models.checkpoints import CheckpointMetadata

METADATA_KEY = "litehrnet_cuda"
DECODER_KEY = "decoder"


def described(metadata: CheckpointMetadata, decoder: Inside | None) -> dict[str, str]:
    """What is kept beside an exported network: what it takes and gives, as text."""
    return {METADATA_KEY: metadata.to_json(), DECODER_KEY: decoder or ""}


def trace(
    network: nn.Module,
    shape: InputShape,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> torch.export.ExportedProgram:
    """A network in PyTorch's own operations, as a program for images of a shape.

    Args:
        network: in evaluation mode; it must not change meanwhile.
        shape: of the images.
        dtype: of the images.
        device: of the network and the images.
    """
    images = torch.zeros(shape.example, dtype=dtype, device=device)
    with silence(), torch.no_grad():
        return torch.export.export(network, (images,), dynamic_shapes=(shape.dynamic_shapes(),))


def export_program(
    network: nn.Module,
    path: Path,
    metadata: CheckpointMetadata,
    shape: InputShape,
    *,
    decoder: Inside | None = None,
    half: bool = False,
    compiled: bool = False,
) -> Parity:
    """Writes a network as a ``torch.export`` program, or compiled by AOTInductor, and compares what was written.

    The file holds what :func:`described` says, the program as extra files, the package as metadata.

    Args:
        network: in evaluation mode on the CPU, float32; it stays as it is.
        path: ends in ``.pt2``.
        metadata: of the network.
        shape: of the images.
        decoder: read key points off heat maps, or classes off logits (``"classes"``), inside, see
            :class:`~litehrnet_cuda.export.network.ExportedNetwork`.
        half: compute in float16.
        compiled: compile for this processor. Needs a C++ compiler, and takes minutes.

    Raises:
        InputError: for a place that cannot be written to, or a compiler that fails.
        ParityError: if the file does not compute what the network does; then nothing is written.
    """
    decoding = decoding_inside(decoder, shape.size)
    program = trace(ExportedNetwork(network, decoding, half=half), shape)
    description = described(metadata, decoder)
    call: Callable[[Tensor], Any]
    with written_whole(path) as draft:
        if compiled:
            draft.write_bytes(_compiled(program, description))
            call = torch._inductor.aoti_load_package(str(draft))
        else:
            content = io.BytesIO()  # whoever writes knows what goes wrong then; torch says little of it
            torch.export.save(program, content, extra_files=description)
            draft.write_bytes(content.getvalue())
            call = torch.export.load(draft).module()

        def run(images: Tensor) -> list[Tensor]:
            with torch.inference_mode():
                outputs = call(images)
            return [outputs] if isinstance(outputs, Tensor) else list(outputs)

        return require_parity(measure_parity(run, network, metadata, shape, decoding, half=half), path.name)


def _compiled(program: torch.export.ExportedProgram, description: dict[str, str]) -> bytes:
    settings = {"aot_inductor.metadata": description}
    try:
        with silence(), tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "package.pt2"
            torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=settings)
            return package.read_bytes()
    except Exception as error:  # a missing compiler, or one that fails: of whatever type
        line = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"--compile: expected a C++ compiler that AOTInductor can use, got {type(error).__name__}: "
            f"{line:.200}; leave it out, or install one"
        ) from error


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without the exporters' progress and their warnings about what nobody can change."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
