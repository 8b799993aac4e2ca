"""What is done around a network; the whole of it is tested by what estimators find."""

from __future__ import annotations

from litehrnet_cuda.predictors.decoding import Decoding, blur_kernel_size


def test_dark_blurs_as_the_official_configurations_do() -> None:
    sizes = ((96, 128), (192, 256), (256, 256), (288, 384), (384, 384))
    assert [blur_kernel_size(size) for size in sizes] == [5, 11, 11, 17, 17]


def test_equal_ones_are_the_same_to_graphs() -> None:
    one, same, other = (Decoding((decoder,), (64, 96), (1, 0)) for decoder in ("dark", "dark", "quarter"))
    assert one == same != other
    assert hash(one) == hash(same)
