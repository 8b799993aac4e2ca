"""The fuse step has traps; these tests show that the reference data tells the wrong forms from the right one."""

from __future__ import annotations

from typing import Any

import module_cases
import pytest
import torch
import torch.nn.functional as F
from official_reference import load_recipe, read_json, read_tensors, recipe_input, relative_error
from torch import Tensor

from litehrnet_cuda.nn.fuse import LiteHRModule

CASES = {case["name"]: case for case in read_json("index.json")["modules"]}
NAMES = ["hrmodule_lite_2", "hrmodule_lite_3", "hrmodule_naive_2"]


class TextbookSum(LiteHRModule):
    """s_i = o_i + sum_{j != i} f_ij(o_j), as papers print it."""

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        sums = []
        for i, paths in enumerate(self.fuse_layers):
            terms = [
                x[j] if i == j else F.interpolate(path(x[j]), size=x[i].shape[-2:]) if j > i else path(x[j])
                for j, path in enumerate(paths)
            ]
            sums.append(torch.stack(terms).sum(0))
        return sums


class SingleUpdate(LiteHRModule):
    """The right sums, but f_i0's batch norms see one update, as code that computes it once and forgets would do."""

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        before = {k: v.clone() for k, v in self.named_buffers()}
        sums = super().fuse(x)
        for i in range(1, self.num_branches):
            for key, buffer in self.fuse_layers[i][0].named_buffers():
                old = before[f"fuse_layers.{i}.0.{key}"]
                if key.endswith("num_batches_tracked"):
                    buffer.copy_(old + 1)
                else:
                    buffer.copy_(old + (buffer - old) * (0.1 / 0.19))
        return sums


def results(cls: type[LiteHRModule], name: str) -> tuple[float, float]:
    """Errors of the outputs in evaluation mode, and of the buffers after a training step."""
    case: dict[str, Any] = CASES[name]
    module = load_recipe(cls(**case["config"]), case["weight_tag"])
    inputs = [recipe_input(seed, shape) for seed, shape in zip(case["input_seeds"], case["input_shapes"], strict=True)]
    with torch.no_grad():
        outputs = module.eval()(list(inputs))
        module.train()(list(inputs))
    expected = read_tensors("modules.safetensors", f"{name}/eval_output/")
    output_error = max(relative_error(out, expected[str(i)]) for i, out in enumerate(outputs))
    buffers = dict(module.named_buffers())
    expected = read_tensors("modules.safetensors", f"{name}/buffer_after/")
    return output_error, max(relative_error(buffers[k].reshape(v.shape), v) for k, v in expected.items())


@pytest.mark.parametrize("name", NAMES)
def test_reference_tells_forms_apart(name: str) -> None:
    output_error, buffer_error = results(LiteHRModule, name)
    assert output_error < 1e-12
    assert buffer_error < 1e-10

    output_error, _ = results(TextbookSum, name)
    assert output_error > 1e-2

    output_error, buffer_error = results(SingleUpdate, name)
    assert output_error < 1e-12
    assert buffer_error > 1e-2


@pytest.mark.parametrize("sizes", [[(13, 9), (7, 5), (4, 3)], [(8, 11), (4, 6), (2, 3)], [(9, 8), (5, 4), (3, 2)]])
def test_any_size(sizes: list[tuple[int, int]]) -> None:
    module = LiteHRModule(3, 1, [8, 16, 32])
    out = module([torch.randn(2, c, *size) for c, size in zip([8, 16, 32], sizes, strict=True)])
    assert [tuple(s.shape[-2:]) for s in out] == sizes


def test_first_branch_only() -> None:
    inputs = [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    full = LiteHRModule(2, 1, [8, 16]).eval()
    first = LiteHRModule(2, 1, [8, 16], multiscale_output=False).eval()
    first.load_state_dict({k: v for k, v in full.state_dict().items() if not k.startswith("fuse_layers.1")})
    out = first(list(inputs))
    assert len(out) == 1
    assert torch.equal(out[0], full(list(inputs))[0])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="expected in_channels of length num_branches=3"):
        LiteHRModule(3, 2, [8, 16])
    with pytest.raises(ValueError, match="expected module_type 'LITE' or 'NAIVE', got 'lite'"):
        LiteHRModule(2, 2, [8, 16], module_type="lite")  # type: ignore[arg-type]


def test_another_activation_behind_the_fuse_step_is_kept() -> None:
    module, inputs = module_cases.build(CASES["hrmodule_lite_2"])
    module.relu = torch.nn.Identity()
    with torch.no_grad():
        assert all(y.min() < 0 for y in module(list(inputs)))


def test_an_export_has_no_ops_of_this_package() -> None:
    module, inputs = module_cases.build(CASES["hrmodule_lite_2"])
    program = torch.export.export(module.eval(), (list(inputs),))
    assert "litehrnet_cuda" not in str(program.graph)
