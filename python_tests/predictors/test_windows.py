"""Windows cover every pixel, lie within the image, and their mean is what it says."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.predictors.windows import Window, average_windows, place_windows


def test_published_windows() -> None:
    """mmsegmentation's 512x1024 windows with stride 341x683 on 1024x2048: three by three, the last at the edge."""
    windows = place_windows((1024, 2048), (512, 1024), (341, 683))
    assert len(windows) == 9
    assert [window.top for window in windows[::3]] == [0, 341, 512]
    assert [window.left for window in windows[:3]] == [0, 683, 1024]
    assert windows[-1] == Window(512, 1024, 1024, 2048)


@pytest.mark.parametrize("length", [5, 6, 7, 10, 12, 13])
@pytest.mark.parametrize(("window", "stride"), [(6, 4), (6, 6), (6, 1)])
def test_every_pixel_is_covered_and_no_window_is_superfluous(length: int, window: int, stride: int) -> None:
    windows = place_windows((length, 9), (window, 9), (stride, 9))
    assert all(w.left == 0 and w.right == 9 for w in windows)
    assert all(0 <= w.top and w.bottom <= length and w.bottom - w.top == min(window, length) for w in windows)
    rows = [set(range(w.top, w.bottom)) for w in windows]
    assert set().union(*rows) == set(range(length))
    assert all(b.top - a.top <= stride for a, b in itertools.pairwise(windows))
    # Without the last one the lowest row would be missing.
    assert length - 1 not in set().union(*rows[:-1])


def stripes(x: Tensor) -> list[Tensor]:
    """Logits of a quarter of the size that differ from window to window, and their negative."""
    y = F.avg_pool2d(x, 4, ceil_mode=True) + x.mean(dim=(2, 3), keepdim=True)
    return [y, -y]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_mean_of_what_the_windows_say(batch_size: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 23, 30)
    windows = place_windows((23, 30), (12, 16), (7, 9))
    batches: list[int] = []

    def network(parts: Tensor) -> list[Tensor]:
        batches.append(len(parts))
        return stripes(parts)

    found, negative = average_windows(network, image, windows, batch_size)
    assert max(batches) == min(batch_size, len(windows))
    assert sum(batches) == len(windows) == 9
    assert torch.equal(negative, -found)
    for row, column in ((0, 0), (8, 10), (11, 15), (22, 29)):
        covering = [w for w in windows if w.top <= row < w.bottom and w.left <= column < w.right]
        said = []
        for w in covering:
            part = image[:, :, w.top : w.bottom, w.left : w.right]
            full = F.interpolate(stripes(part)[0], part.shape[-2:], mode="bilinear", align_corners=False)
            said.append(full[0, :, row - w.top, column - w.left])
        # Sums of at most nine float32 numbers of order one.
        torch.testing.assert_close(found[0, :, row, column], torch.stack(said).mean(0), rtol=0, atol=2e-6)
    assert len([w for w in windows if w.top <= 11 < w.bottom and w.left <= 15 < w.right]) > 1


def test_an_image_smaller_than_the_window_is_one_window() -> None:
    assert place_windows((40, 50), (64, 64), (32, 32)) == [Window(0, 40, 0, 50)]
    assert place_windows((40, 100), (64, 64), (32, 32)) == [
        Window(0, 40, 0, 64),
        Window(0, 40, 32, 96),
        Window(0, 40, 36, 100),
    ]
