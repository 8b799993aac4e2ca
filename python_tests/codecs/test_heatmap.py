"""Heat maps against those of mmpose 1.x and of mmpose 0.13, which the official Lite-HRNet was written for."""

from __future__ import annotations

import json
import warnings

import cv2
import numpy as np
import pytest
import slow_decoders
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from litehrnet_cuda.codecs.heatmap import (
    DECODERS,
    HEATMAP_MODES,
    decode_heatmaps,
    encode_heatmaps,
    gaussian_weights,
)
from litehrnet_cuda.errors import InputError

# name of the reference -> our mode, our decoder, and the decoder of mmpose 0.13
CASES = {
    "msra_256x192_s2": ("gaussian", "quarter_per_axis", "quarter"),
    "msra_384x288_s3": ("gaussian", "quarter_per_axis", "quarter"),
    "msra_unbiased_256x192_s2": ("unbiased", "dark", "dark"),
    "udp_gaussian_256x192_s2": ("udp", "udp", None),
}
INPUT, MAP = (192, 256), (48, 64)


@pytest.fixture(params=list(CASES))
def case(request, golden):
    folder, name = golden / "pipeline", request.param
    with np.load(folder / "codecs.npz") as stored:
        arrays = {key.split("/")[1]: stored[key] for key in stored if key.startswith(name + "/")}
    config = next(item for item in json.loads((folder / "codecs.json").read_text()) if item["name"] == name)
    return name, config, arrays


def test_encoding_equals_mmpose(case):
    name, config, arrays = case
    heatmaps, weights = encode_heatmaps(
        arrays["keypoints"],
        arrays["visible"],
        tuple(config["input_size"]),
        tuple(config["heatmap_size"]),
        config["sigma"],
        mode=CASES[name][0],
    )
    assert heatmaps.dtype == weights.dtype == np.float32
    # One unit in the last place of 1.0: mmpose evaluates exp(-(x^2 + y^2)), we multiply exp(-x^2) and exp(-y^2).
    np.testing.assert_allclose(heatmaps, arrays["heatmaps"], rtol=0, atol=np.finfo(np.float32).eps)
    np.testing.assert_array_equal(weights, arrays["weights"])


@pytest.mark.parametrize("prefix", ["", "pred_"])
def test_decoding_equals_mmpose(case, prefix):
    name, config, arrays = case
    maps = arrays[f"{prefix}heatmaps"]
    keypoints, scores = decode_heatmaps(maps[None], tuple(config["input_size"]), decoder=CASES[name][1])
    expected = arrays["pred_decoded" if prefix else "decoded"]
    np.testing.assert_array_equal(scores[0], arrays["pred_scores" if prefix else "decoded_scores"])
    compared = np.ones(len(maps), dtype=bool)
    if name.startswith("udp"):
        # Where no pixel is positive, mmpose's UDP divides 0 by 0 or refines with pixels of the channel before.
        compared = maps.max(axis=(1, 2)) > 0
        assert (keypoints[0][~compared] < 0).all()
        assert (~compared).sum() == (1 if prefix else 4)
    # Coordinates go up to 256 and are float32 on both sides: one unit in the last place is 1.5e-5 pixels.
    np.testing.assert_allclose(keypoints[0][compared], expected[compared], rtol=0, atol=1.6e-5)


@pytest.mark.parametrize("case", [name for name in CASES if CASES[name][2]], indirect=True)
def test_decoding_equals_mmpose_0_13(case, golden):
    name, config, arrays = case
    expected = json.loads((golden / "pipeline" / "official_mmpose0_13_decode.json").read_text())[name]
    keypoints, scores = decode_heatmaps(
        arrays["pred_heatmaps"][None], tuple(config["input_size"]), decoder=CASES[name][2]
    )
    np.testing.assert_allclose(keypoints[0], expected["decoded"], rtol=0, atol=1.6e-5)  # as above
    np.testing.assert_array_equal(scores[0], np.float32(expected["scores"]))


