"""Whether a module is still what it was when something was made of it."""

from __future__ import annotations

import operator
from itertools import chain, repeat
from typing import Any

from torch import Tensor, nn


class ModuleState:
    """What a module consists of: its parts, parameters and buffers, and how often these have been written to.

    A change is another part or tensor in the place of one (``load_state_dict(assign=True)``), other memory under a
    tensor (``to`` another device or dtype), a write to it (an optimizer's step, ``load_state_dict``), which PyTorch
    counts in ``_version``, or the first hook and the last, or another ``forward``. Writes through ``.data`` are not
    counted, and so are not seen. Of inference tensors no writes are counted: a module that has some is never current.

    Asking costs less than a microsecond for every tensor.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        self._places: list[dict[str, Any]] = [
            entries for part in parts for entries in (part._modules, part._parameters, part._buffers) if entries
        ]
        # Held here, so that nothing else can come to lie where one of them was.
        self._values = self._found()
        self.tensors = [value for value in self._values if isinstance(value, Tensor)]
        self._hooks = [hooks for part in parts for hooks in (part._forward_hooks, part._forward_pre_hooks)]
        self._attributes = [vars(part) for part in parts]
        self.is_counted = not any(tensor.is_inference() for tensor in self.tensors)
        self._before = self._now()

    def _found(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._places)))

    def _now(self) -> tuple[object, ...]:
        return (
            [tensor._version for tensor in self.tensors] if self.is_counted else object(),
            list(map(Tensor.data_ptr, self.tensors)),
            any(self._hooks),
            any(map(operator.contains, self._attributes, repeat("forward"))),
        )

    def is_current(self) -> bool:
        """Whether nothing has changed since."""
        values = self._found()
        same = len(values) == len(self._values) and all(map(operator.is_, values, self._values))
        return same and self._now() == self._before
