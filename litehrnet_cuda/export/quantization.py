"""ONNX graphs in 8 bits, by ONNX Runtime's static quantisation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.program import silence
from litehrnet_cuda.predictors.onnx_network import INPUT

if TYPE_CHECKING:
    from onnx import ModelProto

# Of a hundred thousand values that calibration sees, ten may be clipped: single ones would coarsen all others' steps.
PERCENTILE = 99.99
# Of weights: all but the backbone's behind the stem. The first layers see the image and the last ones give the answer,
# which 8 bits hurt most, and they are few.
_KEPT = re.compile(r"(?!.*\bbackbone\.)|.*\bbackbone\.stem\.")


def quantized(model: ModelProto, images: Sequence[Tensor]) -> ModelProto:
    """A graph whose 1x1 convolutions compute in 8 bits, between QuantizeLinear and DequantizeLinear.

    Weights have a scale for each output channel, and 7 bits, so that processors without VNNI do not overflow.
    Activations have one scale each. Depthwise convolutions, whose channels' ranges one scale does not fit, the stem and
    the head stay in float32.

    Args:
        model: float32, with the names of the network's weights.
        images: normalised ``[1, 3, H, W]``, float32; a hundred or more of what the network will see.

    Raises:
        InputError: if there are no images.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    reader = _Reader(images, model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1)
    with tempfile.TemporaryDirectory() as folder, silence():
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == "Conv" and _stays(node)],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            # Image by image, or all activations of all images would be in memory at once.
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
        return onnx.load(target)


def _stays(node: Any) -> bool:
    """Whether a convolution is left in float32."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return groups > 1 or _KEPT.match(node.input[1]) is not None


class _Reader:
    """What `quantize_static` reads images from, some at a time; each as often as the graph takes images at once."""

    def __init__(self, images: Sequence[Tensor], batch: int) -> None:
        if not len(images):
            raise InputError("calibration: expected images, got none")
        self._images, self._batch = images, batch
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(range(start_index, min(end_index, len(self))))

    def get_next(self) -> dict[str, Any] | None:
        index = next(self._rest, None)
        return None if index is None else {INPUT: self._images[index].repeat(self._batch, 1, 1, 1).numpy()}