def test_many_people_at_once_equal_one_at_a_time(case):
    name, config, arrays = case
    size = tuple(config["input_size"])
    maps = np.stack([arrays["pred_heatmaps"], arrays["heatmaps"], arrays["pred_heatmaps"][::-1]])
    keypoints, scores = decode_heatmaps(maps, size, decoder=CASES[name][1])
    for index, one in enumerate(maps):
        alone = decode_heatmaps(one[None], size, decoder=CASES[name][1])
        np.testing.assert_array_equal(keypoints[index], alone[0][0])
        np.testing.assert_array_equal(scores[index], alone[1][0])

    points = np.stack([arrays["keypoints"], arrays["keypoints"][::-1]])
    visible = np.stack([arrays["visible"], arrays["visible"][::-1]])
    where = (size, tuple(config["heatmap_size"]), config["sigma"])
    batch = encode_heatmaps(points, visible, *where, mode=CASES[name][0])
    for index in range(2):
        alone = encode_heatmaps(points[index], visible[index], *where, mode=CASES[name][0])
        np.testing.assert_array_equal(batch[0][index], alone[0])
        np.testing.assert_array_equal(batch[1][index], alone[1])


@pytest.mark.parametrize(
    ("mode", "decoder", "error"),
    [
        # Half a heat-map pixel (2 crop pixels) minus the quarter that is won back, on each axis; then the refined ones.
        ("gaussian", "quarter", 2.0),
        ("unbiased", "quarter", 1.0),
        ("unbiased", "dark", 0.05),
        ("udp", "udp", 0.05),
    ],
)
def test_decoding_undoes_encoding(mode, decoder, error):
    rng = np.random.default_rng(0)
    points = rng.uniform((24, 24), (168, 232), size=(20, 17, 2)).astype(np.float32)
    maps, weights = encode_heatmaps(points, np.ones((20, 17)), INPUT, MAP, 2, mode=mode)
    decoded, _ = decode_heatmaps(maps, INPUT, decoder=decoder)
    if mode == "udp":  # its crop pixels run to the centre of the last pixel, see decode_heatmaps
        decoded = decoded * (np.array(INPUT) - 1) / INPUT
    assert (weights == 1).all()
    assert np.abs(decoded - points).max() <= error + 1e-4


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_channel_that_is_not_finite_has_score_zero_and_disturbs_no_other(decoder, bad):
    maps = np.random.default_rng(1).uniform(0, 1, (2, 3, 64, 48)).astype(np.float32)
    expected, _ = decode_heatmaps(maps, INPUT, decoder=decoder)
    broken = maps.copy()
    broken[0, 1, 63, 20] = bad
    keypoints, scores = decode_heatmaps(broken, INPUT, decoder=decoder)
    assert scores[0, 1] == 0
    assert (keypoints[0, 1] < 0).all()
    others = np.ones((2, 3), dtype=bool)
    others[0, 1] = False
    np.testing.assert_array_equal(keypoints[others], expected[others])
    assert (scores[others] > 0.9).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_channels_without_a_positive_pixel_and_peaks_on_the_border(decoder):
    maps = np.zeros((1, 6, 64, 48), dtype=np.float32)
    maps[0, 1] = -1
    for channel, (y, x) in enumerate([(0, 0), (63, 47), (0, 47), (63, 0)], start=2):
        maps[0, channel, y, x] = 0.5
    keypoints, scores = decode_heatmaps(maps, INPUT, decoder=decoder)
    assert np.isfinite(keypoints).all()
    np.testing.assert_array_equal(scores[0], [0, -1, 0.5, 0.5, 0.5, 0.5])
    assert (keypoints[0, :2] < 0).all()
    corners = np.array([(0, 0), (188, 252), (188, 0), (0, 252)])
    # A quarter and DARK leave the corners; UDP may move by at most half a heat-map pixel (2) and rescales (4).
    assert np.abs(keypoints[0, 2:] - corners).max() <= (6.2 if decoder == "udp" else 0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_nobody_and_the_smallest_maps(decoder):
    keypoints, scores = decode_heatmaps(np.zeros((0, 17, 64, 48)), INPUT, decoder=decoder)
    assert keypoints.shape == (0, 17, 2)
    assert scores.shape == (0, 17)
    keypoints, _ = decode_heatmaps(np.ones((1, 1, 2, 2)), INPUT, decoder=decoder)
    assert np.isfinite(keypoints).all()


def noisy_maps(input_size=INPUT, heatmap_size=MAP, sigma=2.0):
    """``[2, 17, h, w]`` with peaks anywhere within the crop.

    Of a peak beyond it only a flank is seen, with noise for curvature, and a step divides by that.
    """
    rng = np.random.default_rng(0)
    points = rng.uniform(0, input_size, (2, 17, 2))
    maps, _ = encode_heatmaps(points, np.ones((2, 17)), input_size, heatmap_size, sigma, mode="unbiased")
    return (0.8 * maps + rng.normal(0, 0.02, maps.shape)).astype(np.float32)


def assert_decoded_as_slowly(maps, input_size, decoder, kernel_size):
    keypoints, scores = decode_heatmaps(maps, input_size, decoder=decoder, blur_kernel_size=kernel_size)
    expected, expected_scores = slow_decoders.decode(maps, input_size, decoder, kernel_size)
    np.testing.assert_array_equal(scores, expected_scores)
    # float32 is rounded to where the step is added to the peak and where that is scaled: two units in the last place.
    # And the two blurs are sums of 34 rounded terms: 4e-7 of the logarithm, over a curvature that is at least 0.05 of
    # Gaussians with a sigma of 3 after a blur by another 3.2, times 4 crop pixels.
    atol = 2 * np.spacing(np.float32(max(input_size))) + 3e-5
    np.testing.assert_allclose(keypoints, expected, rtol=0, atol=0 if decoder.startswith("quarter") else atol)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("input_size", "heatmap_size", "sigma", "kernel_size"),
    [(INPUT, MAP, 2, 11), ((288, 384), (72, 96), 3, 17), ((96, 128), (24, 32), 2, 5), ((100, 52), (25, 13), 2, 17)],
)
def test_decoding_equals_slow_decoding(decoder, input_size, heatmap_size, sigma, kernel_size):
    assert_decoded_as_slowly(noisy_maps(input_size, heatmap_size, sigma), input_size, decoder, kernel_size)


