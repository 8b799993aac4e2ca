"""Training with fused blocks, on the emulated backend, against the official code and the reference."""

from __future__ import annotations

import copy
from typing import Any

import emulated_ops
import pytest
import torch
from module_cases import CASES, assert_matches_official
from network_cases import TRAINING, assert_training_matches_official
from torch import Tensor, nn
from training_cases import assert_gradcheck

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting
from litehrnet_cuda.nn.fuse import LiteHRModule

BLOCK_KINDS = ("ConditionalChannelWeighting", "LiteHRModule")
FUSED = [case for case in CASES if case["kind"] in BLOCK_KINDS and case["config"].get("module_type") != "NAIVE"]
FORWARD, BACKWARD, UPDATE = 5, 8, 1  # launches of a block


@pytest.fixture(autouse=True)
def emulator() -> Any:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    yield library
    assert library.errors() == []


@pytest.mark.parametrize("case", FUSED, ids=lambda case: case["name"])
def test_module_matches_official(case: dict[str, Any], emulator: Any) -> None:
    with use_backend("emulated"):
        assert_matches_official(case)
    assert any("batch_norm" in launch["kernel"] for launch in emulator.launches())


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in TRAINING if "naive" not in case["variant"]], ids=lambda c: c["variant"]
)
def test_adam_training_matches_official(case: dict[str, Any]) -> None:
    with use_backend("emulated"):
        assert_training_matches_official(case)


def make_block(seed: int = 0) -> ConditionalChannelWeighting:
    torch.manual_seed(seed)
    block = ConditionalChannelWeighting([16, 32, 64]).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def maps(batch: int = 2) -> list[Tensor]:
    torch.manual_seed(1)
    sizes = ((16, 16, 12), (32, 8, 6), (64, 4, 3))
    return [torch.randn(batch, *size, dtype=torch.float64, requires_grad=True) for size in sizes]


