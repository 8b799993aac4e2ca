"""Whole networks with fused blocks, on the emulated backend, against the official code."""

from __future__ import annotations

import copy
from typing import Any

import emulated_ops
import pytest
import torch
from official_reference import REGISTRY_NAMES, load_recipe, read_json, read_tensors, recipe_input, relative_error

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork
from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting

SMALL = ("lite_18_k17_b2_64x64", "lite_18_k17_b2_93x157", "lite_30_k17_b2_96x64", "lite_30_k16_b1_96x96")
CASES = {case["name"]: case for case in read_json("index.json")["eval"]}


@pytest.fixture(autouse=True)
def emulator() -> Any:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    yield library
    assert library.errors() == []


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_matches_official(name: str, emulator: Any) -> None:
    case = CASES[name]
    variant = VARIANTS[REGISTRY_NAMES[case["variant"]]]
    model = load_recipe(PoseNetwork(LiteHRNet(variant), case["joints"]), case["weight_tag"]).eval()
    x = recipe_input(case["input_seed"], (case["batch"], 3, case["height"], case["width"]))
    expected = read_tensors("eval_outputs.safetensors", name)[""]
    with torch.no_grad(), use_backend("emulated"):
        assert relative_error(model(x), expected) < 1e-7  # stored as float32
        launches = len(emulator.launches())
        assert relative_error(model.float()(x.float()), expected) < 5e-6  # as the reference path in float32
    blocks = variant.num_blocks * sum(variant.num_modules)
    assert launches == 3 * blocks


def _block() -> tuple[ConditionalChannelWeighting, list[torch.Tensor]]:
    torch.manual_seed(0)
    block = ConditionalChannelWeighting([8, 16]).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block, [torch.randn(2, 8, 8, 6), torch.randn(2, 16, 4, 3)]


def _outputs(block: ConditionalChannelWeighting, x: list[torch.Tensor], backend: str) -> torch.Tensor:
    with torch.no_grad(), use_backend(backend):
        return torch.cat([s.flatten() for s in block(list(x))])


def test_changed_parameters_are_folded_again(emulator: Any) -> None:
    block, x = _block()
    before = _outputs(block, x, "emulated")

    def check() -> None:
        after = _outputs(block, x, "emulated")
        torch.testing.assert_close(after, _outputs(block, x, "reference"))
        assert not torch.equal(after, before)

    with torch.no_grad():
        block.depthwise_convs[0].conv.weight.mul_(2)  # in place, as an optimizer does
    check()
    block.train()
    with use_backend("reference"):
        block([s * 3 for s in x])  # running statistics move
    block.eval()
    check()
    block.spatial_weighting[0].conv1.conv.weight = torch.nn.Parameter(
        torch.randn_like(block.spatial_weighting[0].conv1.conv.weight)
    )
    check()
    for parameter in block.parameters():
        parameter.data.mul_(0.5)  # uncounted by PyTorch: eval() or train() says that something may have changed
    block.eval()
    check()
    other, _ = _block()
    torch.nn.init.normal_(other.depthwise_convs[1].bn.bias)
    block.load_state_dict(other.state_dict(), assign=True)
    check()


def test_a_copy_folds_its_own_weights(emulator: Any) -> None:
    block, x = _block()
    _outputs(block, x, "emulated")
    twin = copy.deepcopy(block)
    with torch.no_grad():
        twin.depthwise_convs[0].conv.weight.zero_()
    torch.testing.assert_close(_outputs(twin, x, "emulated"), _outputs(twin, x, "reference"))


def test_replicas_fold_for_themselves(emulator: Any) -> None:
    block, x = _block()
    _outputs(block, x, "emulated")
    assert block._folded
    assert not block._replicate_for_data_parallel()._folded


def test_reference_is_taken_where_nothing_else_was_asked_for(emulator: Any) -> None:
    block, x = _block()
    with torch.no_grad():
        block(list(x))
    assert emulator.launches() == []


def test_frozen_parameters_need_no_no_grad(emulator: Any) -> None:
    block, x = _block()
    block.requires_grad_(False)
    with use_backend("emulated"):
        block(list(x))
    assert len(emulator.launches()) == 3


def test_a_backend_that_cannot_run_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = _block()
    with (
        pytest.raises(InputError, match=r"expected auto, cuda, triton, cpu, reference, emulated, got 'gpu'"),
        use_backend("gpu"),
    ):
        pass
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="backend 'cuda' cannot run here: "), use_backend("cuda"):
            pass
        monkeypatch.setenv("LITEHRNET_CUDA_BACKEND", "cuda")
        with (
            torch.no_grad(),
            pytest.raises(InputError, match="LITEHRNET_CUDA_BACKEND: backend 'cuda' cannot run here: "),
        ):
            block(x)


@pytest.mark.compile
def test_network_compiles_into_one_graph_with_fused_blocks(emulator: Any) -> None:
    block, x = _block()
    block.requires_grad_(False)
    with use_backend("emulated"):
        expected = block(list(x))
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        for a, b in zip(compiled(list(x)), expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_uses_the_fused_block(dtype: torch.dtype, emulator: Any) -> None:
    block, x = _block()
    exact = _outputs(block, x, "reference")
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype), use_backend("emulated"):
        out = block([s.to(dtype) for s in x])  # as a convolution before it leaves them
    assert len(emulator.launches()) == 3
    assert {s.dtype for s in out} == {dtype}
    # A handful of roundings of the inputs, the weights and the results.
    error = (torch.cat([s.flatten() for s in out]).float() - exact).abs().max() / exact.abs().max()
    assert error < 8 * torch.finfo(dtype).eps


def test_autocast_of_single_precision_maps_runs_in_its_dtype(emulator: Any) -> None:
    block, x = _block()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), use_backend("emulated"):
        assert {s.dtype for s in block(list(x))} == {torch.bfloat16}
    assert list(block._folded) == [torch.bfloat16]


def test_rows_that_are_too_wide_for_the_kernel_take_the_reference(emulator: Any) -> None:
    block, _ = _block()
    x = [torch.randn(1, 8, 2, 2000), torch.randn(1, 16, 1, 1000)]
    with torch.no_grad(), use_backend("emulated"):
        assert block(list(x))[0].shape == x[0].shape
    # Spatial weighting, which takes rows of any width, weights the narrower branch by itself.
    assert ["spatial_weighting" in launch["kernel"] for launch in emulator.launches()] == [True]


def test_another_dtype_without_autocast_is_refused_by_the_reference(emulator: Any) -> None:
    block, x = _block()
    with torch.no_grad(), use_backend("emulated"), pytest.raises(RuntimeError):
        block([s.double() for s in x])
    assert emulator.launches() == []