@pytest.mark.parametrize("decoder", DECODERS)
def test_peaks_at_and_near_borders_and_corners(decoder):
    peaks = [(x, y) for x in (0, 1, 2, 20, 45, 46, 47) for y in (0, 1, 2, 30, 61, 62, 63)]
    # A little beside the pixels, so that every step has a direction.
    points = 4.0 * np.array(peaks)[None] + (0.6, -0.4)
    maps, _ = encode_heatmaps(points, np.ones((1, len(peaks))), INPUT, MAP, 2, mode="unbiased")
    assert [tuple(divmod(index, 48)[::-1]) for index in maps.reshape(len(peaks), -1).argmax(1)] == peaks
    assert_decoded_as_slowly(maps, INPUT, decoder, 11)


@pytest.mark.parametrize("decoder", DECODERS)
def test_of_equally_high_pixels_the_first_counts(decoder):
    maps = np.zeros((1, 4, 64, 48), np.float32)
    maps[0, 0] = 0.5  # all of them
    maps[0, 1, [10, 20, 40], [30, 5, 30]] = 0.5
    maps[0, 2, 30:33, 20:23] = 0.5
    maps[0, 3, 63, 46:] = 0.5
    keypoints, _ = decode_heatmaps(maps, INPUT, decoder=decoder)
    first = np.array([(0, 0), (30, 10), (20, 30), (46, 63)])
    # The first pixel and the step from it: of a quarter pixel, or by the derivatives there, which are known as above.
    if decoder.startswith("quarter"):
        assert np.abs(keypoints[0] / 4 - first).max() <= 0.25
    expected, _ = slow_decoders.decode(maps, INPUT, decoder, 11)
    np.testing.assert_allclose(keypoints, expected, rtol=1e-4)


def assert_stays_at(x, y, maps, decoder, **options):
    keypoints, _ = decode_heatmaps(maps, INPUT, decoder=decoder, **options)
    stride = (192 / 47, 256 / 63) if decoder == "udp" else (4, 4)
    np.testing.assert_allclose(keypoints[0, 0], np.multiply((x, y), stride), rtol=1e-6)


