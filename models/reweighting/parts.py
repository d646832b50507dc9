"""The parts of the detector: positions, encoders of the sensors, a decoder layer, the generator.

B samples · Q queries · V views · T tokens · D width · A heads · H, W grid, h, w of a view
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTHS = (4.0, 8.0, 13.0)  # metres along a pixel's ray, for a world of ±16 m
RAW_BEV, RAW_VIEW = 8, 3
SHARPNESS = 2.0  # how strongly near tokens attract a query before training


class Positions(nn.Module):
    """Sines and cosines of x and y in metres, (…, 2) to (…, D).

    Every head gets frequencies of its own from the whole range, of x and of y: so the product of
    two positions is large, in each head, only where they are near.
    """

    def __init__(self, width: int, heads: int, extent: float) -> None:
        """Wavelengths go from four times the world's half width down to a sixth of it."""
        super().__init__()
        count = width // 4
        longest, shortest = 4.0 * extent, extent / 6.0
        ladder = 2.0 * math.pi / longest * (longest / shortest) ** torch.linspace(0, 1, count)
        by_head = torch.cat([ladder[head::heads] for head in range(heads)])
        self.register_buffer("frequency", by_head.reshape(heads, -1), persistent=False)

    def forward(self, metres: Tensor) -> Tensor:
        """Return the embedding of positions."""
        frequency = self.get_buffer("frequency")
        phase = metres[..., None, :, None] * frequency[:, None]  # (…, A, 2, D / 4 A)
        return torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-3)


