"""The exception for input that cannot be used."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import litehrnet_cuda
from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.errors import InputError


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
