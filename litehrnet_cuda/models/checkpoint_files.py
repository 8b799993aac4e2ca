"""Checkpoints as files: reading tensors without running what a file says, and writing safetensors.

A ``.pth`` file is a pickle, and a pickle is a program. ``torch.load(weights_only=True)`` runs none of it, but refuses
files that hold anything besides tensors and containers: checkpoints of mmengine keep their training history in numpy
arrays and classes of their own. Whatever such a file names is therefore replaced by an inert placeholder: the real
class is neither imported nor called, and what it held is dropped.
"""

from __future__ import annotations

import _compat_pickle
import io
import json
import os
import pickle
import pickletools
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from litehrnet_cuda.classes import ClassSet, known_class_set
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import written_whole
from litehrnet_cuda.keypoints import KeypointSet, known_keypoint_set
from litehrnet_cuda.models.key_layouts import strip_wrappers

# Where training code keeps the weights, the ones to use first. mmengine writes the averaged weights to "state_dict"
# and the others to "ema_state_dict".
_WRAPPING_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "params", "weights"),
    *("ema", "ema_state_dict", "state_dict_ema", "model_ema"),
)
# What is kept beside the weights: counters of averaging wrappers (torch.optim.swa_utils, mmengine) and the
# normalisation of images (mmengine).
_NOT_WEIGHTS = re.compile(r"n_averaged|steps|data_preprocessor\..*")

# Files that hold networks, but no state dict.
_OTHER_FORMATS = {
    ".onnx": "an ONNX file, which PoseEstimator and Segmenter run as it is; take the checkpoint that it is of",
    ".pdiparams": "an exported program's weights, which have no names; take the .pdparams that it was exported from",
    ".pdmodel": "an exported program; take the .pdparams that it was exported from",
    ".pt2": "a program of torch.export; take the checkpoint that it is of",
}

_NEWEST_PROTOCOL = 3  # of pickle, that torch reads without running it
_METADATA_KEY = "litehrnet_cuda"


@dataclass(frozen=True)
class CheckpointMetadata:
    """What is needed, besides the weights, to use a network.

    Args:
        variant: name in the registry, such as ``"litehrnet_18"``.
        task: ``"pose"``, ``"segmentation"``, or ``"backbone"`` where there is no head.
        num_outputs: joints or classes; 0 of a backbone.
        keypoint_set: the joints, for ``task="pose"``.
        input_size: (width, height) in pixels that the network was trained on.
        mean: of the red, green and blue channel, which images of range 0 to 1 are reduced by; ImageNet's by default.
        std: what the channels are divided by after that.
        class_set: the classes, for ``task="segmentation"``.
        head: ``"fcn"`` or ``"resize_concat"``, for ``task="segmentation"``.
        iterative_head: whether the backbone ends with the iterative head.
        box_convention: how the boxes of people in COCO's form were clipped in training, see
            :func:`litehrnet_cuda.data.transforms.clip_annotated_boxes`; None where that is not known.
        decoder: how key points are read off the heat maps, which targets of its kind were trained for, see
            :func:`litehrnet_cuda.codecs.heatmap.decode_heatmaps`; None where that is not known.

    Raises:
        InputError: for values that no network has.
    """

    variant: str
    task: str
    num_outputs: int
    keypoint_set: KeypointSet | None = None
    input_size: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    class_set: ClassSet | None = None
    head: str | None = None
    iterative_head: bool = True
    box_convention: str | None = None
    decoder: str | None = None

    def __post_init__(self) -> None:
        size = self.input_size
        for name, expected, right in (
            ("variant", "a name", isinstance(self.variant, str)),
            ("task", "pose, segmentation or backbone", self.task in ("pose", "segmentation", "backbone")),
            ("num_outputs", "a whole number from 0 up", _is_count(self.num_outputs, 0)),
            ("input_size", "(width, height)", size is None or _are_two(size)),
            ("mean", "three finite numbers", _are_three(self.mean)),
            ("std", "three finite numbers above 0", _are_three(self.std) and min(self.std) > 0),
            ("iterative_head", "true or false", isinstance(self.iterative_head, bool)),
            ("box_convention", "official or mmpose1", self.box_convention in (None, "official", "mmpose1")),
            ("decoder", "a name", self.decoder is None or isinstance(self.decoder, str)),
        ):
            if not right:
                raise InputError(f"{name}: expected {expected}, got {getattr(self, name)!r:.60}")

    def named(self) -> CheckpointMetadata:
        """The same, with the known joints or classes that are as many where it names none."""
        if self.task == "pose":
            return replace(self, keypoint_set=self.keypoint_set or known_keypoint_set(self.num_outputs))
        if self.task == "segmentation":
            return replace(self, class_set=self.class_set or known_class_set(self.num_outputs))
        return self

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CheckpointMetadata:
        fields = _with_tuples(json.loads(text))
        if fields["keypoint_set"] is not None:
            fields["keypoint_set"] = KeypointSet(**fields["keypoint_set"])
        if fields.get("class_set") is not None:
            fields["class_set"] = ClassSet(**fields["class_set"])
        return cls(**fields)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_two(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) == 2 and all(_is_count(value, 1) for value in values)


