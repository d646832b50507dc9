"""Is there an anomaly in the scene? A camera image and a lidar's points, joined by attention.

B scenes · N points · T image tokens · D width · A attention heads · H, W image size

In the original, points are the queries and image tokens the keys and values, with no residual. The
attention then returns a mixture of image tokens, and nothing of the points' content reaches the
head but the weights of that mixture: `full` is no better than `image`.
`full_residual` adds the points back.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FUSIONS = ("full", "none", "image", "points", "full_residual", "full_residual_pos")
WIDTHS = {"small": 64, "full": 256}
GRID = 4  # the image becomes 4 x 4 tokens
HEADS = 4
POSITION_STD = 0.02


@dataclass(frozen=True)
class Scored:
    """Logits (B,), and in evaluation the entropy (B,) of the attention where there is one, nats."""

    logits: Tensor
    entropy: Tensor | None = None

    @classmethod
    def concatenate(cls, parts: Iterable["Scored"]) -> "Scored":
        """Join the scenes of several batches."""
        some = list(parts)
        entropy = [part.entropy for part in some if part.entropy is not None]
        logits_S = torch.cat([part.logits for part in some])
        return cls(logits_S, torch.cat(entropy) if entropy else None)


class SceneNet(nn.Module):
    """Two encoders, perhaps attention, and a head. It holds only the parts that its fusion uses."""

    def __init__(self, size: str, fusion: str, dropout: float) -> None:
        """Build a size, "small" (D = 64) or "full" (256). Raises ValueError for unknown names."""
        super().__init__()
        _require("size", size, tuple(WIDTHS))
        _require("fusion", fusion, FUSIONS)
        width = WIDTHS[size]
        self.fusion = fusion
        self.attends = fusion.startswith("full")  # off: as `none`, the attention is left out
        if fusion != "points":
            self.image = ImageTokens(width)
        if fusion != "image":
            self.points = _layers(nn.ReLU, 4, width // 4, width // 2, width)
        if fusion.startswith("full"):
            self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        if fusion == "full_residual_pos":
            self.position = nn.Parameter(torch.randn(GRID * GRID, width) * POSITION_STD)
        joined = width if fusion in ("image", "points") else 2 * width
        self.head = _head(joined, width, dropout)

    def forward(self, images_BCHW: Tensor, points_BN4: Tensor) -> Scored:
        """Return a logit per scene, from images and points of x, y, z and intensity."""
        if self.fusion == "points":
            return Scored(self._judge(self.points(points_BN4).amax(dim=1)))
        tokens_BTD = self.image(images_BCHW)
        seen_BD = tokens_BTD.mean(dim=1)
        if self.fusion == "image":
            return Scored(self._judge(seen_BD))
        points_BND = self.points(points_BN4)
        entropy_B = None
        if self.attends:
            looked_BND, weight_BANT = self._look(points_BND, tokens_BTD)
            entropy_B = None if self.training else attention_entropy(weight_BANT)
            residual = self.fusion.startswith("full_residual")
            points_BND = points_BND + looked_BND if residual else looked_BND
        joined_BD = torch.cat([points_BND.amax(dim=1), seen_BD], dim=-1)
        return Scored(self._judge(joined_BD), entropy_B)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by part, from input to output, in the order of `group_names`."""
        position = [self.position] if self.fusion == "full_residual_pos" else []
        return {
            name: [*getattr(self, name).parameters(), *(position if name == "attention" else [])]
            for name in group_names(self.fusion)
        }

    def _look(self, points_BND: Tensor, tokens_BTD: Tensor) -> tuple[Tensor, Tensor]:
        if self.fusion == "full_residual_pos":
            tokens_BTD = tokens_BTD + self.position
        return few_keys(self.attention, points_BND, tokens_BTD)

    def _judge(self, joined: Tensor) -> Tensor:
        logits_B1: Tensor = self.head(joined).float()
        return logits_B1[:, 0]


