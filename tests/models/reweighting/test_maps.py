"""The renderer of query weights against a direct sum, and the arithmetic of full-size maps."""

import math

import numpy as np
import pytest
import torch

from sickbay.datasets.reweighting.synthetic import WorldSpec, cameras
from sickbay.models.reweighting.maps import (
    MapOptions,
    Places,
    at_origin,
    count_weights,
    expected_mean,
    expected_peak,
    factor_of,
    kernel_reach,
    map_lines,
    normalise,
    place_in_views,
    place_on_grid,
    render,
    stretch,
)

LOW, HIGH = [-54.0, -54.0, -3.2], [54.0, 54.0, 4.8]  # nuScenes' range, above the ground


def places_of(rows, columns, views=None, valid=None):
    row = torch.tensor([rows])
    view = torch.zeros_like(row) if views is None else torch.tensor([views])
    good = torch.ones_like(row, dtype=torch.bool) if valid is None else torch.tensor([valid])
    return Places(row, torch.tensor([columns]), view, good)


def summed_directly(weights, rows, columns, views, shape, kernel, sigma):
    """Add every kernel pixel by pixel; a patch of int(6 σ + 1) pixels, made odd."""
    side = int(6 * sigma + 1)
    side += 1 - side % 2
    half = side // 2
    patch = np.array(
        [
            [math.exp(-(y * y + x * x) / (2 * sigma**2)) for x in range(-half, half + 1)]
            for y in range(-half, half + 1)
        ]
    )
    patch /= patch.sum() if kernel == "sum" else patch.max()
    result = np.zeros(shape)
    for weight, row, column, view in zip(weights, rows, columns, views, strict=True):
        for dy in range(-half, half + 1):
            for dx in range(-half, half + 1):
                y, x = row + dy, column + dx
                if 0 <= y < shape[1] and 0 <= x < shape[2]:
                    result[view, y, x] += weight * patch[dy + half, dx + half]
    result[result < 0.01] = 0.0
    return result


@pytest.mark.parametrize("kernel", ["sum", "peak"])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 2.7])
def test_the_renderer_is_the_direct_sum(kernel, sigma):
    rng = np.random.default_rng(0)
    count, shape = 30, (3, 9, 14)
    weights = rng.random(count)
    rows, columns = rng.integers(9, size=count), rng.integers(14, size=count)
    views = rng.integers(3, size=count)
    rows[:4], columns[:4], views[:4] = 0, 0, 0  # a pile-up in a corner
    drawn = render(
        torch.from_numpy(weights)[None],
        places_of(rows.tolist(), columns.tolist(), views.tolist()),
        *shape,
        MapOptions(kernel=kernel, sigma=sigma),
    )
    wanted = summed_directly(weights, rows, columns, views, shape, kernel, sigma)
    assert np.allclose(drawn[0].numpy(), wanted, rtol=0, atol=1e-12)
    assert wanted.any()


def full_size(queries, padding, options, seed=0):
    """Maps of queries all over the world, weight 0.45: a grid of 180², six views of 40 x 100."""
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    points = low + (high - low) * torch.rand(1, queries + 1, 3, generator=generator)
    rig = torch.from_numpy(cameras(WorldSpec("synthetic", 1, 1, 54.0, 180, 6, 40, 100, 0)))[None]
    weights = torch.full((1, queries + 1), 0.45)
    on_grid = at_origin(place_on_grid(points, 54.0, 180))
    in_views = at_origin(place_in_views(points, rig, 40, 100))
    assert padding == options.padding
    return (
        render(count_weights(weights, on_grid, options), on_grid, 1, 180, 180, options),
        render(count_weights(weights, in_views, options), in_views, 6, 40, 100, options),
    )


@pytest.mark.parametrize("sigma", [2.0, 1.0])
@pytest.mark.parametrize(("queries", "padding"), [(900, 0), (1300, 430)])
def test_at_full_size_a_kernel_of_sum_one_leaves_a_hundredth_whatever_its_width(
    sigma, queries, padding
):
    """The report saw 0.008 to 0.020 and 0.018 to 0.030, of weights near 0.45."""
    grid, views = full_size(queries, padding, MapOptions(sigma=sigma, padding=padding))
    assert 0.010 <= float(grid.mean()) <= 0.0195
    assert 0.0155 <= float(views.mean()) <= 0.031
    # Far from borders it is Σw / (H W); a kernel loses what lies outside or under 0.01.
    whole = expected_mean((queries + padding) * 0.45, 180 * 180, MapOptions(sigma=sigma))
    assert 0.7 * whole < float(grid.mean()) < whole