def _are_three(values: Any) -> bool:
    numbers = isinstance(values, tuple) and all(isinstance(value, float | int) for value in values)
    return numbers and len(values) == 3 and all(abs(value) <= sys.float_info.max for value in values)


class FileContent(NamedTuple):
    """What is in a checkpoint file.

    Args:
        weights: names, in the layout of the file, to tensors.
        left_out: what else is in it, such as ``optimizer``.
    """

    weights: dict[str, Tensor]
    left_out: tuple[str, ...]


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the weights of a checkpoint file onto the CPU: :func:`read_file` without what else is in it.

    Raises:
        InputError: there is no such file, it is damaged, or it holds no weights.
    """
    return read_file(path).weights


def read_file(path: str | os.PathLike[str]) -> FileContent:
    """Read a checkpoint file onto the CPU.

    Reads ``.safetensors``, PaddlePaddle's ``.pdparams``, and files of ``torch.save`` under any other name. Takes the
    weights out of what training code wraps them in (``state_dict``, ``model``, ... beside an optimiser) and the
    prefixes of ``DataParallel`` and ``torch.compile`` off their names. Code in the file is never run.

    Raises:
        InputError: there is no such file, it is damaged, or it holds no weights.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected a checkpoint file, got a directory; name the file in it")
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint file, got a path where there is none")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected a checkpoint file, got an empty file; copy or download it again")
    if path.suffix.lower() in _OTHER_FORMATS:
        raise InputError(f"{path}: expected a checkpoint, got {_OTHER_FORMATS[path.suffix.lower()]}")
    readers = {".safetensors": _read_safetensors, ".pdparams": _read_paddle}
    content = readers.get(path.suffix.lower(), _read_torch)(path)
    weights, left_out = _find_weights(content, path)
    stripped = {strip_wrappers(name): tensor for name, tensor in weights.items()}
    if len(stripped) != len(weights):
        raise InputError(f"{path}: expected one network, got names both with and without a prefix such as module.")
    return FileContent(stripped, left_out)


def read_metadata(path: str | os.PathLike[str]) -> CheckpointMetadata | None:
    """Read what :func:`write_safetensors` wrote beside the weights; ``None`` for files of other programs.

    Raises:
        InputError: the file cannot be read, or its metadata is damaged.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: expected a safetensors file, got one that cannot be read ({error})") from error
    try:
        return None if text is None else CheckpointMetadata.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: expected metadata as litehrnet_cuda writes it, got {text!r:.200} ({error}); save it again"
        ) from error


def write_safetensors(
    state_dict: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: CheckpointMetadata
) -> Path:
    """Write weights and metadata to a ``.safetensors`` file, whole or not at all.

    Raises:
        InputError: the name does not end in ``.safetensors``, or the place cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"path: expected a name that ends in .safetensors, got {path.name}")
    with written_whole(path, durable=True) as draft:
        draft.write_bytes(to_safetensors(state_dict, metadata))
    return path


def to_safetensors(state_dict: Mapping[str, Tensor], metadata: CheckpointMetadata) -> bytes:
    """What :func:`write_safetensors` writes, for a place that is written whole already."""
    # Clones, because safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    # One entry only: safetensors writes several in random order, and equal networks should give equal files. Not
    # save_file, whose files their owner alone may read.
    return bytes(safetensors.torch.save(tensors, {_METADATA_KEY: metadata.to_json()}))