def step(block: nn.Module, x: list[Tensor], backend: str) -> list[Tensor]:
    """Outputs, gradients of inputs and parameters, and buffers of one training step."""
    block.zero_grad()
    for s in x:
        s.grad = None
    torch.manual_seed(2)
    with use_backend(backend):
        y = block(list(x))
        sum((s * torch.randn_like(s)).sum() for s in y).backward()
    grads = [t.grad.clone() for t in (*x, *block.parameters()) if t.grad is not None]
    return [*(s.detach() for s in y), *grads, *(b.clone() for b in block.buffers())]


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """As far as float64 goes: a few thousand additions in another order, through divisions by deviations."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def freeze_all(block: nn.Module) -> None:
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()


def freeze_some(block: nn.Module) -> None:
    block.depthwise_convs[0].bn.eval()  # type: ignore[index,union-attr]


def without_statistics(block: nn.Module) -> None:
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def keep_statistics(block: nn.Module) -> None:
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False


def average_cumulatively(block: nn.Module) -> None:
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None


def another_momentum(block: nn.Module) -> None:
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum, norm.eps = 0.3, 1e-3


def one_other_momentum(block: nn.Module) -> None:
    block.depthwise_convs[1].bn.momentum = 0.4  # type: ignore[index,union-attr]


def one_other_eps(block: nn.Module) -> None:
    block.depthwise_convs[1].bn.eps = 1e-2  # type: ignore[index,union-attr]


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def conv_of_its_own(block: nn.Module) -> None:
    block.depthwise_convs[0].conv.__class__ = Doubled  # type: ignore[index,union-attr]


def another_activation(block: nn.Module) -> None:
    block.spatial_weighting[0].conv1.activate = nn.SiLU()  # type: ignore[index,union-attr]


WHOLE = FORWARD + UPDATE + BACKWARD
GATES = 1 + 4  # spatial weighting alone
WEIGHTING = 3 + UPDATE + 4  # cross-resolution weighting alone


MODES = {
    "training": (lambda block: None, WHOLE),
    "eval": (lambda block: block.eval(), FORWARD + BACKWARD),
    "frozen": (freeze_all, FORWARD + BACKWARD),
    "without statistics": (without_statistics, FORWARD + BACKWARD),
    "statistics kept": (keep_statistics, FORWARD + BACKWARD),
    "momentum": (another_momentum, WHOLE),
    "two momenta": (one_other_momentum, WHOLE + UPDATE),
    "cumulative": (average_cumulatively, WHOLE),
    "two eps": (one_other_eps, WEIGHTING + GATES),
    "frozen in part": (freeze_some, WEIGHTING + GATES),
    "hook on a part": (
        lambda block: block.depthwise_convs[1].register_forward_hook(lambda *_: None),
        WEIGHTING + 3 * GATES,
    ),
    "conv of its own": (conv_of_its_own, WEIGHTING + 3 * GATES),
    "another activation": (another_activation, WEIGHTING + 2 * GATES),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("with_cp", [False, True], ids=["", "checkpointing"])
def test_every_mode_gives_what_the_reference_gives(mode: str, with_cp: bool, emulator: Any) -> None:
    change, launches = MODES[mode]
    block = make_block()
    block.with_cp = with_cp
    change(block)
    reference = copy.deepcopy(block)
    x = maps()
    assert_same(step(block, x, "emulated"), step(reference, x, "reference"))
    assert with_cp or len(emulator.launches()) == launches
    assert [m.training for m in block.modules()] == [m.training for m in reference.modules()]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", ["block", "module"])
def test_gradcheck_of_modules(kind: str, mode: str) -> None:
    torch.manual_seed(0)
    channels = [8, 16]
    module = (
        ConditionalChannelWeighting(channels, reduce_ratio=2) if kind == "block" else LiteHRModule(2, 1, channels, 2)
    )
    getattr(module.double(), mode)()
    x = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(channels, ((5, 7), (3, 4)), strict=True)]
    with use_backend("emulated"):
        assert_gradcheck(lambda given: module(list(given)), [x], 1)


def test_a_norm_that_appears_twice_is_updated_twice(emulator: Any) -> None:
    torch.manual_seed(0)
    block = ConditionalChannelWeighting([16, 16], reduce_ratio=2).double()
    block.depthwise_convs[0].bn = block.depthwise_convs[1].bn
    reference = copy.deepcopy(block)
    x = [torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True) for size in ((8, 6), (4, 3))]
    assert_same(step(block, x, "emulated"), step(reference, x, "reference"))


def test_checkpointing_recomputes_on_the_backend_of_the_forward_pass(emulator: Any) -> None:
    block, x = make_block(), maps()
    block.with_cp = True
    with use_backend("emulated"):
        y = block(x)
    emulator.reset()
    sum(s.sum() for s in y).backward()
    assert len(emulator.launches()) == FORWARD + BACKWARD


def test_statistics_that_moved_are_folded_again(emulator: Any) -> None:
    """Also where the norms alone were in training, as in recalibration, and without their counts."""
    for counted in (True, False):
        block = make_block().eval()
        norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms if not counted else ():
            norm.num_batches_tracked = None
        with torch.no_grad(), use_backend("emulated"):
            block(maps())
            for norm in norms:
                norm.train()
            block([3 * s for s in maps()])
            for norm in norms:
                norm.eval()
            ours = block(maps())
        with torch.no_grad(), use_backend("reference"):
            assert_same(ours, block(maps()))


def test_nothing_is_hidden_by_the_activations(emulator: Any) -> None:
    """NaN and infinity show where they do in plain PyTorch; which of the two depends on the order of additions."""
    for value in (float("nan"), float("inf")):
        for where in ("conv1", "gate", "map"):
            block, x = make_block(), [s.detach() for s in maps()]
            with torch.no_grad():
                if where == "conv1":
                    block.cross_resolution_weighting.conv1.conv.weight[0, 0] = value
                elif where == "gate":
                    block.spatial_weighting[0].conv1.conv.bias[0] = value
                else:
                    x[0][0, 9, 3, 3] = value
            for training in (True, False):
                twins = [copy.deepcopy(block).train(training) for _ in range(2)]
                with torch.no_grad():
                    with use_backend("emulated"):
                        ours = [*twins[0](x), *twins[0].buffers()]
                    theirs = [*twins[1](x), *twins[1].buffers()]
                for a, b in zip(ours, theirs, strict=True):
                    assert torch.equal(a.isfinite(), b.isfinite()), (value, where, training)


def test_an_empty_batch_is_left_to_the_reference(emulator: Any) -> None:
    block = make_block().eval()
    x = [s.detach()[:0].requires_grad_() for s in maps()]
    with use_backend("emulated"):
        sum(s.sum() for s in block(x)).backward()
    assert emulator.launches() == []
    assert x[0].grad is not None


def test_replicas_of_data_parallel_are_recorded(emulator: Any) -> None:
    block = make_block().eval()
    replica = block._replicate_for_data_parallel()
    for name, part in list(replica._modules.items()):
        assert part is not None
        replica._modules[name] = copy.deepcopy(part)
    for part in replica.modules():
        if part is not replica:
            part._former_parameters = {k: (v * 1 if v is not None else None) for k, v in part._parameters.items()}
            for key in list(part._parameters):
                value = part._parameters.pop(key)
                setattr(part, key, None if value is None else value * 1)
    with use_backend("emulated"):
        assert replica([s.detach() for s in maps()])[0].requires_grad


def test_synchronised_norms_take_the_longer_path(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SyncBatchNorm trains on GPUs alone, but without other processes it does what a plain one does."""
    block = make_block()
    reference = copy.deepcopy(block)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(block)
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", nn.BatchNorm2d.forward)
    x = maps()
    assert_same(step(synchronised, x, "emulated"), step(reference, x, "reference"))
    assert len(emulator.launches()) == GATES


