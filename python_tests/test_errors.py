"""The exception for input that cannot be used."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import litehrnet_cuda
from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.errors import InputError, whole_number


def test_it_is_a_value_error_and_the_public_one() -> None:
    assert issubclass(InputError, ValueError)
    assert litehrnet_cuda.InputError is InputError
    with pytest.raises(ValueError, match=r"^unknown model 'litehrnet_81'"):
        litehrnet_cuda.create_model("litehrnet_81")


def test_it_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(InputError("boxes: expected two")))
    assert type(again) is InputError
    assert str(again) == "boxes: expected two"


def test_it_comes_out_of_another_process_as_itself(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        future = pool.submit(read_image, tmp_path / "absent.jpg")
        with pytest.raises(InputError, match=r"absent\.jpg: expected an image, but there is no such file"):
            future.result()


def test_numbers_of_things_are_whole() -> None:
    for value in (3, np.int64(3), np.uint8(3)):
        assert type(whole_number("batch_size", value, 1)) is int


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("4", "n: expected a whole number from 1 up, got '4'"),
        ("four", "n: expected a whole number from 1 up, got 'four'"),
        (2.0, "n: expected a whole number from 1 up, got 2.0"),
        (None, "n: expected a whole number from 1 up, got None"),
        (True, "n: expected a whole number from 1 up, got True"),
        ([4], r"n: expected a whole number from 1 up, got \[4\]"),
        (0, "n: expected at least 1, got 0"),
        (-(10**30), "n: expected at least 1, got -1000"),
    ],
)
def test_what_is_no_number_of_things_is_said(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        whole_number("n", value, 1)
