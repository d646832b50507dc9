"""Query weights drawn as Gaussians onto feature maps, and the features multiplied with them.

B samples · Q queries · V views · H, W size of a map, h, w of a view's · D width of the features

Each query has a weight for either sensor and stands at a pixel of either map. A Gaussian kernel is
drawn there, times the weight, and overlapping ones are added. With a kernel that sums to one the
mean of a map is the sum of the weights / H W, whatever its width: 0.01 to 0.02 for 900 queries of
weight 0.45 on 180 x 180 cells. With a kernel whose peak is one it is 2 π σ² times that.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sickbay.models.shared.arithmetic import exact

KERNELS = ("sum", "peak")
NORMS = ("max_global", "none", "max_view", "clamp1.5", "clamp2.5")
LEAST_WEIGHT = 0.01  # smaller values of a map are set to 0
HEALTHY_MAXIMUM = 1.5  # the original's own monitoring calls a larger value a warning


@dataclass(frozen=True)
class MapOptions:
    """How weights become maps, and what the maps do to the features; see the factors' levels."""

    kernel: str = "sum"
    sigma: float = 2.0  # pixels
    norm: str = "max_global"
    norm_views: bool = True  # whether the views' maps are normalised at all
    pile: bool = True  # whether queries that no camera sees, and padding, stand at pixel (0, 0)
    padding: int = 0  # queries that belong to nothing, as denoising adds in training
    residual: float = 0.1
    mix: bool = False  # (1 - r) W F + r F instead of W F + r F
    stretch: bool = False  # whether a map is stretched to [0, 1] before it is used

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown name or a width that is not positive."""
        if self.kernel not in KERNELS:
            raise ValueError(
                f"kernel_norm: {self.kernel!r} is not known; choose one of {', '.join(KERNELS)}"
            )
        if self.norm not in NORMS:
            raise ValueError(
                f"map_norm: {self.norm!r} is not known; choose one of {', '.join(NORMS)}"
            )
        if not self.sigma > 0.0:
            raise ValueError(f"gaussian_sigma: {self.sigma!r} is not over 0")


@dataclass(frozen=True)
class Places:
    """Pixels of the queries, each (B, Q): row, column, view, and whether any view shows it."""

    row: Tensor
    column: Tensor
    view: Tensor
    valid: Tensor


def place_on_grid(points_BQ3: Tensor, extent: float, grid: int) -> Places:
    """Return the cells of points in metres; one outside of the world is not valid."""
    cell_BQ2 = ((points_BQ3[..., :2] + extent) * grid / (2.0 * extent)).floor()
    valid = ((cell_BQ2 >= 0) & (cell_BQ2 < grid)).all(dim=-1)
    cell = cell_BQ2.clamp(0, grid - 1).long()
    return Places(cell[..., 1], cell[..., 0], torch.zeros_like(cell[..., 0]), valid)


def place_in_views(points_BQ3: Tensor, lidar2img_BV44: Tensor, height: int, width: int) -> Places:
    """Return the pixels of points in the first view that sees them.

    A point that none sees is not valid and stands at view 0, row 0, column 0.
    """
    flat_BQ4 = torch.cat([points_BQ3, torch.ones_like(points_BQ3[..., :1])], dim=-1)
    with exact(flat_BQ4.device):
        seen_BVQ4 = torch.einsum("bvij,bqj->bvqi", lidar2img_BV44, flat_BQ4)
    depth_BVQ = seen_BVQ4[..., 2]
    safe_BVQ = depth_BVQ.clamp(min=1e-5)
    column_BVQ = (seen_BVQ4[..., 0] / safe_BVQ).floor()
    row_BVQ = (seen_BVQ4[..., 1] / safe_BVQ).floor()
    inside = (depth_BVQ > 1e-5) & (column_BVQ >= 0) & (column_BVQ < width)
    inside = inside & (row_BVQ >= 0) & (row_BVQ < height)
    valid = inside.any(dim=1)
    view = inside.int().argmax(dim=1)  # the first; 0 where there is none
    row = row_BVQ.gather(1, view[:, None])[:, 0]
    column = column_BVQ.gather(1, view[:, None])[:, 0]
    return Places(
        torch.where(valid, row, 0.0).long(),
        torch.where(valid, column, 0.0).long(),
        torch.where(valid, view, 0),
        valid,
    )


def kernel_reach(sigma: float) -> int:
    """Return how many pixels a kernel reaches to each side: it is 6 σ + 1 wide, made odd."""
    return int(6.0 * sigma + 1.0) // 2


def render(
    weight_BQ: Tensor, places: Places, views: int, height: int, width: int, options: MapOptions
) -> Tensor:
    """Draw the weights as Gaussians, added up, (B, V, H, W). Nothing leaks from view to view.

    A kernel is cut off at the border of its map, and counts only as far as it lies within. Values
    under 0.01 are set to 0. Differentiable by the weights.
    """
    dtype = weight_BQ.dtype
    down_BQH = _profile(places.row, height, options).to(dtype)
    across_BQW = _profile(places.column, width, options).to(dtype)
    views_V = torch.arange(views, device=weight_BQ.device)
    mine_BQV = (places.view[..., None] == views_V).to(dtype)
    tall_BQR = (mine_BQV[..., None] * down_BQH[:, :, None]).flatten(2)
    map_BRW = (weight_BQ[..., None] * tall_BQR).transpose(1, 2) @ across_BQW
    map_BVHW = map_BRW.reshape(-1, views, height, width)
    return torch.where(map_BVHW < LEAST_WEIGHT, 0.0, map_BVHW)


def count_weights(weight_BQ: Tensor, places: Places, options: MapOptions) -> Tensor:
    """Return the weights as they enter a map: the last query stands for all of the padding.

    Invalid queries and padding count where they pile up, and are 0 where they are dropped.
    """
    count_Q = weight_BQ.new_ones(weight_BQ.shape[1])
    count_Q[-1] = float(options.padding)
    counted_BQ = weight_BQ * count_Q
    if options.pile:
        return counted_BQ
    padding_Q = torch.arange(weight_BQ.shape[1], device=weight_BQ.device) == weight_BQ.shape[1] - 1
    return torch.where(places.valid & ~padding_Q, counted_BQ, 0.0)


def at_origin(places: Places) -> Places:
    """Move the last query, which stands for the padding, to view 0, row 0, column 0."""
    row, column, view = (field.clone() for field in (places.row, places.column, places.view))
    for field in (row, column, view):
        field[:, -1] = 0
    return Places(row, column, view, places.valid)


def normalise(map_BVHW: Tensor, norm: str) -> Tensor:
    """Divide by the largest value of a sample or of a view, or clamp; `none` changes nothing."""
    if norm == "none":
        return map_BVHW
    if norm.startswith("clamp"):
        return map_BVHW.clamp(0.0, float(norm.removeprefix("clamp")))
    over = (1, 2, 3) if norm == "max_global" else (2, 3)
    largest = map_BVHW.amax(dim=over, keepdim=True)
    return map_BVHW / torch.where(largest > 0.0, largest, 1.0)


def stretch(map_BVHW: Tensor) -> Tensor:
    """Stretch each view's map to [0, 1]; one that is the same everywhere becomes 0."""
    least = map_BVHW.amin(dim=(2, 3), keepdim=True)
    width = map_BVHW.amax(dim=(2, 3), keepdim=True) - least
    return (map_BVHW - least) / torch.where(width > 0.0, width, 1.0)