class ImageTokens(nn.Module):
    """Three convolutions, averaged to 4 x 4 tokens of D/2 channels, each repeated once."""

    def __init__(self, width: int) -> None:
        """Take the width D of a token."""
        super().__init__()
        narrow, middle, wide = width // 8, width // 4, width // 2
        self.layers = nn.Sequential(
            nn.Conv2d(3, narrow, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(narrow, middle, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(middle, wide, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return tokens (B, 16, D), row by row. ValueError unless H and W are multiples of 16."""
        if images_BCHW.shape[-1] % 16 or images_BCHW.shape[-2] % 16:
            height, width = images_BCHW.shape[-2:]
            raise ValueError(
                f"height, width: {height} x {width} pixels do not divide into 4 x 4 tokens; "
                "choose multiples of 16"
            )
        # Channels last: pooling takes a fraction of the time.
        maps = self.layers(images_BCHW.contiguous(memory_format=torch.channels_last))
        # An adaptive average pool, written so that its gradient is deterministic on a GPU as well.
        blocks = maps.unflatten(3, (GRID, -1)).unflatten(2, (GRID, -1))
        tokens_BTC = blocks.mean(dim=(3, 5)).flatten(2).transpose(1, 2)
        return torch.cat([tokens_BTC, tokens_BTC], dim=-1)


def group_names(fusion: str) -> tuple[str, ...]:
    """Name the parts of a fusion from input to output. Raises ValueError for another fusion."""
    _require("fusion", fusion, FUSIONS)
    branches = {"image": ("image",), "points": ("points",)}.get(fusion, ("image", "points"))
    attention = ("attention",) if fusion.startswith("full") else ()
    return (*branches, *attention, "head")


def few_keys(
    attention: nn.MultiheadAttention, query_BND: Tensor, token_BTD: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the same as `attention`, in half the time where tokens are few and queries many.

    Returns the attended values (B, N, D) and the weights (B, A, N, T). Keys and values are taken
    through the queries' and the output's projections, instead of the many queries: q·k is the same
    as x·(Wq k) + bq·k, and Wo (w v) the same as w (Wo v).
    """
    batch, tokens, width = token_BTD.shape
    heads = attention.num_heads
    ask_DD, key_DD, value_DD = attention.in_proj_weight.chunk(3)
    ask_D, key_D, value_D = attention.in_proj_bias.chunk(3)
    key_BTAH = functional.linear(token_BTD, key_DD, key_D).reshape(batch, tokens, heads, -1)
    value_BTAH = functional.linear(token_BTD, value_DD, value_D).reshape(batch, tokens, heads, -1)
    into_AHD = ask_DD.reshape(heads, -1, width) / math.sqrt(width // heads)
    shift_AH = ask_D.reshape(heads, -1) / math.sqrt(width // heads)
    out_AHD = attention.out_proj.weight.T.reshape(heads, -1, width)
    key_BATD = torch.einsum("btah,ahd->batd", key_BTAH, into_AHD)
    bias_BAT = torch.einsum("btah,ah->bat", key_BTAH, shift_AH)
    value_BATD = torch.einsum("btah,ahd->batd", value_BTAH, out_AHD)
    score_BNS = torch.baddbmm(
        bias_BAT.flatten(1)[:, None, :], query_BND, key_BATD.flatten(1, 2).transpose(1, 2)
    )
    weight_BNAT = score_BNS.reshape(batch, -1, heads, tokens).softmax(dim=-1)
    looked_BND = weight_BNAT.flatten(2) @ value_BATD.flatten(1, 2) + attention.out_proj.bias
    return looked_BND, weight_BNAT.transpose(1, 2)


def attention_entropy(weight_BANT: Tensor) -> Tensor:
    """Return the entropy of the attention weights, mean over a scene's points and heads, nats (B,).

    It is log 16 where all weights are equal, 0 where each point attends to a single token.
    """
    # Not `xlogy`, which takes ten times as long; a weight of 0 gives 0 here as well. In place, as
    # three tables of this size do not fit into a cache.
    share_BANT = weight_BANT.detach()
    log_BANT = share_BANT.clamp(min=torch.finfo(share_BANT.dtype).tiny).log_()
    return -log_BANT.mul_(share_BANT).sum(dim=-1).mean(dim=(1, 2))


def _layers(activation: type[nn.Module], *widths: int) -> nn.Sequential:
    """Build linear layers with an activation between, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def _head(joined: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(joined, 2 * width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(2 * width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
    )


def _require(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not known; choose one of {', '.join(allowed)}")
