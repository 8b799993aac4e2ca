"""Models with the official classes before and after their modules are swapped: nothing but the classes may change."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import official_modules as official
import pytest
import torch
import torch.nn.functional as F
from official_reference import REGISTRY_NAMES, load_recipe, read_json, read_tensors, recipe_input, relative_error
from torch import Tensor, nn
from torch.nn.utils import prune

import litehrnet_cuda.nn
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.nn import blocks, fuse, weighting
from litehrnet_cuda.nn.replacement import use_fused_modules

INDEX = read_json("index.json")
STAND_INS: dict[str, Callable[..., nn.Module]] = {
    "SpatialWeighting": official.SpatialWeighting,
    "CrossResolutionWeighting": lambda **options: official.CrossResolutionWeighting(**options, norm_cfg=official.BN),
    "ConditionalChannelWeighting": official.ConditionalChannelWeighting,
    "LiteHRModule": official.LiteHRModule,
    "ShuffleUnit": lambda in_channels, **_: official.ShuffleUnit(in_channels),
    "Stem": lambda in_channels, stem_channels, **_: official.Stem(in_channels, stem_channels),
}
CASES = [case for case in INDEX["modules"] if case["kind"] in STAND_INS and case["config"].get("stride", 1) == 1]
SWAPPED = ("CrossResolutionWeighting", "ConditionalChannelWeighting", "LiteHRModule")
RUNS = [(case, False) for case in CASES] + [(case, True) for case in CASES if case["kind"] in SWAPPED]
SMALL = {
    "LITE": Variant("small", (1, 2, 1), (8, 16, 32, 64)),
    "NAIVE": Variant("small", (1, 2, 1), (8, 16, 32, 64), "NAIVE"),
}

# As in test_blocks.py: both sides are float64 and differ by the order of summation, a few thousand roundings of 1e-16;
# gradients pass through batch statistics of few values, whose division by a small deviation amplifies that.
OUTPUT_TOLERANCE = 1e-12
GRADIENT_TOLERANCE = 1e-10
# Both sides run the same operations, but for pooling and doubling, which round differently in the last place: 1e-16,
# amplified by a few hundred layers in a row and two steps of training.
NETWORK_TOLERANCE = 1e-12


@pytest.fixture(autouse=True)
def no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def as_list(out: Tensor | list[Tensor]) -> list[Tensor]:
    return out if isinstance(out, list) else [out]


@pytest.mark.parametrize(("case", "swap"), RUNS, ids=lambda x: x["name"] if isinstance(x, dict) else str(x))
def test_stand_ins_and_what_they_become_match_the_official_code(case: dict[str, Any], swap: bool) -> None:
    name = case["name"]
    module = load_recipe(STAND_INS[case["kind"]](**case["config"]), case["weight_tag"])
    if swap:
        if case["config"].get("with_fuse") is False:
            module.layers = use_fused_modules(module.layers)  # the module itself has nothing to gain
        else:
            assert use_fused_modules(module) is module
            assert type(module).__module__.startswith("litehrnet_cuda.")
    x = [recipe_input(seed, shape) for seed, shape in zip(case["input_seeds"], case["input_shapes"], strict=True)]
    takes_list = case["kind"] in SWAPPED

    def run() -> list[Tensor]:
        # What a module is given may be a leaf, into which the official code may not write.
        return as_list(module([s.clone() for s in x] if takes_list else x[0]))

    with torch.no_grad():
        outputs = run() if not module.eval().training else []
    for i, expected in read_tensors("modules.safetensors", f"{name}/eval_output/").items():
        assert relative_error(outputs[int(i)], expected) < OUTPUT_TOLERANCE
    module.train()
    for s in x:
        s.requires_grad_()
    outputs = run()
    cotangents = [recipe_input(seed, out.shape) for seed, out in zip(case["cotangent_seeds"], outputs, strict=True)]
    sum((out * cotangent).sum() for out, cotangent in zip(outputs, cotangents, strict=True)).backward()
    for i, expected in read_tensors("modules.safetensors", f"{name}/train_output/").items():
        assert relative_error(outputs[int(i)], expected) < OUTPUT_TOLERANCE * 100  # through batch statistics
    for i, expected in read_tensors("modules.safetensors", f"{name}/input_grad/").items():
        assert relative_error(x[int(i)].grad, expected) < GRADIENT_TOLERANCE
    grads = read_tensors("modules.safetensors", f"{name}/grad/")
    parameters = dict(module.named_parameters())
    assert set(parameters) == set(grads)
    scale = max(grad.abs().max().item() for grad in grads.values())
    for key, grad in grads.items():
        assert (parameters[key].grad - grad.reshape_as(parameters[key])).abs().max() < GRADIENT_TOLERANCE * scale, key
    for key, buffer in module.named_buffers():
        expected = read_tensors("modules.safetensors", f"{name}/buffer_after/")[key]
        assert relative_error(buffer.reshape(expected.shape), expected) < OUTPUT_TOLERANCE * 100, key


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("name", ["lite_18_k17_b2_64x64", "naive_18_k17_b2_93x61"])
def test_network_matches_the_official_code(name: str, swap: bool) -> None:
    case = next(case for case in INDEX["eval"] if case["name"] == name)
    model = official.TopDown(VARIANTS[REGISTRY_NAMES[case["variant"]]], case["joints"])
    load_recipe(model, case["weight_tag"]).eval()
    if swap:
        use_fused_modules(model)
    x = recipe_input(case["input_seed"], (case["batch"], 3, case["height"], case["width"]))
    with torch.no_grad():
        # The reference data are rounded to float32.
        assert relative_error(model(x), read_tensors("eval_outputs.safetensors", name)[""]) < 1e-7


def network(module_type: str = "LITE", **options: Any) -> nn.Module:
    """A small network whose weights and running statistics are random and tame."""
    return load_recipe(official.TopDown(SMALL[module_type], 3, **options), "replacement")


def images(n: int = 4) -> Tensor:
    return recipe_input(7, (n, 3, 64, 96))


def changed_classes(model: nn.Module) -> set[str]:
    return {
        type(m).__name__
        for m in model.modules()
        if type(m).__module__ in (blocks.__name__, fuse.__name__, weighting.__name__)
    }


@pytest.mark.parametrize("module_type", SMALL)
def test_training_goes_on_as_it_would_have(module_type: str) -> None:
    before = network(module_type).train()
    after = copy.deepcopy(before)
    adam = [torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9) for model in (before, after)]
    keys, tensors = list(after.state_dict()), [*after.parameters(), *after.buffers()]
    use_fused_modules(after)
    assert changed_classes(after) == ({"LiteHRModule"} if module_type == "NAIVE" else set(SWAPPED))
    assert list(after.state_dict()) == keys
    assert all(a is b for a, b in zip([*after.parameters(), *after.buffers()], tensors, strict=True))
    for _ in range(2):
        for model, optimizer in zip((before, after), adam, strict=True):
            optimizer.zero_grad()
            model(images()).square().mean().backward()
            optimizer.step()
    scale = max(p.grad.abs().max().item() for p in before.parameters())
    for (key, a), b in zip(before.named_parameters(), after.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() < NETWORK_TOLERANCE * scale, key
        assert relative_error(b, a) < NETWORK_TOLERANCE, key
    for (key, a), b in zip(before.named_buffers(), after.named_buffers(), strict=True):
        assert relative_error(b[1], a) < NETWORK_TOLERANCE, key
    with torch.no_grad():
        assert relative_error(after.eval()(images(1)), before.eval()(images(1))) < NETWORK_TOLERANCE


def test_becomes_the_network_of_this_package_and_takes_any_size() -> None:
    model = network().eval()
    with torch.no_grad(), pytest.raises(RuntimeError):
        model(images()[:, :, :50, :71])
    use_fused_modules(model)
    own = PoseNetwork(LiteHRNet(SMALL["LITE"]), 3).double().eval()
    own.load_state_dict(model.state_dict())
    with torch.no_grad():
        x = images()[:, :, :50, :71]
        torch.testing.assert_close(model(x), own(x), rtol=1e-12, atol=1e-12)
    # The fuse step goes up by itself; what the paths bring for that would be one more copy of every map.
    assert not [m for m in model.modules() if isinstance(m, nn.Upsample)]


@pytest.mark.parametrize("name", [*SWAPPED, "SpatialWeighting"])
def test_constructors_take_the_official_arguments(name: str) -> None:
    theirs, ours = (list(inspect.signature(getattr(where, name)).parameters) for where in (official, litehrnet_cuda.nn))
    assert ours == [argument for argument in theirs if not argument.endswith("_cfg")]


def test_hooks_stay_and_are_not_called_by_the_swap() -> None:
    model = network()
    calls: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        return lambda *_: calls.append(name)

    module = model.backbone.stage1[0]
    for part in (module, module.layers[0], module.layers[0].depthwise_convs[0], module.fuse_layers[0][1][2]):
        part.register_forward_pre_hook(hook("forward pre"))
        part.register_forward_hook(hook("forward"))
        part.register_state_dict_post_hook(hook("state dict"))
    module.layers[0].spatial_weighting[0].register_full_backward_pre_hook(hook("backward pre"))
    module.layers[0].spatial_weighting[0].register_full_backward_hook(hook("backward"))
    random = torch.get_rng_state()
    use_fused_modules(model)
    assert calls == []
    assert torch.equal(torch.get_rng_state(), random)
    model(images(2)).sum().backward()
    model.state_dict()
    assert {name: calls.count(name) for name in calls} == {
        **{"forward pre": 4, "forward": 4, "state dict": 4},
        **{"backward pre": 1, "backward": 1},
    }


def test_flags_stay() -> None:
    model = network().train()
    block = model.backbone.stage0[0].layers[0]
    block.cross_resolution_weighting.conv1.bn.eval()
    block.depthwise_convs[1].eval().requires_grad_(False)
    model.backbone.stage2.eval()
    flags = [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()]
    frozen = copy.deepcopy(block.depthwise_convs[1].state_dict())
    before = copy.deepcopy(model)
    use_fused_modules(model)
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()] == flags
    for net in (before, model):
        net(images()).square().mean().backward()
    assert all(torch.equal(a, frozen[key]) for key, a in block.depthwise_convs[1].state_dict().items())
    assert block.depthwise_convs[1].conv.weight.grad is None
    for (key, a), b in zip(before.named_buffers(), model.named_buffers(), strict=True):
        assert relative_error(b[1], a) < NETWORK_TOLERANCE, key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dtype_stays(dtype: torch.dtype) -> None:
    model = network().to(dtype).eval()
    x = images(1).to(dtype)
    with torch.no_grad():
        expected = model(x)
        got = use_fused_modules(model)(x)
    assert {p.dtype for p in model.parameters()} == {got.dtype} == {dtype}
    # About a hundred layers in a row, each of which rounds; errors of a random walk add up to ten times one rounding.
    assert relative_error(got, expected) < 10 * torch.finfo(dtype).eps


def test_model_without_values_can_be_swapped() -> None:
    with torch.device("meta"):
        model = official.TopDown(SMALL["LITE"])
    use_fused_modules(model)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 17, 16, 16)


def test_checkpointing_works_afterwards() -> None:
    plain, saving = network().train(), network(with_cp=True).train()
    with pytest.raises(AttributeError, match="requires_grad"):
        saving(images())
    use_fused_modules(saving)
    # What the failed step has left behind is undone.
    saving.load_state_dict(plain.state_dict())
    use_fused_modules(plain)
    assert all(m.with_cp for m in saving.modules() if isinstance(m, blocks.ConditionalChannelWeighting))
    for model in (plain, saving):
        model(images()).square().mean().backward()
    for (key, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key
    for (key, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(twin: Callable[[nn.Module], nn.Module]) -> None:
    model = use_fused_modules(network()).eval()
    other = twin(model)
    assert changed_classes(other) == set(SWAPPED)
    with torch.no_grad():
        expected = model(images(1))
        assert torch.equal(other(images(1)), expected)
        for parameter in other.parameters():
            parameter.zero_()
        assert torch.equal(model(images(1)), expected)


def test_twice_is_once() -> None:
    model = use_fused_modules(network())
    state = {name: (id(m), type(m)) for name, m in model.named_modules()}
    cache = model.backbone.stage0[0].layers[0]._folded
    assert use_fused_modules(model) is model
    assert {name: (id(m), type(m)) for name, m in model.named_modules()} == state
    assert model.backbone.stage0[0].layers[0]._folded is cache
    own = PoseNetwork(LiteHRNet(SMALL["LITE"]), 3)
    assert use_fused_modules(own) is own


@pytest.mark.parametrize("norm", [{"type": "SyncBN"}, {"type": "BN", "eps": 1e-3, "momentum": 0.03}])
def test_norms_stay(norm: dict[str, Any]) -> None:
    model = network(norm_cfg=norm).eval()
    types = [type(m) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        expected = model(images(1))
        assert relative_error(use_fused_modules(model)(images(1)), expected) < NETWORK_TOLERANCE
    assert changed_classes(model) == set(SWAPPED)
    assert [type(m) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] == types


# What looks like an official module and is none


class Residual(official.ConditionalChannelWeighting):
    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [a + b for a, b in zip(x, super().forward(x), strict=True)]


class Dropping(official.ConditionalChannelWeighting):
    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return super().forward([F.dropout(s, 0.1, self.training) for s in x])


class Textbook(official.LiteHRModule):
    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = self.layers(x)
        return [
            self.relu(sum(s if path is None else path(s) for s, path in zip(x, paths, strict=True)))
            for paths in self.fuse_layers
        ]


class Once(official.LiteHRModule):
    """The outputs of the official code, but statistics are updated once."""

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = list(self.layers(x))
        out = []
        for paths in self.fuse_layers:
            terms = [s if path is None else path(s) for s, path in zip(x, paths, strict=True)]
            out.append(sum(terms) + terms[0])
            x[0] = out[0]
        return [self.relu(s) for s in out]


def renamed(cls: type[nn.Module], name: str) -> Callable[..., nn.Module]:
    """A class that differs from an official one by what it computes, as in a project that has copied it."""
    return type(name, (cls,), {})


def block(cls: Callable[..., nn.Module] = official.ConditionalChannelWeighting, **options: Any) -> nn.Module:
    return cls(**{"in_channels": [8, 16], "stride": 1, "reduce_ratio": 4, **options})


def with_part(change: Callable[[Any], Any]) -> nn.Module:
    module = block()
    change(module)
    return module


def module(cls: Callable[..., nn.Module]) -> nn.Module:
    return cls(2, 1, [8, 16], 4, "LITE", multiscale_output=True)


UNFIT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "stride": (lambda: block(stride=2), r"depthwise_convs.0.conv.stride: expected \(1, 1\), got \(2, 2\)"),
    "norm": (lambda: block(norm_cfg={"type": "GN", "num_groups": 1}), "expected BatchNorm2d or SyncBatchNorm, got Gro"),
    "no norm": (lambda: block(norm_cfg=None), r"cross_resolution_weighting.conv1.with_norm: expected True, got False"),
    "activation": (
        lambda: with_part(lambda m: setattr(m.spatial_weighting[0].conv2, "activate", nn.Hardsigmoid())),
        "spatial_weighting.0.conv2: expected Sigmoid at the end, got Hardsigmoid",
    ),
    "bias": (
        lambda: with_part(lambda m: setattr(m.depthwise_convs[1], "conv", nn.Conv2d(8, 8, 3, 1, 1, groups=8))),
        "depthwise_convs.1.conv: parameters: expected weight, got bias, weight",
    ),
    "no statistics": (
        lambda: block(norm_cfg={"type": "BN", "track_running_stats": False}),
        "parameters and buffers: expected bias, num_batches_tracked, running_mean, running_var, weight, got bias, wei",
    ),
    "pruned": (
        lambda: with_part(lambda m: prune.l1_unstructured(m.depthwise_convs[0].conv, "weight", 0.5)),
        "depthwise_convs.0.conv: parameters: expected weight, got weight_mask, weight_orig",
    ),
    "a part more": (
        lambda: with_part(lambda m: m.add_module("drop", nn.Dropout())),
        "parts: expected cross_resolution_weighting, depthwise_convs, spatial_weighting, got .*drop",
    ),
    "other parts": (
        lambda: with_part(lambda m: setattr(m, "depthwise_convs", nn.ModuleList([nn.Conv2d(4, 4, 3), nn.Identity()]))),
        "its parts are others: 'Conv2d' object has no attribute 'conv'",
    ),
    "a part patched": (
        lambda: with_part(lambda m: setattr(m.depthwise_convs[0], "forward", torch.sin)),
        "Weighting: it computes something else than Lite-HRNet with its batch norms folded",
    ),
    "patched": (lambda: with_part(lambda m: setattr(m, "forward", m._block)), "its forward has been replaced"),
    "derived": (lambda: block(Residual), "Residual: a derived class"),
    "residual": (
        lambda: block(renamed(Residual, "ConditionalChannelWeighting")),
        "ConditionalChannelWeighting: it computes something else than Lite-HRNet in evaluation mode",
    ),
    "dropout": (
        lambda: block(renamed(Dropping, "ConditionalChannelWeighting")),
        "something else than Lite-HRNet in training mode",
    ),
    "signature": (
        lambda: block(type("ConditionalChannelWeighting", (Residual,), {"forward": lambda self, x, mask: x})),
        "a trial run failed with TypeError: .*mask",
    ),
    "result": (
        lambda: block(type("ConditionalChannelWeighting", (Residual,), {"forward": lambda self, x: x[:1]})),
        "ConditionalChannelWeighting: it computes something else than Lite-HRNet in evaluation mode",
    ),
    "textbook": (
        lambda: module(renamed(Textbook, "LiteHRModule")),
        "LiteHRModule: it computes something else than Lite-HRNet in evaluation mode",
    ),
    "statistics": (
        lambda: module(renamed(Once, "LiteHRModule")),
        "something else than Lite-HRNet in running statistics after a training step",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_left_alone(name: str) -> None:
    build, reason = UNFIT[name]
    stranger = build()
    model = nn.ModuleDict({"ours": block(), "first": stranger, "second": build()})
    cls, state = type(stranger), {key: a.clone() for key, a in stranger.state_dict().items()}
    with pytest.warns(UserWarning, match="left as it is") as warned:  # parts of it may be named too
        use_fused_modules(model)
    assert any(re.search(rf"left as it is: first and 1 more \(.*{reason}", str(w.message)) for w in warned)
    assert type(model["ours"]) is blocks.ConditionalChannelWeighting
    assert type(stranger) is cls
    assert type(model["second"]).__module__ not in (blocks.__name__, fuse.__name__, weighting.__name__)
    assert all(torch.equal(a, state[key]) for key, a in stranger.state_dict().items())


def test_what_fits_inside_of_what_does_not_is_swapped() -> None:
    textbook = module(renamed(Textbook, "LiteHRModule"))
    with pytest.warns(UserWarning, match="the model itself"):
        use_fused_modules(textbook)
    assert type(textbook.layers[0]) is blocks.ConditionalChannelWeighting
    assert any(isinstance(m, nn.Upsample) for m in textbook.modules())


def test_a_class_derived_from_ours_is_ours() -> None:
    class Mine(blocks.ConditionalChannelWeighting):
        pass

    model = Mine([8, 16], reduce_ratio=4)
    assert type(use_fused_modules(model)) is Mine


def test_nothing_to_swap() -> None:
    looked_for = "modules of the classes ConditionalChannelWeighting, CrossResolutionWeighting, LiteHRModule"
    with pytest.raises(InputError, match=f"{looked_for}.* got Sequential with none of them"):
        use_fused_modules(nn.Sequential(nn.Conv2d(3, 3, 1)))
    strange = with_part(lambda m: m.cross_resolution_weighting.register_module("drop", nn.Dropout()))
    strange.depthwise_convs[0].conv.stride = (2, 2)
    with pytest.raises(InputError, match=r"could use none of: the model itself \(.*; cross_resolution_weighting \(.*"):
        use_fused_modules(strange)