@pytest.mark.parametrize("queries", [1730, 900])
def test_at_full_size_without_padding_the_views_hold_up_to_three_hundredths(queries):
    _, views = full_size(queries, 0, MapOptions())
    assert float(views.mean()) == pytest.approx(queries * 0.45 / 24_000, rel=0.12)
    assert 0.0155 <= float(views.mean()) <= 0.0325


def test_at_full_size_430_pads_make_a_pixel_of_seven_point_eight():
    options = MapOptions(padding=430)
    grid, _ = full_size(1300, 430, options)
    assert float(grid.max()) == pytest.approx(7.75, abs=0.06)
    assert float(grid[0, 0, 0, 0]) == float(grid.max())
    assert expected_peak(430 * 0.45, options) == pytest.approx(7.71, abs=0.01)
    # Divided by that pixel nothing is left; without the padding a seventh is.
    assert float(normalise(grid, "max_global").mean()) < 0.003
    alone, _ = full_size(900, 0, MapOptions())
    assert float(normalise(alone, "max_global").mean()) == pytest.approx(0.137, abs=0.01)
    # A narrower kernel does not raise the mean, but the peak four times.
    narrow, _ = full_size(1300, 430, MapOptions(sigma=1.0, padding=430))
    assert float(narrow.max()) == pytest.approx(4.0 * float(grid.max()), rel=0.02)


@pytest.mark.parametrize(("sigma", "mean"), [(2.0, 0.312), (1.0, 0.077)])
def test_at_full_size_a_kernel_of_peak_one_keeps_two_pi_sigma_squared_as_much(sigma, mean):
    grid, _ = full_size(900, 0, MapOptions(kernel="peak", sigma=sigma))
    assert float(grid.mean()) == pytest.approx(mean, rel=0.03)
    assert mean == pytest.approx(2 * math.pi * sigma**2 * 900 * 0.45 / 180**2, rel=0.03)


def test_a_kernel_within_its_map_sums_to_its_weight_or_peaks_at_it():
    middle = places_of([20], [25])
    weight = torch.tensor([[0.6]], dtype=torch.float64)
    for sigma in (0.5, 1.0, 2.0):
        by_sum = render(weight * 60, middle, 1, 41, 51, MapOptions(sigma=sigma))
        lost = 0.01 * (2 * kernel_reach(sigma) + 1) ** 2  # at most: what was under the threshold
        assert 36.0 - lost < float(by_sum.sum()) <= 36.0 + 1e-9
        by_peak = render(weight, middle, 1, 41, 51, MapOptions(kernel="peak", sigma=sigma))
        assert float(by_peak.max()) == float(by_peak[0, 0, 20, 25]) == pytest.approx(0.6)
    assert [kernel_reach(sigma) for sigma in (0.5, 1.0, 2.0)] == [2, 3, 6]


def test_gradients_reach_the_weights_unless_they_are_detached():
    weights = torch.rand(1, 5, dtype=torch.float64, requires_grad=True)
    places = places_of([1, 2, 3, 4, 4], [1, 5, 3, 2, 2])
    options = MapOptions(kernel="peak", sigma=1.0)
    assert torch.autograd.gradcheck(
        lambda w: render(w + 0.5, places, 1, 6, 8, options).square().sum(), (weights,)
    )
    assert not render(weights.detach(), places, 1, 6, 8, options).requires_grad


