"""The suites of Triton's ops on the CPU; `run` starts them with Triton's interpreter, in a process of their own.

Triton decides when it is imported whether it interprets, so this cannot happen beside other tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from op_cases import LAYOUTS, OPS, SIZES, assert_close_to_reference, cast, channels_for, memory_format_of
from torch import Tensor

import litehrnet_cuda
from litehrnet_cuda import backends
from litehrnet_cuda.errors import InputError

TESTS = Path(__file__).parent
PROGRAM = "import sys, pytest; sys.path.insert(0, sys.argv[1]); sys.exit(pytest.main(sys.argv[2:]))"
SHAPES = [name for name in SIZES if not name.startswith("width_")]  # widths are masks here, not vectors
FEW_SHAPES = ["three_exact", "odd", "low_is_larger"]


def run(suite: str, folder: Path) -> None:
    """Runs one of the classes below, and fails with its last words if a test of it fails.

    Args:
        suite: name of the class.
        folder: to run in; not the source tree, whose package would hide the one that is installed.
    """
    if release_of("triton") < (3, 7) and release_of("numpy") >= (2, 4):
        pytest.skip("the interpreter of Triton 3.6 has no loops with NumPy 2.4")
    options = [
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        "--rootdir",
        str(TESTS.parent),
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    package = str(Path(litehrnet_cuda.__file__).parents[1])  # the same as this process has
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, package, *options, f"{Path(__file__)}::{suite}"],
        cwd=folder,
        env={**os.environ, backends.INTERPRETER_VARIABLE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


def release_of(package: str) -> tuple[int, int]:
    """Major and minor version of what is installed."""
    major, minor = version(package).split(".")[:2]
    return int(major), int(minor)


class Launches:
    """Takes a kernel's place, and counts its launches."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.grids = kernel, []

    def __getitem__(self, grid: Any) -> Any:
        self.grids.append(grid)
        return self.kernel[grid]


