"""Two processes are one with twice the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import process_cases
import pytest
import torch
import torch.distributed as dist
from processes import run_processes, run_together

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import NO_AUGMENTATION, PoseDataset
from litehrnet_cuda.engine.distributed import ALONE, PATIENCE, connected, launched_processes, own_device
from litehrnet_cuda.engine.learner import Learner
from litehrnet_cuda.engine.order import BatchOrder
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import create_model

STEPS = 2


def learn(people: CocoKeypoints, out: Path, batch_size: int, accumulate: int) -> None:
    """Some steps of this process; the first one saves gradients and weights. In fp64, to see more than rounding."""
    torch.manual_seed(0)
    model = create_model("litehrnet_18").double()
    dataset = PoseDataset(people, (64, 64), sigma=1.0, augmentation=NO_AUGMENTATION)
    with connected(torch.device("cpu")) as processes:
        order = BatchOrder(8, batch_size, seed=0, rank=processes.rank, processes=processes.count)
        learner = Learner(model, TrainConfig(accumulate=accumulate), processes)
        batches = []
        for indices in order:
            samples = [dataset[index] for index in indices]
            batches.append({name: torch.stack([s[name] for s in samples]).double() for name in samples[0]})
        losses = [processes.mean(learner.step(batches, 1e-4)[None]) for _ in range(STEPS)]
        gradients = {name: value.grad for name, value in learner.network.named_parameters()}
        outcome = {"gradients": gradients, "state": learner.export().state_dict(), "losses": torch.cat(losses)}
        if processes.first:
            torch.save(outcome, out)


CODE = """
import sys, importlib.util
from pathlib import Path
from litehrnet_cuda.data.coco import CocoKeypoints
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)
people = CocoKeypoints(Path(sys.argv[2]), Path(sys.argv[3]))
cases.learn(people, Path(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
"""


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(
    people: CocoKeypoints, tmp_path: Path, batch_size: int, accumulate: int
) -> None:
    arguments = [__file__, str(people.annotation_file), str(people.image_dir)]
    run_processes(2, "-c", CODE, *arguments, str(tmp_path / "two.pt"), str(batch_size), str(accumulate))
    learn(people, tmp_path / "one.pt", 2 * batch_size, accumulate)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    # Float64 sums in another order; the first step of Adam makes differences of tiny gradients as large as its rate of
    # 1e-4 where they are near its epsilon of 1e-8, so that the second step's gradients differ by more.
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-7, atol=0)
    scale = max(float(value.abs().max()) for value in one["gradients"].values())
    for name, value in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], value, rtol=0, atol=1e-6 * scale, msg=name)
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, rtol=1e-6, atol=1e-6, msg=name)


FLAGS = """
import sys, json, torch
from litehrnet_cuda.engine.distributed import connected, launched_processes
with connected(torch.device("cpu")) as processes:
    flags = processes.any(processes.first, not processes.first, False)
    mean = processes.mean(torch.tensor([2.0 * processes.rank, 5.0])).tolist()
    print(json.dumps([processes.rank, processes.count, processes.first, flags, mean, launched_processes()]))
"""


def test_processes_agree() -> None:
    found = [json.loads(text) for text in run_processes(2, "-c", FLAGS)]
    both = [[True, True, False], [1.0, 5.0], 2]
    assert found == [[0, 2, True, *both], [1, 2, False, *both]]


def test_alone_everything_is_as_it_is() -> None:
    with connected(torch.device("cpu")) as processes:
        assert processes is ALONE
        assert processes.first
        assert processes.any(True, False) == [True, False]
        value = torch.tensor([1.0])
        assert processes.mean(value) is value
        processes.wait()
    assert launched_processes() == 1


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda:1", "cpu:gloo,cuda:nccl")])
def test_all_ways_have_one_patience(monkeypatch: pytest.MonkeyPatch, device: str, backend: str) -> None:
    begun: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    fake = {"get_rank": 1, "get_world_size": 2, "all_reduce": None, "destroy_process_group": None}
    for name, value in fake.items():
        monkeypatch.setattr(dist, name, lambda *args, value=value, **options: value)
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **options: begun.append((args, options)))
    with connected(torch.device(device)) as processes:
        assert (processes.rank, processes.count) == (1, 2)
    assert begun == [((backend,), {"timeout": PATIENCE})]


def test_one_process_does_all() -> None:
    assert ALONE.share(range(5), 2) == range(5)
    assert ALONE.gathered(lambda: 7) == [7]
    tensor = torch.ones(1)
    ALONE.copy_first([tensor])
    assert tensor == 1

    def refuse() -> None:
        raise InputError("no")

    with pytest.raises(InputError, match=r"^no$"):
        ALONE.gathered(refuse)


def test_two_processes_share_and_exchange(tmp_path: Path) -> None:
    first, second = run_together(tmp_path, process_cases.exchange)
    assert (first["number"], second["number"]) == ((0, 2), (1, 2))
    # Whole batches in sequence; fewer batches than processes leave one without.
    assert first["shares"] == [[0, 1, 2], [0, 1, 2, 3], []]
    assert second["shares"] == [[3, 4, 5, 6], [4, 5, 6], [0, 1, 2, 3, 4, 5, 6]]
    assert first["found"] == second["found"] == [{"rank": 0}, {"rank": 1}]
    assert first["of the first"] == second["of the first"] == [[[0.5, 0.5], [0.5, 0.5]], 7, []]
    said = ["nothing", "InputError: no luck in 1"]
    assert first["errors"] == [*said, "InputError: no luck in 0", "RuntimeError: process 1 failed: 'no luck in 1'"]
    assert second["errors"] == [*said, "InputError: no luck in 1", "KeyError: 'no luck in 1'"]


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were the second process of four on this machine, of eight in all."""
    for name, value in {"RANK": 5, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4, "WORLD_SIZE": 8}.items():
        monkeypatch.setenv(name, str(value))


def test_one_process_takes_the_device_that_it_is_given() -> None:
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    assert own_device(torch.device("cuda:3")) == torch.device("cuda:3")


@pytest.mark.usefixtures("torchrun")
def test_every_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert own_device(torch.device("cuda")) == torch.device("cuda:1")
    assert own_device(torch.device("cpu")) == torch.device("cpu")
    assert own_device(torch.device("cuda:3"), shared=True) == torch.device("cuda:3")
    with pytest.raises(InputError, match="each of the 4 processes of this machine takes its own GPU, got cuda:3"):
        own_device(torch.device("cuda:3"))


@pytest.mark.usefixtures("torchrun")
def test_processes_without_a_gpu_of_their_own_can_evaluate_but_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(InputError, match=r"as GPUs, of which there are 3, got 4; start fewer \(--nproc-per-node 3\)"):
        own_device(torch.device("cuda"))  # also in this process, for which there is one
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(torch.device("cuda"), shared=True) == torch.device("cuda:0")


STATISTICS = """
import sys, json, functools, torch
from torch.nn.parallel import DistributedDataParallel
from litehrnet_cuda.engine.distributed import connected
from litehrnet_cuda.engine.learner import Learner
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
torch.compile = functools.partial(torch.compile, backend="eager")  # machine code would take minutes
no_sync, calls = DistributedDataParallel.no_sync, []
DistributedDataParallel.no_sync = lambda self: calls.append(1) or no_sync(self)
torch.manual_seed(0)
model = PoseNetwork(LiteHRNet(Variant("small", (1,), (8, 16))), 3)
with connected(torch.device("cpu")) as processes:
    options = {"sync_batch_norm": False, "accumulate": 3, "compile": sys.argv[1] == "compile", "ema": 0.5}
    learner = Learner(model, TrainConfig(**options), processes)
    torch.manual_seed(processes.rank)
    batch = {"image": torch.randn(2, 3, 32, 32), "heatmaps": torch.rand(2, 3, 8, 8), "weights": torch.ones(2, 3)}
    learner.step([batch] * 3, 1e-3)
    found = [sum(float(value.double().abs().sum()) for value in values.values())
             for values in (learner.average.values, learner.export().state_dict())]
    print(json.dumps([len(calls), *found]))
"""


@pytest.mark.compile
@pytest.mark.parametrize("compiled", ["plain", "compile"])
def test_accumulated_batches_exchange_once_and_all_export_the_first_one_s(compiled: str) -> None:
    (calls, own, exported), (other_calls, other_own, other_exported) = (
        json.loads(text.splitlines()[-1]) for text in run_processes(2, "-c", STATISTICS, compiled)
    )
    assert calls == other_calls == 2  # of three batches, gradients go around after the last
    assert own != other_own  # running statistics of each its own images
    assert exported == other_exported == own


HELD = """
import sys, torch, torch.distributed
from litehrnet_cuda.engine.distributed import connected
sys.setswitchinterval(5)  # seconds until a thread that waits for Python's lock asks for it
with connected(torch.device("cpu")):
    group = torch.distributed.group.WORLD
"""


def test_a_group_that_something_refers_to_ends_with_the_process() -> None:
    run_processes(4, "-c", HELD)


FAULT = """
import sys, torch
from pathlib import Path
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import PoseDataset
from litehrnet_cuda.engine.distributed import connected
from litehrnet_cuda.engine.learner import Learner
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.engine.train import train
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import create_model
people = CocoKeypoints(Path(sys.argv[1]), Path(sys.argv[2]))
step = Learner.step
calls = []
def failing(self, *args):
    calls.append(1)
    if len(calls) == 2 and processes.rank == 1:
        raise MemoryError
    return step(self, *args)
Learner.step = failing
with connected(torch.device("cpu")) as processes:
    try:
        dataset = PoseDataset(people, (64, 64))
        train(create_model("naive_litehrnet_18"), dataset, TrainConfig(batch_size=2), processes=processes)
    except InputError as error:
        print(error)
        sys.exit(2)
"""


def test_where_one_gives_out_all_stop(people: CocoKeypoints) -> None:
    first, second = run_processes(2, "-c", FAULT, str(people.annotation_file), str(people.image_dir), expected=2)
    assert "another process of this training has stopped, see what it says; " in first
    assert "out of memory: " in second
    assert "Traceback" not in first + second