class GridEncoder(nn.Module):
    """Two convolutions over the lidar's grid and its coordinates, (B, 8, H, W) to (B, D, H, W)."""

    def __init__(self, width: int) -> None:
        """Take the width D of the features."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(RAW_BEV + 2, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, bev: Tensor) -> Tensor:
        """Return the features."""
        line = torch.linspace(-1.0, 1.0, bev.shape[-1], device=bev.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        where = torch.stack([x, y]).expand(len(bev), -1, -1, -1)
        features: Tensor = self.layers(torch.cat([bev, where], dim=1))
        return features


class ViewEncoder(nn.Module):
    """Two convolutions over each camera's view, (B, V, 3, h, w) to (B, V, D, h, w)."""

    def __init__(self, width: int) -> None:
        """Take the width D of the features."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(RAW_VIEW, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, views: Tensor) -> Tensor:
        """Return the features."""
        features: Tensor = self.layers((views.flatten(0, 1) - 0.5) * 4.0)
        return features.reshape(*views.shape[:2], *features.shape[1:])


class Attention(nn.Module):
    """Scaled dot-product attention; queries and keys carry positions, values do not."""

    def __init__(self, width: int, heads: int, sharpness: float = 1.0) -> None:
        """Queries and keys start near the identity, so that what is near attracts at once."""
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        with torch.no_grad():
            for layer in (self.query, self.key):
                layer.weight.mul_(0.5).add_(torch.eye(width), alpha=math.sqrt(sharpness))
                layer.bias.zero_()

    def forward(self, query_BQD: Tensor, key_BTD: Tensor, value_BTD: Tensor) -> Tensor:
        """Return the attended values of each query, (B, Q, D)."""
        query, key, value = (
            layer(tokens).reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
            for layer, tokens in (
                (self.query, query_BQD),
                (self.key, key_BTD),
                (self.value, value_BTD),
            )
        )
        scale = 1.0 / math.sqrt(query.shape[-1])
        # By hand: the fused kernels of a GPU have no deterministic gradient.
        weight_BAQT = (query * scale @ key.transpose(-1, -2)).softmax(dim=-1)
        looked: Tensor = self.out((weight_BAQT @ value).transpose(1, 2).flatten(2))
        return looked


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to both sensors' features, a feed-forward step."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        """Take the width D, the number of heads A, and the hidden width of the last step."""
        super().__init__()
        self.among = Attention(width, heads)
        self.across = Attention(width, heads, SHARPNESS)
        self.think = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, content_BQD: Tensor, place_BQD: Tensor, memory_BTD: Tensor, place_BTD: Tensor
    ) -> Tensor:
        """Return the new content of the queries, (B, Q, D)."""
        asked = content_BQD + place_BQD
        content = self.norms[0](content_BQD + self.among(asked, asked, content_BQD))
        looked = self.across(content + place_BQD, memory_BTD + place_BTD, memory_BTD)
        content = self.norms[1](content + looked)
        result: Tensor = self.norms[2](content + self.think(content))
        return result


class WeightGenerator(nn.Module):
    """The weight of lidar and of cameras for each query, from the features around it.

    One layer of attention to a window of either map around the query's pixel, and a linear layer
    with a sigmoid; `bias` is what the latter starts from: 2.0 is a weight of 0.88.
    """

    def __init__(self, width: int, heads: int, windows: tuple[int, int], bias: float) -> None:
        """Take the side of the window on the grid and of the one on the views, odd both."""
        super().__init__()
        self.windows = windows
        self.look = nn.ModuleList(Attention(width, heads) for _ in windows)
        self.norm = nn.LayerNorm(width)
        self.think = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.weigh = nn.Linear(width, 2)
        nn.init.constant_(self.weigh.bias, bias)

    def forward(self, content_BQD: Tensor, maps: list[Tensor], pixels: list[Tensor]) -> Tensor:
        """Return the weights (B, Q, 2) of lidar and cameras.

        `maps` are the features (B, D, R, W) of either sensor, views one below the other, and
        `pixels` the queries' rows and columns on them, (B, Q, 2).
        """
        content = content_BQD
        for look, side, features, pixel in zip(self.look, self.windows, maps, pixels, strict=True):
            near_NTD = window(features, pixel, side).flatten(0, 1)
            asked_N1D = content_BQD.flatten(0, 1)[:, None]
            content = content + look(asked_N1D, near_NTD, near_NTD).reshape_as(content_BQD)
        content = self.norm(content)
        weights: Tensor = self.weigh(content + self.think(content)).sigmoid()
        return weights


def rays(lidar2img_BV44: Tensor, height: int, width: int, depths_K: Tensor) -> Tensor:
    """Return x and y in metres of points on the pixels' rays, (B, V, h, w, depths, 2).

    NaN or infinite for a camera whose matrix has no inverse; nothing waits for the device.
    """
    device = lidar2img_BV44.device
    row = torch.arange(height, device=device) + 0.5
    column = torch.arange(width, device=device) + 0.5
    v, u, d = torch.meshgrid(row, column, depths_K, indexing="ij")
    pixel_hwk4 = torch.stack([u * d, v * d, d, torch.ones_like(d)], dim=-1)
    inverse_BV44 = torch.linalg.inv_ex(lidar2img_BV44).inverse
    points: Tensor = torch.einsum("bvij,hwkj->bvhwki", inverse_BV44, pixel_hwk4)[..., :2]
    return points


def cells(extent: float, grid: int, device: torch.device) -> Tensor:
    """Return x and y in metres of the cells' centres, row by row, (H W, 2)."""
    line = (torch.arange(grid, device=device) + 0.5) * 2.0 * extent / grid - extent
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def window(features_BDRW: Tensor, pixel_BQ2: Tensor, side: int) -> Tensor:
    """Return the features around pixels, (B, Q, side², D); beyond a border its last row repeats."""
    rows, columns = features_BDRW.shape[-2:]
    step = torch.arange(side, device=pixel_BQ2.device) - side // 2
    row = (pixel_BQ2[..., 0, None] + step).clamp(0, rows - 1)
    column = (pixel_BQ2[..., 1, None] + step).clamp(0, columns - 1)
    place_BN = (row[..., :, None] * columns + column[..., None, :]).flatten(1)
    tokens_BTD = features_BDRW.flatten(2).transpose(1, 2)
    # By rows: a deterministic gradient sorts the indices, here one a token and not one a number.
    sample_B1 = torch.arange(len(place_BN), device=place_BN.device)[:, None]
    near = tokens_BTD[sample_B1, place_BN]
    return near.reshape(*pixel_BQ2.shape[:2], side * side, -1)


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the focal loss of each logit, α = 0.25 and γ = 2, against targets 0 or 1."""
    plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = torch.where(targets > 0.5, 1.0 - logits.sigmoid(), logits.sigmoid())
    return torch.where(targets > 0.5, 0.25, 0.75) * wrong.square() * plain
