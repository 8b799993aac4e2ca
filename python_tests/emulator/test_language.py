"""CUDA's language as the emulator runs it, compared with Python."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import emulation
import numpy as np
import pytest

SOURCE = Path(__file__).with_name("language.cu")
SEEDS = range(6)
Array = np.ndarray[Any, Any]

INVALID_VALUE, INVALID_CONFIGURATION, TOO_LARGE = 1, 9, 720


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load([SOURCE], mode="checked", includes=[emulation.ROOT / "csrc"])


@pytest.fixture
def library(loaded: emulation.Library) -> emulation.Library:
    loaded.reset()
    loaded.configure()
    return loaded


# ---- half types


def widen(bits: Array, kind: str) -> Array:
    """The values of 16-bit patterns, by numpy and by the definition of bfloat16."""
    if kind == "half":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def nearest(exact: Fraction, kind: str, table: Array) -> float:
    """The finite value or infinity that round-to-nearest-even gives, out of the table of all values."""
    magnitude = abs(exact)
    upper = int(np.searchsorted(table, float(magnitude)))
    while upper < len(table) and Fraction(table[upper]) < magnitude:
        upper += 1
    while upper > 0 and Fraction(table[upper - 1]) >= magnitude:
        upper -= 1
    if upper == len(table):
        result = len(table) - 1
    elif Fraction(table[upper]) == magnitude:
        result = upper
    else:
        below, above = magnitude - Fraction(table[upper - 1]), Fraction(table[upper]) - magnitude
        # Positive patterns count upwards from 0, so a table index is even where the pattern is.
        result = upper if above < below or (above == below and upper % 2 == 0) else upper - 1
    value = float("inf") if result == len(table) - 1 else float(table[result])
    return -value if exact < 0 else value


def magnitudes(kind: str) -> Array:
    """All finite values from 0 up, and as the last entry where infinity would be if it were one more step."""
    last = 0x7C00 if kind == "half" else 0x7F80
    table = widen(np.arange(last, dtype=np.uint16), kind).astype(np.float64)
    return np.append(table, 2.0**16 if kind == "half" else 2.0**128)


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_all_16_bit_values_convert_to_float_and_back(library: emulation.Library, kind: str) -> None:
    patterns = np.arange(65536, dtype=np.uint16)
    values = widen(patterns, kind)
    narrowed, widened = library.empty(65536, np.uint16, "narrowed"), library.empty(65536, np.float32, "widened")
    arguments = library.copy(values, "x"), library.copy(patterns, "h"), narrowed, widened, 65536
    assert library.call(f"{kind}_conversions", *arguments) == 0
    nan = np.isnan(values)
    np.testing.assert_array_equal(widened.view(np.uint32)[~nan], values.view(np.uint32)[~nan])
    assert np.isnan(widened[nan]).all()
    np.testing.assert_array_equal(narrowed[~nan], patterns[~nan])
    assert (narrowed[nan] == 0x7FFF).all()  # what the device's conversion makes of every NaN
    assert library.errors() == []


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_float_rounds_to_nearest_even(library: emulation.Library, kind: str) -> None:
    table = magnitudes(kind)
    middle = ((table[:-1] + table[1:]) / 2).astype(np.float32)  # exact: a tie
    ties = np.concatenate([middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))])
    x = np.random.default_rng(0).choice(np.concatenate([ties, -ties]), 4000, replace=False)
    x = np.append(x, [0, -0.0, np.inf, -np.inf, middle[-1], 65504, 65519.996, 1e-8, 1e-45]).astype(np.float32)
    narrowed, widened = library.empty(x.size, np.uint16, "narrowed"), library.empty(x.size, np.float32, "widened")
    patterns = library.copy(np.zeros(x.size, np.uint16), "h")
    assert library.call(f"{kind}_conversions", library.copy(x, "x"), patterns, narrowed, widened, x.size) == 0
    expected = [nearest(Fraction(float(v)), kind, table) if np.isfinite(v) else float(v) for v in x]
    np.testing.assert_array_equal(widen(narrowed, kind), np.array(expected, np.float32))
    np.testing.assert_array_equal(np.signbit(widen(narrowed, kind)), np.signbit(x))


@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_arithmetic_rounds_once(library: emulation.Library, kind: str) -> None:
    generator = np.random.default_rng(1)
    n = 2000
    ones = 0x3C00 if kind == "half" else 0x3F80
    a, b, c = generator.integers(0, 65536, (3, n)).astype(np.uint16)
    near = slice(0, n // 2)  # half of the numbers lie close together, where sums cancel and round
    step = 0x400 if kind == "half" else 0x80
    for operand in (a, b, c):
        signs = 0x8000 * generator.integers(0, 2, n // 2)
        operand[near] = ones + generator.integers(-2 * step, 2 * step, n // 2) + signs
    results = library.empty((5, n), np.uint16, "results")
    arguments = [library.copy(operand, name) for operand, name in ((a, "a"), (b, "b"), (c, "c"))]
    assert library.call(f"{kind}_arithmetic", *arguments, results, n) == 0

    table = magnitudes(kind)
    x, y, z = (widen(operand, kind) for operand in (a, b, c))
    ok = np.isfinite(x) & np.isfinite(y) & np.isfinite(z) & (y != 0)
    for i in np.flatnonzero(ok):
        fx, fy, fz = Fraction(float(x[i])), Fraction(float(y[i])), Fraction(float(z[i]))
        exact = [fx + fy, fx - fy, fx * fy, fx / fy, fx * fy + fz]
        expected = [nearest(value, kind, table) for value in exact]
        np.testing.assert_array_equal(widen(results[:, i], kind), expected, err_msg=f"{x[i]} {y[i]} {z[i]}")
    if kind == "half":  # signs of zeros and infinities as numpy has them
        with np.errstate(all="ignore"):
            p, q = a.view(np.float16), b.view(np.float16)
            expected_half = np.stack([p + q, p - q, p * q, p / q])
        got = results[:4].view(np.float16)
        nan = np.isnan(expected_half)
        np.testing.assert_array_equal(np.isnan(got), nan)
        np.testing.assert_array_equal(results[:4][~nan], expected_half.view(np.uint16)[~nan])


def test_double_rounds_to_half_once(library: emulation.Library) -> None:
    # Through float, 1 + 2^-11 + 2^-40 would become the tie 1 + 2^-11, and round down.
    x = np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11, 1 + 3 * 2.0**-11 - 2.0**-40, -1e-300, 1e300])
    y = library.empty(x.size, np.float16, "y")
    assert library.call("double_to_half", library.copy(x, "x"), y, x.size) == 0
    np.testing.assert_array_equal(y, np.array([1 + 2.0**-10, 1, 1 + 2.0**-10, -0.0, np.inf], np.float16))


# ---- what threads do together


def collectives_in_python(x: Array, argument: Array, width: int) -> list[Array]:
    lanes = np.arange(32)
    first = lanes // width * width
    up, down, xor = lanes - (argument[0] & 31), lanes + (argument[0] & 31), lanes ^ (argument[0] & (width - 1))
    bits = np.uint64(1) << lanes.astype(np.uint64)

    def mask(chosen: Array) -> int:
        return int(bits[chosen].sum())

    def all_lanes(value: int) -> Array:
        return np.full(32, value & 0xFFFFFFFF, np.uint32)

    same = len(set(x.tolist())) == 1
    unsigned = x.view(np.uint32)
    # C++'s remainder has the sign of the dividend.
    remainder = np.fmod(x, 4)
    return [
        x[first + (argument & (width - 1))],
        x[np.where(up >= first, up, lanes)],
        x[np.where(down < first + width, down, lanes)],
        x[xor],
        all_lanes(mask(np.fmod(x, 2) != 0)),
        all_lanes(1),
        all_lanes(int((x >= -1000).all())),
        np.array([mask(remainder == r) for r in remainder], np.uint32),
        all_lanes(0xFFFFFFFF if same else 0),
        all_lanes(int(same)),
        all_lanes(int(x.sum())),
        all_lanes(int(x.min())),
        all_lanes(int(x.max())),
        all_lanes(int(unsigned.max())),
        all_lanes(int(np.bitwise_xor.reduce(unsigned))),
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [32, 16, 4])
def test_warp_collectives(library: emulation.Library, seed: int, width: int) -> None:
    generator = np.random.default_rng([seed, width])
    library.configure(seed=seed)
    for x in (generator.integers(-2000, 2000, 32), np.full(32, -3)):
        x = x.astype(np.int32)
        argument = generator.integers(0, 64, 32).astype(np.int32)
        results = library.empty((15, 32), np.int32, "results")
        inputs = library.copy(x, "x"), library.copy(argument, "argument")
        assert library.call("collectives", *inputs, width, results) == 0
        for row, expected in zip(results, collectives_in_python(x, argument, width), strict=True):
            np.testing.assert_array_equal(row.view(np.uint32), expected.view(np.uint32))
    assert library.errors() == []


@pytest.mark.parametrize(("function", "dtype"), [("tile_half", np.float16), ("tile_double", np.float64)])
def test_tiles_of_a_warp_in_a_block_that_is_no_multiple_of_32(
    library: emulation.Library, function: str, dtype: type
) -> None:
    x = np.arange(48, dtype=dtype) / 8
    y, ranks = library.empty(48, dtype, "y"), library.empty(48, np.int32, "ranks")
    assert library.call(function, library.copy(x, "x"), y, ranks) == 0
    lanes = np.arange(48)
    np.testing.assert_array_equal(y, x[lanes ^ 3])
    np.testing.assert_array_equal(ranks, lanes // 8 * 100 + lanes % 8)
    assert library.errors() == []


@pytest.mark.parametrize("ones", [0, 1, 17, 100])
def test_votes_of_a_block(library: emulation.Library, ones: int) -> None:
    results = library.empty(3, np.int32, "results")
    x = library.copy((np.arange(100) < ones).astype(np.int32) * 5, "x")
    assert library.call("block_votes", x, results, 100) == 0
    np.testing.assert_array_equal(results, [ones, ones > 0, ones == 100])


@pytest.mark.parametrize("seed", SEEDS)
def test_atomics(library: emulation.Library, seed: int) -> None:
    library.configure(seed=seed)
    words = library.copy(np.array([0, 0, -1, 5, 0, -1, 0, 0, 0, 0], np.int32), "words")
    total, precise = library.copy(np.zeros(1, np.float32), "sum"), library.copy(np.zeros(1), "precise")
    wide = library.copy(np.zeros(1, np.uint64), "wide")
    assert library.call("atomics", words, total, precise, wide, 5, 60) == 0
    n = 300
    i = np.arange(n)
    xor = int(np.bitwise_xor.reduce(i))
    low20 = (1 << 20) - 1
    np.testing.assert_array_equal(words, [i.sum(), -i.sum(), n - 1, 1 - n, low20, ~low20, xor, n % 100, 2 * n, 7])
    assert (total[0], precise[0], int(wide[0])) == (n / 2, n / 4, n << 33)
    assert library.errors() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_grid_barrier_keeps_shared_memory(library: emulation.Library, seed: int) -> None:
    library.configure(seed=seed)
    scratch, y = library.empty(11, np.int32, "scratch"), library.empty(11, np.int32, "y")
    assert library.call("rotate", scratch, y, 3, 11) == 0
    blocks = np.arange(11)
    np.testing.assert_array_equal(y, 1000 * ((blocks + 3) % 11) + blocks)
    assert library.errors() == []


# ---- launches


def test_cooperative_launch_must_fit(library: emulation.Library) -> None:
    library.configure(multiprocessors=2)
    assert library.call("resident_blocks", 64, 4) == 2 * 32  # as many blocks as a multiprocessor takes
    assert library.call("resident_blocks", 1024, 4) == 2 * 2  # 2048 threads
    assert library.call("resident_blocks", 64, 40 << 10) == 2 * 5  # 228 KB, of which each block takes 41
    scratch, y = library.empty(65, np.int32, "scratch"), library.empty(65, np.int32, "y")
    assert library.call("rotate", scratch, y, 1, 64) == 0
    assert library.errors() == []
    assert library.call("rotate", scratch, y, 1, 65) == TOO_LARGE
    assert library.kinds() == {"cooperative launch too large"}
    assert library.errors()[0]["message"] == (
        "rotate_kernel: cooperative launch too large: "
        "a cooperative launch of 65 blocks, and the device holds 64 at once"
    )


def test_parameters_and_indices(library: emulation.Library) -> None:
    y = library.empty(30, np.float64, "y")
    assert library.call("parameters", y) == 0
    np.testing.assert_array_equal(y, [(i % 5 + 1) * 2 + 7 + 100 * (i // 10) for i in range(30)])
    (launch,) = library.launches()
    assert launch == {
        "kernel": "parameters_kernel",
        "grid": [1, 1, 1],
        "block": [5, 2, 3],
        "shared_bytes": 0,
        "threads": 30,
        "cooperative": False,
        "error": "cudaSuccess",
    }


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1, 1, 1024, 1, 1, 0), 0),
        ((1, 1, 1, 1, 1, 64, 48 << 10), 0),
        ((0, 1, 1, 32, 1, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 0, 32, 1, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 1, 0, 1, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 1, 1025, 1, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 1, 64, 32, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 1, 1, 1, 65, 0), INVALID_CONFIGURATION),
        ((1, 65536, 1, 1, 1, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 65536, 1, 1, 1, 0), INVALID_CONFIGURATION),
        ((1, 1, 1, 32, 1, 1, (48 << 10) + 1), INVALID_VALUE),
    ],
    ids=str,
)
def test_limits_of_a_launch(library: emulation.Library, shape: tuple[int, ...], expected: int) -> None:
    library.call("last_error")
    before = library.call("counted_launches")
    assert library.call("launch_nothing", *shape) == expected
    assert library.call("counted_launches") == before + (expected == 0)
    assert len(library.launches()) == (expected == 0)
    assert library.call("last_error") == expected
    assert library.call("last_error") == 0


def test_dynamic_shared_memory_can_be_raised(library: emulation.Library) -> None:
    assert library.call("allow_shared", (227 << 10) + 1) == INVALID_VALUE
    assert library.call("allow_shared", 100 << 10) == 0
    assert library.call("launch_nothing", 1, 1, 1, 32, 1, 1, 100 << 10) == 0
    assert library.call("launch_nothing", 1, 1, 1, 32, 1, 1, (100 << 10) + 1) == INVALID_VALUE
    assert library.call("allow_shared", 48 << 10) == 0


def order(library: emulation.Library, seed: int) -> list[int]:
    library.reset()
    library.configure(seed=seed)
    result = library.empty(160, np.int32, "order")
    assert library.call("thread_order", library.copy(np.zeros(1, np.uint32), "next"), result, 4, 40) == 0
    return [int(rank) for rank in result]


def test_seed_decides_the_order_of_threads(library: emulation.Library) -> None:
    natural = list(range(160))
    assert order(library, 0) == natural
    assert order(library, 1) == natural[::-1]
    random = [order(library, seed) for seed in (2, 3)]
    assert random[0] != random[1]
    for one in random:
        assert one not in (natural, natural[::-1])
        assert sorted(one) == natural
    assert [order(library, seed) for seed in (2, 3)] == random