# The last is so little that nothing is left of it after the blur, and nothing that could be scaled to it.
@pytest.mark.parametrize(("decoder", "height"), [("dark", 1e-12), ("udp", 1e-4), ("dark", 1e-45), ("udp", 1e-45)])
def test_peaks_too_faint_to_have_a_curvature_stay_where_they_are(decoder, height):
    # Lower than what the logarithm is limited to: all derivatives are 0, and the Hessian matrix is singular.
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, 40, 20] = height
    assert_stays_at(20, 40, maps, decoder)


def test_peaks_too_high_to_have_a_curvature_stay_where_they_are():
    maps, _ = encode_heatmaps(np.array([[[81.0, 162.0]]]), np.ones((1, 1)), INPUT, MAP, 2, mode="unbiased")
    assert_stays_at(20, 40, 1000 * maps, "udp")
    with pytest.raises(AssertionError):  # where it stays within what the logarithm is limited to
        assert_stays_at(20, 40, 10 * maps, "udp")


def test_low_peaks_are_refined_like_high_ones():
    maps, _ = encode_heatmaps(np.array([[[81.0, 162.0]]]), np.ones((1, 1)), INPUT, MAP, 2, mode="unbiased")
    assert_decoded_as_slowly(np.float32(5e-9) * maps, INPUT, "dark", 11)


def test_a_ridge_is_refined_across():
    # Flat along x, where the Hessian matrix has nothing but UDP's epsilon.
    maps = np.exp(-((np.arange(64) - 30.3) ** 2) / 8).astype(np.float32)[None, None, :, None].repeat(48, axis=3)
    keypoints, _ = decode_heatmaps(maps, INPUT, decoder="udp", blur_kernel_size=1)
    # Three-point derivatives of a Gaussian's logarithm, a parabola, are exact: what remains is logarithms' rounding.
    np.testing.assert_allclose(keypoints[0, 0], (0, 30.3 * 256 / 63), rtol=0, atol=3e-5)


def test_a_hessian_matrix_that_is_singular_in_spite_of_the_epsilon():
    # Logarithms to base 2 are -3 beside and -12 on a diagonal: [[-6, -6], [-6, -6]], where float32 has no epsilon left.
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, 39:42, 19:22] = [[2**-8, 2, 0], [2, 16, 2], [0, 2, 2**-8]]
    assert_stays_at(20, 40, maps, "udp", blur_kernel_size=1)