def test_statistics_without_gradients_move(emulator: Any) -> None:
    block = make_block()
    reference = copy.deepcopy(block)
    with torch.no_grad(), use_backend("emulated"):
        ours = block(maps())
    with torch.no_grad():
        theirs = reference(maps())
    assert_same([*ours, *block.buffers()], [*theirs, *reference.buffers()])
    assert len(emulator.launches()) == FORWARD + UPDATE


def test_gradient_checkpointing_changes_nothing(emulator: Any) -> None:
    block = make_block()
    saving = copy.deepcopy(block)
    saving.with_cp = True
    plain, saved = step(block, maps(), "emulated"), step(saving, maps(), "emulated")
    for a, b in zip(plain, saved, strict=True):
        assert torch.equal(a, b)


def test_two_steps_are_bitwise_equal_in_any_order_of_threads(emulator: Any) -> None:
    results = []
    for seed in range(4):
        emulator.configure(seed=seed)
        block, x = make_block().float(), [s.detach().float().requires_grad_() for s in maps()]
        results.append(step(block, x, "emulated"))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_weights_train_too(dtype: torch.dtype, emulator: Any) -> None:
    """Weights are turned to fp32 for the kernels; gradients come back in their own dtype."""
    block = make_block().to(dtype)
    x = [s.detach().to(dtype).requires_grad_() for s in maps()]
    for tensor in step(block, x, "emulated"):
        assert tensor.isfinite().all()
    assert {p.grad.dtype for p in block.parameters() if p.grad is not None} == {dtype}
    assert len(emulator.launches()) == WHOLE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_trains_in_its_dtype(dtype: torch.dtype, emulator: Any) -> None:
    block = make_block().float()
    with torch.autocast("cpu", dtype=dtype):
        results = step(block, [s.detach().float().requires_grad_() for s in maps()], "emulated")
    assert [r.dtype for r in results[:3]] == [dtype] * 3
    assert {p.grad.dtype for p in block.parameters() if p.grad is not None} == {torch.float32}
    assert len(emulator.launches()) == WHOLE


@pytest.mark.compile
def test_training_step_compiles_into_one_graph(emulator: Any) -> None:
    block = make_block()
    twin = copy.deepcopy(block)
    x = maps()
    with use_backend("emulated"):
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        ours = step(compiled, x, "emulated")
        assert_same(ours, step(twin, x, "emulated"))