def test_divisions_and_clamps():
    maps = torch.tensor([[[[0.5, 2.0]], [[0.25, 1.0]]], [[[0.0, 0.0]], [[0.0, 4.0]]]])
    assert torch.equal(normalise(maps, "none"), maps)
    assert normalise(maps, "max_global")[0].flatten().tolist() == [0.25, 1.0, 0.125, 0.5]
    assert normalise(maps, "max_view")[0].flatten().tolist() == [0.25, 1.0, 0.25, 1.0]
    assert normalise(maps, "max_view")[1].flatten().tolist() == [0.0, 0.0, 0.0, 1.0]
    assert normalise(maps, "clamp1.5")[:, :, 0, 1].flatten().tolist() == [1.5, 1.0, 0.0, 1.5]
    assert normalise(maps, "clamp2.5")[1, 1, 0, 1] == 2.5
    assert stretch(maps)[0].flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    assert stretch(maps)[1, 0].flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("residual", "mix", "weight", "factor"),
    [
        (0.7, False, 0.85, 1.55),
        (0.7, True, 0.85, 0.955),
        (0.1, False, 0.0, 0.1),
        (0.5, True, 0, 0.5),
    ],
)
def test_adding_amplifies_and_mixing_does_not(residual, mix, weight, factor):
    """The report's text mixes; the code it describes adds, and amplifies at W = 0.85."""
    computed = factor_of(
        torch.tensor([[[[float(weight)]]]]), MapOptions(residual=residual, mix=mix)
    )
    assert float(computed) == pytest.approx(factor)


def test_what_is_invalid_piles_up_or_is_dropped():
    places = places_of([3, 0, 2], [3, 0, 2], valid=[True, False, True])
    weights = torch.tensor([[0.5, 0.4, 0.3]])  # the last one stands for ten pads
    piled = count_weights(weights, places, MapOptions(padding=10))
    dropped = count_weights(weights, places, MapOptions(padding=10, pile=False))
    assert piled.tolist() == [pytest.approx([0.5, 0.4, 3.0])]
    assert dropped.tolist() == [pytest.approx([0.5, 0.0, 0.0])]
    moved = at_origin(places)
    assert [moved.row[0, -1], moved.column[0, -1], places.row[0, -1]] == [0, 0, 2]


def test_points_fall_into_the_cells_of_their_metres():
    points = torch.tensor([[[-15.9, -15.9, 0.0], [15.9, 0.1, 3.0], [0.0, 16.1, 0.0]]])
    places = place_on_grid(points, 16.0, 32)
    assert places.column.tolist() == [[0, 31, 16]]
    assert places.row.tolist() == [[0, 16, 31]]
    assert places.valid.tolist() == [[True, True, False]]


def test_the_first_view_that_sees_a_point_counts_and_none_is_the_origin():
    rig = np.stack([np.eye(4)] * 2).astype(np.float32)
    rig[0, :2, 2] = 4.0  # looks along z, pixels x/z + 4, y/z + 4
    rig[1, :2, 2] = 2.0
    points = torch.tensor([[[3.0, 1.0, 1.0], [5.0, 0.0, 1.0], [0.0, 0.0, -1.0], [9.0, 0.0, 1.0]]])
    places = place_in_views(points, torch.from_numpy(rig)[None], 8, 8)
    assert places.view.tolist() == [[0, 1, 0, 0]]
    assert places.column.tolist() == [[7, 7, 0, 0]]
    assert places.row.tolist() == [[5, 2, 0, 0]]
    assert places.valid.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("kernel", ["sum", "peak"])
def test_reference_lines_hold_for_a_map_drawn_of_equal_weights(kernel):
    options = MapOptions(kernel=kernel, sigma=1.0, padding=60)
    by_name = {(line[0], line[3]): line[1] for line in map_lines(options, 36, 32, 0.88)}
    line = torch.arange(6) * 5 + 3
    row, column = (side.flatten().tolist() for side in torch.meshgrid(line, line, indexing="ij"))
    places = places_of(row, column)
    drawn = render(torch.full((1, 36), 0.88), places, 1, 32, 32, options)
    assert float(drawn.mean()) == pytest.approx(by_name["map_mean_raw", "drawn_mean"], rel=0.12)
    pile = render(torch.tensor([[60 * 0.88]]), places_of([0], [0]), 1, 32, 32, options)
    assert float(pile.max()) == pytest.approx(by_name["map_overlap_sum", "pile_up"], rel=1e-6)
    assert by_name["map_max", "healthy"] == 1.5
    none = map_lines(MapOptions(kernel=kernel), 36, 32, 0.88)
    assert "pile_up" not in {line[3] for line in none}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": "max"}, "kernel_norm: 'max' is not known; choose one of sum, peak"),
        ({"norm": "clamp"}, "map_norm: 'clamp' is not known; choose one of max_global"),
        ({"sigma": 0.0}, "gaussian_sigma: 0.0 is not over 0"),
    ],
)
def test_a_wrong_option_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MapOptions(**changes)