def _with_tuples(value: Any) -> Any:
    """JSON knows no tuples, and the dataclasses hold nothing else."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _find_weights(content: Any, path: Path) -> FileContent:
    """The state dict within what a file holds, and the names of what is around and beside it."""
    if isinstance(content, _Placeholder):
        raise InputError(
            f"{path}: expected a state dict, got a pickled {content.origin}, which is not opened because that could "
            "run code; save model.state_dict() instead of the object"
        )
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a state dict, got {type(content).__name__}; save model.state_dict()")
    for key in _WRAPPING_KEYS:
        if isinstance(content.get(key), dict):
            weights, left_out = _find_weights(content[key], path)
            return FileContent(weights, (*(str(name) for name in content if name != key), *left_out))
    entries = {str(name): value for name, value in content.items() if not _NOT_WEIGHTS.fullmatch(str(name))}
    weights = {name: value.detach() for name, value in entries.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError(f"{path}: expected the weights of a network, got {_keys_in_words(content)} and no tensors")
    for name, value in entries.items():
        if isinstance(value, _Placeholder):
            raise InputError(
                f"{path}: expected a tensor for {name!r}, got a {value.origin}; save model.state_dict() instead"
            )
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            kind = "meta" if tensor.is_meta else f"{tensor.layout}, {tensor.dtype}".replace("torch.", "")
            raise InputError(
                f"{path}: expected dense tensors of real numbers, got another one for {name!r} ({kind}); save the "
                "weights of the network itself"
            )
    return FileContent(weights, tuple(str(name) for name in content if str(name) not in weights))


def _keys_in_words(content: Mapping[Any, Any]) -> str:
    keys = [str(key) for key in content]
    return f"the keys {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}" if keys else "no keys"


def _damaged(path: Path, kind: str, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return InputError(
        f"{path}: expected {kind}, got a file that is damaged, cut short or of another kind ({reason}); "
        "copy or download it again"
    )


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, "a safetensors file", error) from error


# ------------------------------------------------------------------------------------------- files of torch.save


class _Placeholder:
    """Stands for any class or function that a file names: takes every argument and state, and keeps nothing."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _read_torch(path: Path) -> Any:
    try:
        placeholders: list[Any] = [
            (type("Placeholder", (_Placeholder,), {"origin": name}), name)
            for name in sorted(_global_names(path) - _names_allowed_by_the_program())
        ]
        # What torch itself allows is looked up first, so that a placeholder never hides a tensor; what it blocks (os,
        # sys) is refused even so.
        with torch.serialization.safe_globals(placeholders):
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        # A damaged pickle has already failed in _global_names; what fails here is well formed, but asks for more than
        # containers, tensors and placeholders. The text of torch's error advises to run it.
        raise InputError(
            f"{path}: expected a checkpoint, got a file that asks to run code when it is opened; nothing was run: do "
            "not trust it unless you wrote it, and if you did, save model.state_dict() on its own"
        ) from error
    # A damaged pickle or archive can fail anywhere: KeyError, struct.error, RuntimeError, ...
    except Exception as error:
        raise _damaged(path, "a file of torch.save", error) from error


def _names_allowed_by_the_program() -> set[str]:
    """What other code in this process allowed through ``torch.serialization.add_safe_globals``."""
    allowed = torch.serialization.get_safe_globals()
    return {item[1] if isinstance(item, tuple) else f"{item.__module__}.{item.__qualname__}" for item in allowed}


def _global_names(path: Path) -> set[str]:
    """The full names of the classes and functions that a file of ``torch.save`` refers to; imports none of them."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                    raise InputError(
                        f"{path}: expected a checkpoint, got a TorchScript program; save model.state_dict() instead"
                    )
                pickles = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
            return {name for data in pickles for name in _globals_of_pickle(io.BytesIO(data), path)}
        # Before torch 1.6, or with _use_new_zipfile_serialization=False: pickles one after another (magic number,
        # protocol, system, object, storage keys), then the storages.
        file.seek(0)
        return {name for _ in range(5) for name in _globals_of_pickle(file, path)}


def _globals_of_pickle(file: IO[bytes], path: Path) -> set[str]:
    names = set()
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "PROTO" and int(argument or 0) > _NEWEST_PROTOCOL:
            raise InputError(
                f"{path}: expected a file of torch.save as it writes it by default, got pickle protocol {argument}, "
                "which is not opened without running it; save it without pickle_protocol"
            )
        if opcode.name == "GLOBAL":
            module, name = str(argument).split(" ", 1)
            # torch writes pickle protocol 2 with the names of Python 2, such as __builtin__.
            default = (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
            names.add(".".join(_compat_pickle.NAME_MAPPING.get((module, name), default)))
    return names


# --------------------------------------------------------------------------------------------- files of paddle.save


class _ForbiddenNameError(pickle.UnpicklingError):
    """A file names something besides arrays and containers."""


class _ArrayUnpickler(pickle.Unpickler):
    """Reads containers of numpy arrays and nothing else."""

    _ALLOWED = frozenset(
        {
            *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict")),
            *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
            # A tensor that lies deeper than in the outermost dictionary is written as tuple((its name, an array)).
            *(("builtins", "tuple"), ("__builtin__", "tuple")),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise _ForbiddenNameError(f"{module}.{name}")
        # numpy.core became numpy._core in numpy 2; asking for the old name warns.
        if module.endswith(".multiarray"):
            module = np.zeros(0).__reduce__()[0].__module__
        return super().find_class(module, name)


def _read_paddle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _with_tensors(_ArrayUnpickler(file).load())
    except _ForbiddenNameError as error:
        raise InputError(
            f"{path}: expected a PaddlePaddle file of parameters, got one that asks to run {error} when it is opened; "
            "nothing was run: do not trust it unless you wrote it, and if you did, save layer.state_dict() on its own"
        ) from error
    except Exception as error:  # as above
        raise _damaged(path, "a PaddlePaddle file of parameters", error) from error


def _with_tensors(value: Any) -> Any:
    """What paddle.save wrote with tensors in the place of arrays; ``python/paddle/framework/io.py`` of PaddlePaddle."""
    if isinstance(value, dict):
        return {name: _with_tensors(item) for name, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray):
        value = value[1]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == np.uint16:  # numpy has no bfloat16, whose bits stand here
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(value))
