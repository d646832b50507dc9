"""A detector of boxes from lidar and cameras, whose queries may weight the features they look at.

B samples · Q queries · V views · T tokens · D width · K classes · L decoder layers

Both sensors' feature maps are one memory of tokens with positions in metres; queries have
reference points, attend to the memory in every layer, and predict the box there. With `weigh` the
queries first draw how much they trust either sensor onto maps (`maps.py`), and the decoder sees the
features multiplied with those.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sickbay.models.reweighting.maps import (
    MapOptions,
    Places,
    at_origin,
    count_weights,
    factor_of,
    normalise,
    place_in_views,
    place_on_grid,
    render,
    stretch,
)
from sickbay.models.reweighting.metrics import ALIKE, ScoreRules
from sickbay.models.reweighting.parts import (
    DEPTHS,
    DecoderLayer,
    GridEncoder,
    Positions,
    ViewEncoder,
    WeightGenerator,
    cells,
    rays,
    window,
)
from sickbay.models.shared.arithmetic import exact

CLASS_BIAS = -2.19  # a probability of a tenth
BOX_CODE = 10  # x, y, log width, log length, z, log height, sin and cos of the yaw, vx, vy
REACH = 4.0  # metres of a box's offset from its query for each unit of the head
POOL = 5  # cells around a reference point that a query starts from
MIDDLE = 1.0  # metres over the ground at which queries stand
GROUPS = ("grid_encoder", "view_encoder", "generator", "references", "decoder", "heads")


@dataclass(frozen=True)
class NetOptions:
    """Size of a detector, and how it is scored. `queries` is a square number; windows are odd.

    `widening` is the hidden width of the decoder's feed-forward layers over the width.
    """

    width: int = 64
    widening: int = 2
    heads: int = 4
    layers: int = 2
    queries: int = 36
    classes: int = 3
    extent: float = 16.0
    windows: tuple[int, int] = (5, 3)
    rules: ScoreRules = ALIKE


SIZES = {
    "small": NetOptions(width=32, heads=2),
    "medium": NetOptions(queries=196),
    "full": NetOptions(
        width=256, widening=4, heads=8, layers=6, queries=900, extent=54.0, windows=(5, 15)
    ),
}


@dataclass(frozen=True)
class Batch:
    """Samples: grids (B, 8, H, W), views (B, V, 3, h, w), lidar2img (B, V, 4, 4), boxes, classes.

    boxes (B, M, 9) are x, y, z, width, length, height, yaw, vx, vy; classes (B, M), -1 for none.
    Where all samples have the cameras at the same places, `rig` (1, V, 4, 4) is their lidar2img.
    `encoded` are the features of grids and views, if frozen encoders have computed them already.
    """

    bev: Tensor
    views: Tensor
    lidar2img: Tensor
    boxes: Tensor
    classes: Tensor
    rig: Tensor | None = None
    encoded: tuple[Tensor, Tensor] | None = None

    def pick(self, index: Tensor) -> "Batch":
        """Return some of the samples, in the order asked for."""
        seen = None if self.encoded is None else (self.encoded[0][index], self.encoded[1][index])
        return Batch(
            self.bev[index],
            self.views[index],
            self.lidar2img[index],
            self.boxes[index],
            self.classes[index],
            self.rig,
            seen,
        )


@dataclass(frozen=True)
class Features:
    """What the encoders see: the grid (B, D, H, W), the views (B, V, D, h, w), and their rays.

    `rig` is the lidar2img of all samples of the data, where they have but one.
    """

    bev: Tensor
    views: Tensor
    lidar2img: Tensor
    rig: Tensor | None = None


@dataclass(frozen=True)
class Weighted:
    """How the features were weighted; a pair holds what belongs to the grid and to the views.

    `weights` (B, Q, 2) are the queries'; `raw` maps (B, V, H, W) are as drawn, `maps` as used.
    """

    weights: Tensor
    raw: tuple[Tensor, Tensor]
    maps: tuple[Tensor, Tensor]
    factors: tuple[Tensor, Tensor]
    hottest: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Predicted:
    """Logits (L, B, Q, K) and box codes (L, B, Q, 10) of every layer, content of the last."""

    logits: Tensor
    codes: Tensor
    content: Tensor


class QueryDetector(nn.Module):
    """Encoders, generator of weights, decoder and heads; its parameters by `groups`."""

    def __init__(self, options: NetOptions, bias: float = 2.0) -> None:
        """Build a size; the generator starts from `bias`. ValueError unless Q is a square."""
        super().__init__()
        side = math.isqrt(options.queries)
        if side * side != options.queries:
            raise ValueError(f"queries: {options.queries} is no square number")
        self.options = options
        width = options.width
        self.grid_encoder, self.view_encoder = GridEncoder(width), ViewEncoder(width)
        self.positions = Positions(width, options.heads, options.extent)
        line = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(line, line, indexing="ij")
        self.references = nn.Parameter(torch.stack([x, y], dim=-1).flatten(0, 1))  # in [0, 1]
        self.ray_position = nn.Linear(len(DEPTHS) * width, width)
        with torch.no_grad():
            self.ray_position.weight.mul_(0.3)
            self.ray_position.weight += torch.eye(width).repeat(1, len(DEPTHS)) / len(DEPTHS)
        self.start = nn.Linear(width, width)
        self.decoder = nn.ModuleList(
            DecoderLayer(width, options.heads, options.widening * width)
            for _ in range(options.layers)
        )
        self.classify = nn.ModuleList(
            nn.Linear(width, options.classes) for _ in range(options.layers)
        )
        self.locate = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, BOX_CODE))
            for _ in range(options.layers)
        )
        for layer in self.classify:
            assert isinstance(layer, nn.Linear)
            nn.init.constant_(layer.bias, CLASS_BIAS)
        self.generator = WeightGenerator(width, options.heads, options.windows, bias)
        scale = options.extent / SIZES["small"].extent
        depths = torch.tensor([depth * scale for depth in DEPTHS])
        self.register_buffer("depths", depths, persistent=False)
        self._rig: tuple[Tensor, Tensor] | None = None  # the last rig, and its embedded rays
        self._grid: Tensor | None = None  # the embedded cells of the last grid

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by part, from input to output, in the order of `GROUPS`."""
        parts: dict[str, list[nn.Parameter]] = {
            "grid_encoder": list(self.grid_encoder.parameters()),
            "view_encoder": list(self.view_encoder.parameters()),
            "generator": list(self.generator.parameters()),
            "references": [self.references],
            "decoder": [
                *self.ray_position.parameters(),
                *self.start.parameters(),
                *self.decoder.parameters(),
            ],
            "heads": [*self.classify.parameters(), *self.locate.parameters()],
        }
        assert tuple(parts) == GROUPS
        return parts

    def encode(self, batch: Batch) -> Features:
        """Return the features of both sensors."""
        if batch.encoded is not None:
            return Features(*batch.encoded, batch.lidar2img, batch.rig)
        bev, views = self.grid_encoder(batch.bev), self.view_encoder(batch.views)
        return Features(bev, views, batch.lidar2img, batch.rig)

    def points(self) -> Tensor:
        """Return the queries' reference points, (Q, 3) in metres."""
        extent = self.options.extent
        flat_Q2 = self.references.clamp(0.0, 1.0) * 2.0 * extent - extent
        return torch.cat([flat_Q2, torch.full_like(flat_Q2[:, :1], MIDDLE)], dim=-1)

    def begin(self, features: Features, points_Q3: Tensor) -> Tensor:
        """Return the content that queries start from: the grid around their place, (B, Q, D)."""
        batch, grid = len(features.bev), features.bev.shape[-1]
        cell = place_on_grid(points_Q3.detach(), self.options.extent, grid)
        pixel_BQ2 = torch.stack([cell.row, cell.column], dim=-1).expand(batch, -1, -1)
        around_BQD = window(features.bev, pixel_BQ2, POOL).mean(dim=2)
        content: Tensor = self.start(around_BQD)
        return content

    def weigh(self, features: Features, options: MapOptions, *, detach: bool) -> Weighted:
        """Let the queries weight the features; with `detach` no gradient reaches the generator."""
        bev, views = features.bev, features.views
        count, height, width = views.shape[1], *views.shape[-2:]
        points_Q3 = self.points().detach()
        edge = points_Q3.new_full((1, 2), -self.options.extent)
        corner_13 = torch.cat([edge, torch.zeros_like(edge[:, :1])], dim=1)
        points_BQ3 = torch.cat([points_Q3, corner_13]).expand(len(bev), -1, -1)
        places = (
            at_origin(place_on_grid(points_BQ3, self.options.extent, bev.shape[-1])),
            at_origin(place_in_views(points_BQ3, features.lidar2img, height, width)),
        )
        content = self.begin(features, points_BQ3[0]) + self.positions(points_BQ3[..., :2])
        flat = [bev, views.transpose(1, 2).flatten(2, 3)]
        pixels = [torch.stack([p.row + p.view * height, p.column], dim=-1) for p in places]
        weights = self.generator(content, flat, pixels).float()
        used = weights.detach() if detach else weights
        shapes = ((1, bev.shape[-2], bev.shape[-1]), (count, height, width))
        raw, maps, hottest = [], [], []
        for index, (place, shape) in enumerate(zip(places, shapes, strict=True)):
            counted = count_weights(used[..., index], place, options)
            drawn = render(counted, place, *shape, options)
            skip = index == 1 and not options.norm_views
            raw.append(drawn)
            maps.append(drawn if skip else normalise(drawn, options.norm))
            hottest.append(_most_on_a_pixel(place, shape, options))
        if options.stretch:
            maps = [stretch(weight_map) for weight_map in maps]
        return Weighted(
            weights[:, :-1],
            (raw[0], raw[1]),
            (maps[0], maps[1]),
            (factor_of(maps[0], options), factor_of(maps[1], options)),
            (hottest[0], hottest[1]),
        )

    def decode(self, features: Features, weighted: Weighted | None = None) -> Predicted:
        """Return the queries' predictions from the features, plain or weighted."""
        bev, views = features.bev, features.views
        if weighted is not None:
            bev = bev * weighted.factors[0]
            views = views * weighted.factors[1][:, :, None]
        place_view = self.ray_position(self._ray_places(features)).flatten(1, 3)
        place_BTD = torch.cat(
            [self._grid_places(bev).expand(len(bev), -1, -1), place_view.expand(len(bev), -1, -1)],
            dim=1,
        )
        memory_BTD = torch.cat([bev.flatten(2), views.transpose(1, 2).flatten(2)], dim=2).transpose(
            1, 2
        )
        points_Q3 = self.points()
        content = self.begin(replace(features, bev=bev), points_Q3)
        centre_BQ2 = points_Q3[:, :2].expand(len(bev), -1, -1)
        logits, codes = [], []
        for layer, classify, locate in zip(self.decoder, self.classify, self.locate, strict=True):
            content = layer(content, self.positions(centre_BQ2), memory_BTD, place_BTD)
            code = locate(content).float()
            shifted = centre_BQ2 + REACH * code[..., :2]
            codes.append(torch.cat([shifted, code[..., 2:]], dim=-1))
            logits.append(classify(content).float())
            centre_BQ2 = shifted.detach()
        return Predicted(torch.stack(logits), torch.stack(codes), content)

    def _ray_places(self, features: Features) -> Tensor:
        """Return the embedded points of the pixels' rays, (1 or B, V, h, w, depths D).

        A rig that all samples share is embedded once.
        """
        rig = features.rig
        if rig is not None and self._rig is not None and self._rig[0] is rig:
            return self._rig[1]
        seen = features.lidar2img if rig is None else rig
        height, width = features.views.shape[-2:]
        with exact(seen.device):
            along = rays(seen, height, width, self.get_buffer("depths"))
        places: Tensor = self.positions(along).flatten(-2)
        if rig is not None:
            self._rig = (rig, places)
        return places

    def _grid_places(self, bev: Tensor) -> Tensor:
        """Return the embedded centres of the grid's cells, (H W, D)."""
        side = bev.shape[-1]
        known = self._grid
        if known is None or len(known) != side * side or known.device != bev.device:
            known = self.positions(cells(self.options.extent, side, bev.device))
            self._grid = known
        return known


def _most_on_a_pixel(places: Places, shape: tuple[int, int, int], options: MapOptions) -> Tensor:
    """Return the number of queries, with padding, on the fullest pixel of a sample, (B,)."""
    ones = torch.ones_like(places.row, dtype=torch.float32)
    counted = count_weights(ones, places, options)
    pixel = (places.view * shape[1] + places.row) * shape[2] + places.column
    total = torch.zeros(len(ones), shape[0] * shape[1] * shape[2], device=ones.device)
    return total.scatter_add(1, pixel, counted).amax(dim=1)