class TritonOpSuite:
    name: ClassVar[str]

    @pytest.fixture(autouse=True)
    def modules(self) -> dict[str, Any]:
        """The ops' modules, whose names in the package are those of functions."""
        import litehrnet_cuda.triton

        names = litehrnet_cuda.triton.__all__
        return {name: sys.modules[f"litehrnet_cuda.triton.{name}"] for name in names}

    @pytest.fixture
    def launches(self, modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Launches]:
        """The kernels by name."""
        kernels = {}
        for module in modules.values():
            for name in [name for name in vars(module) if name.endswith("_kernel")]:
                kernels[name] = Launches(getattr(module, name))
                monkeypatch.setattr(module, name, kernels[name])
        return kernels

    @pytest.fixture
    def sharing(self, modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Programs have several positions, as in large batches."""
        monkeypatch.setattr(modules["cross_resolution_weighting"], "_MANY_PROGRAMS", 1)

    @property
    def op(self) -> Callable[..., list[Tensor]]:
        import litehrnet_cuda.triton

        op: Callable[..., list[Tensor]] = getattr(litehrnet_cuda.triton, self.name)
        return op

    def arguments(self, sizes: Any, dtype: torch.dtype = torch.float32, batch: int = 2) -> list[Any]:
        sizes = SIZES[sizes] if isinstance(sizes, str) else sizes
        args: list[Any] = cast(OPS[self.name].arguments(sizes, channels_for(sizes), batch), dtype)
        return args

    def assert_close(self, args: list[Any], dtype: torch.dtype = torch.float32) -> None:
        assert_close_to_reference(self.op, OPS[self.name].reference, args, dtype)

    @pytest.mark.usefixtures("sharing")
    def test_images_of_a_batch(self) -> None:
        self.assert_close(self.arguments([(9, 5), (4, 2), (2, 1)], torch.float64, batch=5))

    @pytest.mark.usefixtures("sharing")
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("sizes", FEW_SHAPES)
    def test_dtypes_match_reference(self, sizes: str, dtype: torch.dtype) -> None:
        self.assert_close(self.arguments(sizes, torch.float64, batch=1), dtype)

    @pytest.mark.usefixtures("sharing")
    def test_float64_is_computed_as_such(self) -> None:
        args = self.arguments("odd", torch.float64, batch=1)
        for result, expected in zip(self.op(*args), OPS[self.name].reference(*args), strict=True):
            # Both are off by some sixty roundings of values of about one, of half a unit in the last place each.
            torch.testing.assert_close(result, expected, rtol=0, atol=64 * 2**-53 * expected.abs().max().item())

    @pytest.mark.parametrize("sizes", ["four_exact", "odd"])
    def test_one_position_a_program(self, sizes: str, launches: dict[str, Launches]) -> None:
        self.assert_close(self.arguments(sizes, torch.float64, batch=1))
        height, width = SIZES[sizes][-1]
        assert launches["cross_resolution_weighting_kernel"].grids == [(height * width,)]

    def test_what_is_no_number_goes_as_far_as_in_the_reference(self) -> None:
        args = self.arguments([(9, 5), (4, 2), (2, 1)], batch=1)
        args[0][0][0, -1, 4, 2] = torch.nan
        for result, expected in zip(self.op(*args), OPS[self.name].reference(*args), strict=True):
            assert expected.isnan().any()
            assert torch.equal(result.isnan(), expected.isnan())

    def test_small_tiles_match_reference(self, modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Every loop over parts of a matrix, a window or a plane goes around several times."""
        for module in modules.values():
            for name, size in {"_MATRIX_TILE": 16, "_PIXEL_TILE": 8, "_TILE": 16}.items():
                monkeypatch.setattr(module, name, size, raising=False)
        self.assert_close(self.arguments([(11, 9), (4, 3), (2, 1)], torch.float64, batch=1))

    def test_rounding_of_nearest_upsampling(self) -> None:
        """In fp32, 41 of 82 pixels read the first of 2 positions, or 42 of them."""
        self.assert_close(self.arguments([(82, 3), (2, 1)], torch.float64, batch=1))

    @pytest.mark.usefixtures("sharing")
    def test_two_runs_give_the_same_bits(self) -> None:
        args = self.arguments([(5, 6), (3, 3)])
        for a, b in zip(self.op(*args), self.op(*args), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.usefixtures("sharing")
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layouts(self, layout: str) -> None:
        args = self.arguments([(5, 6), (3, 3)])
        changed = [LAYOUTS[layout](x) for x in args[0]]
        expected = self.op([x.contiguous() for x in changed], *args[1:])
        for a, b, x in zip(self.op(changed, *args[1:]), expected, changed, strict=True):
            assert torch.equal(a, b)
            assert a.is_contiguous(memory_format=memory_format_of(x))

    @pytest.mark.usefixtures("sharing")
    def test_second_matrix_may_be_transposed_or_not(self) -> None:
        args = self.arguments([(4, 4), (2, 2)])
        changed = [*args[:3], args[3].t().contiguous().t(), *args[4:]]
        for a, b in zip(self.op(*changed), self.op(*args), strict=True):
            assert torch.equal(a, b)

    def test_launches(self, launches: dict[str, Launches]) -> None:
        self.op(*self.arguments([(4, 4), (2, 2), (1, 1)]))
        assert sum(len(kernel.grids) for kernel in launches.values()) == OPS[self.name].launches

    def test_empty_batch(self, launches: dict[str, Launches]) -> None:
        args = self.arguments("three_exact", batch=0)
        assert [s.shape for s in self.op(*args)] == [s.shape for s in OPS[self.name].reference(*args)]
        assert not any(kernel.grids for kernel in launches.values())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast_runs_in_its_dtype(self, dtype: torch.dtype) -> None:
        args = self.arguments("one_pixel")
        with torch.autocast("cpu", dtype=dtype):
            out = self.op(*args)
        for a, b in zip(out, self.op(*cast(args, dtype)), strict=True):
            assert a.dtype == dtype
            assert torch.equal(a, b)

    def test_gradients_are_refused_rather_than_left_out(self) -> None:
        args = self.arguments("one_pixel")
        args[1].requires_grad_()
        with pytest.raises(InputError, match=f"{self.name}: expected no tensor that requires a gradient"):
            self.op(*args)
        with torch.no_grad():
            assert not self.op(*args)[0].requires_grad


class TestCrossResolutionWeighting(TritonOpSuite):
    name = "cross_resolution_weighting"

    @pytest.mark.usefixtures("sharing")
    @pytest.mark.parametrize("sizes", SHAPES)
    def test_matches_reference(self, sizes: str) -> None:
        self.assert_close(self.arguments(sizes, torch.float64, batch=1))


class TestConditionalChannelWeighting(TritonOpSuite):
    name = "conditional_channel_weighting"

    @pytest.mark.usefixtures("sharing")
    @pytest.mark.parametrize("sizes", ["one_branch", "two_exact", "overlapping", "one_pixel", "thin", "lowest_is_one"])
    def test_matches_reference(self, sizes: str) -> None:
        """What its first launch makes of all shapes is tested above."""
        self.assert_close(self.arguments(sizes, torch.float64, batch=1))

    def test_odd_channels_are_refused(self) -> None:
        args = self.arguments("two_exact")
        args[0][0] = torch.zeros(2, 7, 16, 12)
        with pytest.raises(InputError, match=r"x\[0\]: expected an even number of channels"):
            self.op(*args)

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (5, [torch.zeros(4, 3, 3), torch.zeros(5, 3, 3)], r"depthwise_weight\[1\]: expected shape \[6, 3, 3\]"),
            (8, [torch.zeros(1)], r"gate_bias1: expected 2 tensors, one per branch, got 1"),
            (9, [torch.zeros(4, 2), torch.zeros(6, 1)], r"gate_weight2\[0\]: expected shape \[4, 1\], got \[4, 2\]"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        args = self.arguments("two_exact")
        args[index] = value
        with pytest.raises(InputError, match=f"{self.name}: {message}"):
            self.op(*args)


class TestBlocks:
    """The network's block takes them where it does without gradients, and nothing else does."""

    @pytest.fixture(autouse=True)
    def launches(self, monkeypatch: pytest.MonkeyPatch) -> Launches:
        import litehrnet_cuda.triton  # noqa: F401

        module = sys.modules["litehrnet_cuda.triton.conditional_channel_weighting"]
        kernel = Launches(module.spatial_weighting_kernel)  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "spatial_weighting_kernel", kernel)
        return kernel

    @pytest.fixture
    def block(self) -> Any:
        from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting

        torch.manual_seed(0)
        block = ConditionalChannelWeighting([8, 24])
        for name, buffer in block.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.uniform_(0.5, 1.5)
        return block.eval()

    @pytest.fixture
    def maps(self) -> list[Tensor]:
        return [torch.randn(1, 8, 4, 4), torch.randn(1, 24, 2, 2)]

    def test_in_evaluation_without_gradients(self, block: Any, maps: list[Tensor], launches: Launches) -> None:
        with torch.no_grad(), backends.use_backend("reference"):
            expected = block(maps)
        assert launches.grids == []
        with torch.no_grad(), backends.use_backend("triton"):
            results = block(maps)
        assert len(launches.grids) == 1
        for a, b in zip(results, expected, strict=True):
            torch.testing.assert_close(a, b)

    def test_not_in_training_nor_with_gradients(self, block: Any, maps: list[Tensor], launches: Launches) -> None:
        with backends.use_backend("triton"):
            y = block(maps)
            y[0].sum().backward()
            block.train()(maps)
        assert launches.grids == []

    def test_not_where_a_part_has_a_hook(self, block: Any, maps: list[Tensor], launches: Launches) -> None:
        seen = []
        block.depthwise_convs[0].conv.register_forward_hook(lambda *_: seen.append(1))
        with torch.no_grad(), backends.use_backend("triton"):
            block(maps)
        assert (seen, launches.grids) == ([1], [])

    def test_compilers_see_plain_pytorch(self, block: Any, maps: list[Tensor], launches: Launches) -> None:
        compiled = torch.compile(block, fullgraph=True, backend="eager")
        with torch.no_grad(), backends.use_backend("triton"):
            compiled(maps)
        assert launches.grids == []

    def test_optimized_networks_run_module_by_module(self) -> None:
        from litehrnet_cuda import create_model, optimize_for_inference

        fast = optimize_for_inference(create_model("naive_litehrnet_18"))
        with backends.use_backend("triton"):
            execution = fast.backend_for(torch.zeros(1, 3, 64, 64))
        assert str(execution) == "triton, module by module: Triton has kernels for blocks, not for whole networks"

    def test_backends_tell(self) -> None:
        ok, reason = backends.can_run_triton()
        assert ok
        assert reason.endswith("interprets kernels on the CPU, for tests")
