"""Heat maps against those of mmpose 1.x and of mmpose 0.13, which the official Lite-HRNet was written for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litehrnet_cuda.codecs.heatmap import DECODERS, HEATMAP_MODES, decode_heatmaps, encode_heatmaps
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
