"""Plans as ``.safetensors`` files: the weights as tensors, everything else as JSON in the file's metadata."""

from __future__ import annotations

import json
import os
import types
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import safetensors
import safetensors.torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import written_whole
from litehrnet_cuda.plan.checks import check_plan
from litehrnet_cuda.plan.memory import Layout
from litehrnet_cuda.plan.operands import Buffer
from litehrnet_cuda.plan.packing import ACCUMULATE
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import STEPS

_KEY = "litehrnet_cuda.plan"
_VERSION = 1
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in ACCUMULATE}
_KINDS = {kind.__name__: kind for kind in STEPS}


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> Path:
    """See :meth:`litehrnet_cuda.plan.plan.Plan.save`."""
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"path: expected a name that ends in .safetensors, got {path.name}")
    content = {
        "version": _VERSION,
        "network": plan.network,
        "height": plan.height,
        "width": plan.width,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "buffers": [asdict(buffer) for buffer in plan.buffers],
        "steps": [{"kind": type(step).__name__, **asdict(step)} for step in plan.steps],  # type: ignore[call-overload]
        "outputs": plan.outputs,
        "layout": asdict(plan.layout),
    }
    with written_whole(path) as draft:
        # Not save_file, whose files their owner alone may read.
        draft.write_bytes(safetensors.torch.save(plan.weights, {_KEY: json.dumps(content)}))
    return path


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """See :meth:`litehrnet_cuda.plan.plan.Plan.load`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a file that holds a plan, got a path where there is none")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: expected a safetensors file, got one that cannot be read ({error})") from error
    if text is None:
        raise InputError(f"{path}: expected a plan, got a file without one, weights perhaps; build the plan again")
    try:
        content = json.loads(text)
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, expected {_VERSION}")
        plan = Plan(
            network=_decode(str, content["network"]),
            height=_decode(int, content["height"]),
            width=_decode(int, content["width"]),
            dtype=_DTYPES[content["dtype"]],
            buffers=_decode(tuple[Buffer, ...], content["buffers"]),
            steps=tuple(_decode(_KINDS[step.pop("kind")], step) for step in content["steps"]),
            weights=weights,
            outputs=_decode(tuple[int, ...], content["outputs"]),
            layout=_decode(Layout, content["layout"]),
        )
        check_plan(plan)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: expected a plan as Plan.save writes it, got a damaged one ({error})") from error
    return plan


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, value: Any) -> Any:
    """What JSON holds as a type: dataclasses, tuples of one type, optional values, and plain values."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        names = {field.name for field in fields(kind)}
        if not isinstance(value, dict) or set(value) != names:
            raise ValueError(f"expected the fields of {kind}, got {value!r:.80}")
        hints = _hints(kind)  # type: ignore[arg-type]
        return kind(**{name: _decode(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, got {value!r:.80}")
        return tuple(_decode(get_args(kind)[0], item) for item in value)
    if origin in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return None if value is None else _decode(inner, value)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"expected one of {get_args(kind)}, got {value!r:.80}")
        return value
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {value!r:.80}")
    return value
