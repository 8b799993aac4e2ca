"""Networks as ONNX files, written through `torch.export`, and compared with ONNX Runtime."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.graph import simplify
from litehrnet_cuda.export.network import ExportedNetwork, Inside, decoding_inside, output_names
from litehrnet_cuda.export.parity import LIMIT, Parity, measure_parity, require_parity
from litehrnet_cuda.export.program import described, silence, trace
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.files import written_whole
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.predictors.onnx_network import INPUT, open_session

if TYPE_CHECKING:
    from onnx import ModelProto

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_SHOWN = 8  # images of the calibration that the figure is from


def export_onnx(
    network: nn.Module,
    path: Path,
    metadata: CheckpointMetadata,
    shape: InputShape,
    *,
    decoder: Inside | None = None,
    half: bool = False,
    calibration: Sequence[Tensor] | None = None,
) -> Parity:
    """Writes a network as an ONNX file, and compares what ONNX Runtime makes of it with PyTorch.

    The input is ``images``; outputs are ``heatmaps`` or ``logits``, and with a decoder ``keypoints`` or ``classes``
    before. What :func:`~litehrnet_cuda.export.program.described` says is among the file's properties.

    Args:
        network: in evaluation mode on the CPU, float32; it stays as it is.
        path: ends in ``.onnx``.
        metadata: of the network.
        shape: of the images.
        decoder: read key points off heat maps, or classes off logits (``"classes"``), inside, see
            :class:`~litehrnet_cuda.export.network.ExportedNetwork`.
        half: compute in float16; images and outputs stay float32.
        calibration: normalised images ``[1, 3, H, W]``, to quantise to 8 bits with. How far outputs are off on some of
            them is then told, and is no error.

    Raises:
        InputError: for a package that is missing, no calibration images, or a place that cannot be written to.
        ParityError: if the file does not compute what the network does; then nothing is written.
    """
    require_packages()
    decoding = decoding_inside(decoder, shape.size)
    exported = ExportedNetwork(network, decoding, half=half)
    model = onnx_model(exported, shape, output_names(metadata.task, decoder))
    batches: list[Tensor] | None = None
    if calibration is not None:
        from litehrnet_cuda.export.quantization import quantized

        model = quantized(model, calibration)
        count = shape.batch or min(len(calibration), _SHOWN)
        batches = [torch.cat([calibration[index % len(calibration)] for index in range(count)])]
    for key, value in described(metadata, decoder).items():
        model.metadata_props.add(key=key, value=value)
    with written_whole(path) as draft:
        draft.write_bytes(model.SerializeToString())
        session = open_session(draft)

        def run(images: Tensor) -> list[Tensor]:
            return [torch.from_numpy(output) for output in session.run(None, {INPUT: images.numpy()})]

        limit = LIMIT if calibration is None else None
        parity = measure_parity(*(run, network, metadata, shape, decoding), half=half, limit=limit, batches=batches)
        return require_parity(parity, path.name)


def require_packages() -> None:
    """Raises :class:`InputError` unless everything that exports to ONNX need is installed."""
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"ONNX files: expected the package {name}, which cannot be imported ({error}); "
                f"pip install 'litehrnet_cuda[export]'"
            ) from None


def onnx_model(
    network: nn.Module,
    shape: InputShape,
    outputs: Sequence[str],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> ModelProto:
    """A network as an ONNX graph.

    Args:
        network: in evaluation mode; it must not change meanwhile.
        shape: of the images; free dimensions are called batch, height and width.
        outputs: their names.
        dtype: of the images.
        device: of the network.
    """
    program = trace(network, shape, dtype=dtype, device=device)
    with silence(), torch.no_grad():
        exported = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=list(outputs)
        )
    assert exported is not None
    model: ModelProto = exported.model_proto
    simplify(model)
    return model