@pytest.mark.parametrize("decoder", DECODERS)
def test_maps_whose_blur_is_nowhere_positive(decoder):
    # The maximum stays when blurring, also where that turns the signs around.
    maps = np.full((1, 1, 64, 48), -1, np.float32)
    maps[0, 0, 40, 20] = 0.25
    assert_decoded_as_slowly(maps, INPUT, decoder, 11)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_types_are_computed_in_float32(decoder, dtype):
    maps = torch.from_numpy(noisy_maps()).to(dtype)
    for found, expected in zip(
        decode_heatmaps(maps, INPUT, decoder=decoder),
        decode_heatmaps(maps.float(), INPUT, decoder=decoder),
        strict=True,
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_tensors_give_tensors_and_arrays_give_arrays(decoder):
    maps = noisy_maps()
    before = maps.copy()
    arrays = decode_heatmaps(maps, INPUT, decoder=decoder)
    assert all(type(array) is np.ndarray and array.dtype == np.float32 for array in arrays)
    with torch.inference_mode():
        of_inference = torch.from_numpy(maps).clone()
    channels_last = torch.from_numpy(maps).contiguous(memory_format=torch.channels_last)
    for tensor in (torch.from_numpy(maps), channels_last, of_inference, torch.from_numpy(maps).requires_grad_()):
        tensors = decode_heatmaps(tensor, INPUT, decoder=decoder)
        for found, expected in zip(tensors, arrays, strict=True):
            assert not found.requires_grad
            np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_array_equal(maps, before)


def test_arrays_that_are_not_contiguous_or_writable():
    maps = noisy_maps()
    expected, _ = decode_heatmaps(maps[::-1, :, :, ::2].copy(), INPUT)
    views = [maps[::-1, :, :, ::2], maps[::-1, :, :, ::2].astype(np.float64), maps[::-1, :, :, ::2].copy()]
    views[-1].flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in views:
            np.testing.assert_array_equal(decode_heatmaps(view, INPUT)[0], expected)


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoding_neither_waits_for_a_device_nor_uploads_to_it(decoder):
    """Tensors of the device `meta` have no values: reading one, or a shape that depends on one, is an error there.

    What is made elsewhere and moved, or made of Python's numbers, is in the trace as a constant or with its device.
    """

    def trace(function, batch):
        return make_fx(function)(torch.empty(batch, 17, 64, 48, dtype=torch.float16, device="meta")).graph.nodes

    def uploads(nodes):
        return [n for n in nodes if n.op == "get_attr" or n.kwargs.get("device", torch.device("meta")).type != "meta"]

    for batch in (0, 3):
        nodes = trace(lambda maps: decode_heatmaps(maps, INPUT, decoder=decoder), batch)
        assert uploads(nodes) == []
        keypoints, scores = next(node for node in nodes if node.op == "output").args[0]
        assert keypoints.meta["val"].shape == (batch, 17, 2)
        assert scores.meta["val"].shape == (batch, 17)

    # That this finds what it looks for:
    assert uploads(trace(lambda maps: maps + torch.tensor([1.0, 2.0], device=maps.device).sum(), 3))
    assert uploads(trace(lambda maps: maps[:, torch.as_tensor(np.arange(3), device=maps.device)], 3))
    for waits in (lambda maps: maps.max().item(), lambda maps: maps[maps > 0], lambda maps: maps.cpu()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            trace(waits, 3)


@pytest.mark.compile
@pytest.mark.parametrize("decoder", DECODERS)
def test_decoding_compiles_in_one_piece(decoder):
    maps = torch.from_numpy(noisy_maps())
    compiled = torch.compile(decode_heatmaps, fullgraph=True, backend="aot_eager")
    for found, expected in zip(
        compiled(maps, INPUT, decoder=decoder), decode_heatmaps(maps, INPUT, decoder=decoder), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kernel_size", range(1, 32, 2))
def test_weights_of_the_blur_are_opencvs(kernel_size):
    expected = cv2.getGaussianKernel(kernel_size, 0, cv2.CV_64F)[kernel_size // 2 :, 0]
    np.testing.assert_allclose(gaussian_weights(kernel_size), expected, rtol=1e-14)  # some roundings of float64


@pytest.mark.parametrize("mode", HEATMAP_MODES)
def test_unusable_joints_are_not_drawn(mode):
    points = np.array([[np.nan, 10], [10, np.inf], [-400, 10], [96, 128], [96, 128]], dtype=np.float32)
    maps, weights = encode_heatmaps(points, [1, 1, 1, 0, 1], INPUT, MAP, 2, mode=mode)
    np.testing.assert_array_equal(weights, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(maps.max(axis=(1, 2)) > 0, [False, False, False, False, True])
    assert np.isfinite(maps).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": np.zeros((17, 3))}, r"keypoints: expected shape \[K, 2\] or \[N, K, 2\], got \[17, 3\]"),
        ({"visible": np.zeros(16)}, r"visible: expected shape \[17\] as keypoints has, got \[16\]"),
        ({"sigma": 0}, "sigma: expected a positive number of heat-map pixels, got 0"),
        ({"mode": "msra"}, "mode: expected one of gaussian, unbiased, udp, got 'msra'"),
        ({"heatmap_size": (1, 64)}, r"at least 2 pixels, got \(192, 256\) and \(1, 64\)"),
    ],
)
def test_encoding_says_what_is_wrong(change, message):
    arguments = {"keypoints": np.zeros((17, 2)), "visible": np.ones(17), "sigma": 2, "heatmap_size": MAP}
    with pytest.raises(InputError, match=message):
        encode_heatmaps(**(arguments | {"input_size": INPUT} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heatmaps": np.zeros((17, 64, 48))}, r"heatmaps: expected shape \[N, K, h, w\].*, got \[17, 64, 48\]"),
        ({"decoder": "best"}, "decoder: expected one of quarter, quarter_per_axis, dark, udp, got 'best'"),
        ({"blur_kernel_size": 10}, "blur_kernel_size: expected a positive odd number, got 10"),
    ],
)
def test_decoding_says_what_is_wrong(change, message):
    with pytest.raises(InputError, match=message):
        decode_heatmaps(**({"heatmaps": np.zeros((1, 17, 64, 48)), "input_size": INPUT} | change))
