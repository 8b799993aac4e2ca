"""Signals and failures that end a run in order. The training loop's tests have them in the middle of one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from litehrnet_cuda.engine.interruption import (
    REPEAT_SECONDS,
    Interrupted,
    Interruption,
    TrainingStopped,
    ignore_interrupts,
    orderly_stops,
    plain_failures,
)
from litehrnet_cuda.errors import InputError


def press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with Interruption() as stop:
        assert not stop.requested
        press(number)
        assert stop.requested
        press(number)  # the same wish, passed on by somebody else
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert "once more ends it at once" in capfd.readouterr().err


def test_the_second_ctrl_c_ends_the_process_at_once() -> None:
    code = (
        "import time\nfrom litehrnet_cuda.engine.interruption import Interruption\n"
        "with Interruption():\n  print('ready', flush=True)\n  while True: time.sleep(0.01)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGINT)
        while b"once more" not in run.stderr.readline():
            pass
        run.send_signal(signal.SIGTERM)  # as schedulers and torchrun repeat it
        time.sleep(REPEAT_SECONDS + 0.2)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == -signal.SIGINT


def test_where_nothing_would_be_lost_the_first_signal_ends_it() -> None:
    with Interruption() as stop:
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            press()
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            raise AssertionError("the wish is older than this")


def test_other_threads_and_processes_are_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            with Interruption():
                pass
        except ValueError as error:  # as signal.signal raises it in other threads
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert errors == []
    with Interruption() as stop:
        stop._process += 1  # as if it were a copy in a process that reads images
        press()
        assert not stop.requested
    assert capfd.readouterr().err == ""


def test_processes_that_read_images_ignore_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        ignore_interrupts()
        press()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("a.jpg: broken"), "a.jpg: broken; go on from x"),
        (MemoryError(), "out of memory: use less; go on from x"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: use less; go on from x"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), "out of memory: use less; go"),
        (RuntimeError("CUDA error: out of memory\nCompile with"), "out of memory: use less; go on from x"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), "out of memory: use less; go on from x"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: use less; go on from x"),
        (OSError(errno.ENOSPC, "No space left", "log.jsonl"), "the disk is full (log.jsonl): make room; go on from x"),
        (
            OSError(errno.EFBIG, "File too large", "log.jsonl"),
            "the disk, or a limit (ulimit -f), allows no file",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            "a process that reads images has died",
        ),
        (RuntimeError("[gloo/transport] Connection closed by peer [127.0.0.1]"), "another process of this training"),
    ],
    ids=repr,
)
def test_what_gives_out_is_one_sentence(error: Exception, message: str) -> None:
    with pytest.raises(TrainingStopped) as stopped, orderly_stops(lambda: "go on from x", "use less"):
        raise error
    assert str(stopped.value).startswith(message)
    assert str(stopped.value).endswith("; go on from x")
    assert "\n" not in str(stopped.value)


def test_outside_of_the_loop_it_is_one_sentence_too() -> None:
    with pytest.raises(InputError, match=r"^out of memory: use less$"), plain_failures("use less"):
        raise MemoryError
    for error in (InputError("a.jpg: broken"), KeyboardInterrupt(), RuntimeError("shapes do not fit")):
        with pytest.raises(type(error)) as raised, plain_failures("use less"):
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), OSError(errno.EIO, "I/O"), KeyError("x")], ids=repr
)
def test_other_errors_are_faults(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, orderly_stops(lambda: "", ""):
        raise error
    assert raised.value is error


def test_ctrl_c_says_what_there_is_to_go_on_from() -> None:
    with pytest.raises(Interrupted, match=r"^interrupted; go on from x$"), orderly_stops(lambda: "go on from x", ""):
        raise KeyboardInterrupt
