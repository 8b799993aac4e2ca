from __future__ import annotations

import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.shape import InputShape


def test_any_number_of_images_is_tried_with_several() -> None:
    shape = InputShape((192, 256))
    assert shape.example == (2, 3, 256, 192)
    assert list(shape.dynamic_shapes()) == [0]
    assert shape.samples() == [(1, 3, 256, 192), (2, 3, 256, 192), (5, 3, 256, 192)]
    assert str(shape) == "any number of images of 192x256"


def test_a_fixed_number_has_no_free_dimension() -> None:
    shape = InputShape((50, 70), batch=4)
    assert shape.example == (4, 3, 70, 50)
    assert shape.dynamic_shapes() == {}
    assert shape.samples() == [(4, 3, 70, 50)]
    assert str(shape) == "4 images of 50x70"


def test_a_free_size_is_tried_with_others() -> None:
    shape = InputShape((64, 96), free_size=True)
    assert sorted(shape.dynamic_shapes()) == [0, 2, 3]
    sizes = {sample[2:] for sample in shape.samples()}
    assert len(sizes) >= 2
    assert (96, 64) in sizes
    assert all(side % 32 == 0 for size in sizes for side in size)
    assert str(shape) == "any number of images of any size in steps of 32"
    # A side of one stride would be taken for the only one.
    assert InputShape((32, 96), free_size=True).example == (2, 3, 96, 64)
    assert InputShape((32, 96)).example == (2, 3, 96, 32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((31, 64),), {}, r"size: expected \(width, height\) of 32 to 8192 pixels each way, got \(31, 64\)"),
        (((64, 9000),), {}, "size: expected"),
        (((64, 100),), {"free_size": True}, "size: expected multiples of 32 where the size is free, got 64x100"),
        (((64, 96),), {"batch": 0}, "batch: expected at least 1 image at once, got 0"),
    ],
)
def test_what_no_network_takes_is_refused(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputShape(*arguments, **options)