def factor_of(map_BVHW: Tensor, options: MapOptions) -> Tensor:
    """Return what the features are multiplied with: W + r, or (1 - r) W + r."""
    share = 1.0 - options.residual if options.mix else 1.0
    return share * map_BVHW + options.residual


def expected_mean(weights: float, pixels: int, options: MapOptions) -> float:
    """Return the mean of a map far from its borders in closed form: the weights' sum / pixels.

    A kernel whose peak is one has the kernel's own sum times that, 2 π σ² but for its cut-off.
    """
    scale = _kernel_sum(options.sigma) if options.kernel == "peak" else 1.0
    return weights * scale / pixels


def expected_peak(weight: float, options: MapOptions) -> float:
    """Return what queries of this weight in all give at the pixel where they pile up."""
    return weight if options.kernel == "peak" else weight / _kernel_sum(options.sigma)


def map_lines(
    options: MapOptions, queries: int, grid: int, weight: float
) -> tuple[tuple[str, float, str, str, str], ...]:
    """Return what is known of the grid's map before training: signal, value, words, name, formula.

    `weight` is what every query starts from. Padding is left out of the mean: it piles up in a
    corner, where most of its kernel is cut off.
    """
    kernel = "2 π σ² Σw / (H W)" if options.kernel == "peak" else "Σw / (H W)"
    mean = expected_mean(queries * weight, grid * grid, options)
    text = "the grid's map as drawn, of queries only, whatever is done to it afterwards"
    lines = [
        ("map_mean_raw", mean, text, "drawn_mean", kernel),
        ("map_mean_before", weight, "the weight that queries start from", "start", "1 / (1 + e⁻ᵇ)"),
        (
            "map_max",
            HEALTHY_MAXIMUM,
            "the largest value that the original calls healthy",
            "healthy",
            "the report's own limit",
        ),
    ]
    if options.pile and options.padding:
        peak = expected_peak(options.padding * weight, options)
        formula = "n w" if options.kernel == "peak" else "n w / Σ kernel ≈ n w / (2 π σ²)"
        text = "the padding alone, on the pixel where it piles up"
        lines.append(("map_overlap_sum", peak, text, "pile_up", formula))
    return tuple(lines)


def _kernel_sum(sigma: float) -> float:
    """Return the sum of a kernel whose peak is one: 2 π σ², but for its cut-off and its steps."""
    reach = kernel_reach(sigma)
    side = sum(math.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1))
    return side * side


def _profile(centre_BQ: Tensor, pixels: int, options: MapOptions) -> Tensor:
    """Return one side of the kernel, which is a product of two, (B, Q, pixels), in float64."""
    reach = kernel_reach(options.sigma)
    away = torch.arange(pixels, device=centre_BQ.device) - centre_BQ[..., None]
    value = torch.exp(-0.5 * (away.double() / options.sigma) ** 2)
    if options.kernel == "sum":
        value = value / math.sqrt(_kernel_sum(options.sigma))
    return torch.where(away.abs() <= reach, value, 0.0)
