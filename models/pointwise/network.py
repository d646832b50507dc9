"""A detector that scores each lidar point, with attention to the camera's image.

B scenes · N points · C channels · T image tokens · H heads

In the system that this one re-creates, points are the queries and image tokens the keys and values
of one attention layer without a residual: the head sees a mixture of image tokens, and nothing of
the point itself but the weights of that mixture. `full_residual` adds the point's own feature.

At full size the image goes through a ResNet-18 (He et al., 2016) that is never trained, at small
size through three convolutions that are, and there is no dropout. Without a file of weights the
frozen one keeps its random start.
"""

import math
import pickle
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

FUSIONS = ("full", "full_residual", "points")
SCALE = (30.0, 30.0, 3.0, 1.0)  # metres and intensity to about one
FULL_PICTURE = 224  # pixels across, at full size
CHANNELS = 512  # of the frozen image net
TOGETHER = 16  # images that go through it at once
# Of ImageNet, by channel, as published weights expect it.
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """Widths of the point MLP and of the head, heads of the attention, how the image is seen.

    `dropout` is that of the head's layers, then that of the attention.
    """

    points: tuple[int, ...]
    head: tuple[int, ...]
    dropout: tuple[float, float, float]
    heads: int
    frozen_image: bool


ARCHITECTURES = {
    "small": Architecture((32, 64, 64), (64, 32), (0.0, 0.0, 0.0), 4, frozen_image=False),
    "full": Architecture((64, 128, 256, 512), (256, 128), (0.3, 0.2, 0.1), 8, frozen_image=True),
}


class PointAnomalyNet(nn.Module):
    """Points (B, N, 4) and image (B, 3, rows, columns) -> a feature, then a score, per point."""

    def __init__(self, size: str, fusion: str, weights: str = "") -> None:
        """Build by size name; `weights` is a file for the frozen image net, as torchvision has it.

        Raises ValueError for an unknown size or fusion, for a file that does not fit, and for one
        where no frozen image net would take it.
        """
        super().__init__()
        _require("size", size, tuple(ARCHITECTURES))
        _require("fusion", fusion, FUSIONS)
        architecture = ARCHITECTURES[size]
        self.size, self.fusion = size, fusion
        width = architecture.points[-1]
        self.register_buffer("scale", torch.tensor(SCALE), persistent=False)
        self.points = _rows((4, *architecture.points))
        self.image: nn.Module | None = None
        self.attention: Attention | None = None
        if fusion != "points":
            self.image = FrozenResNet18() if architecture.frozen_image else _small_image(width)
            self.attention = Attention(width, architecture.heads, architecture.dropout[-1])
        if weights:
            if not isinstance(self.image, FrozenResNet18):
                only = "only the full size has a frozen image net, and only with an image"
                raise ValueError(f"image_weights: {weights}: {only}; leave it empty")
            self.image.load(Path(weights))
        self.head = _rows((width, *architecture.head), architecture.dropout[:-1])
        self.head.append(nn.Linear(architecture.head[-1], 1))

    def seen(self, images_S3HW: Tensor, device: str = "cpu") -> Tensor:
        """Return what a frozen image net makes of images, (S, 512, 7, 7); else the images.

        The net is on `device`; what is returned lies where the images do.
        """
        image = self.image
        if not isinstance(image, FrozenResNet18):
            return images_S3HW
        return torch.cat(
            [
                image(some.to(device)).to(some.device)
                for some in images_S3HW.split(TOGETHER)  # type: ignore[no-untyped-call]
            ]
        )

    def encode(self, points_BN4: Tensor, image_B3HW: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (B, N, C), and the attention (B, H, N, T) if there is any.

        Images may also be given as what `seen` has made of them.
        """
        scaled = points_BN4 / self.get_buffer("scale")
        point_BNC = self.points(scaled.flatten(0, 1)).reshape(*points_BN4.shape[:2], -1)
        if self.image is None or self.attention is None:
            return point_BNC, None
        ready = image_B3HW.shape[1] == CHANNELS
        map_BCHW = image_B3HW if ready else self.image(image_B3HW)
        token_BTC = map_BCHW.flatten(2).transpose(1, 2)
        found_BNC, weight_BHNT = self.attention(point_BNC, token_BTC)
        if self.fusion == "full_residual":
            found_BNC = found_BNC + point_BNC
        return found_BNC, weight_BHNT

    def score(self, feature: Tensor) -> Tensor:
        """Return the logits of features: (…, C) -> (…)."""
        logit: Tensor = self.head(feature.flatten(0, -2)).float()
        return logit.reshape(feature.shape[:-1])

    def decide(self, feature_BNC: Tensor, plan: str) -> Tensor:
        """Return the logits a plan's loss wants: in B of the pooled feature, (B,), else (B, N)."""
        return self.score(feature_BNC.amax(dim=1) if plan == "B" else feature_BNC)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Name the trained parameters by group, from input to output, as `group_names` does."""
        modules = {
            "points": self.points,
            "image": self.image,
            "attention": self.attention,
            "head": self.head,
        }
        parameters = {}
        for name in group_names(self.size, self.fusion):
            module = modules[name]
            assert module is not None
            parameters[name] = list(module.parameters())
        return parameters


class Attention(nn.Module):
    """Multi-head attention of points over image tokens, written out so that it returns its weights.

    No positions are added: a token says what is in the picture, never where.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Share `width` channels among `heads`; `dropout` is that of the weights."""
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout) if dropout > 0.0 else nn.Identity()
        self.query = nn.Linear(width, width)
        # A key's bias shifts all of a query's scores alike: softmax is blind to it.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, point_BNC: Tensor, token_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attended values (B, N, C) and the attention weights (B, H, N, T)."""
        query, key = self._split(self.query(point_BNC)), self._split(self.key(token_BTC))
        score_BHNT = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        weight_BHNT = score_BHNT.softmax(dim=-1)
        attended = self.dropout(weight_BHNT) @ self._split(self.value(token_BTC))
        return self.out(attended.transpose(1, 2).flatten(2)), weight_BHNT

    def _split(self, values_BTC: Tensor) -> Tensor:
        return values_BTC.reshape(*values_BTC.shape[:2], self.heads, -1).transpose(1, 2)


class FrozenResNet18(nn.Module):
    """Image (B, 3, rows, columns) -> (B, 512, 7, 7). Never trained, always in evaluation mode."""

    def __init__(self) -> None:
        """Start from He's random weights."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        stages = [
            nn.Sequential(
                BasicBlock(before, width, 1 if index == 0 else 2), BasicBlock(width, width)
            )
            for index, (before, width) in enumerate(pairwise(widths))
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for name, values in (("mean", MEAN), ("spread", SPREAD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.requires_grad_(requires_grad=False)
        self.eval()

    def load(self, path: Path) -> None:
        """Take weights from a state dict in torchvision's layout; its classifier is left out.

        Nothing in the file is executed. Raises ValueError for a file that cannot be read, and for
        one that lacks a weight or has one of another shape.
        """
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
            weights = {key: kept[key] for key in kept if not key.startswith("fc.")}
            self.load_state_dict(weights)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, TypeError) as error:
            wanted = "expected the state dict of torchvision's resnet18"
            why = " ".join(str(error).split())
            raise ValueError(f"image_weights: {path}: {wanted}: {why}") from error

    def train(self, mode: bool = True) -> "FrozenResNet18":  # noqa: FBT001, FBT002 - torch's signature
        """Stay in evaluation mode: its statistics are frozen as well."""
        del mode
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Normalise images in [0, 1] by ImageNet's, stretch to 224 × 224, then encode."""
        square = (FULL_PICTURE, FULL_PICTURE)
        x = (image_B3HW - self.get_buffer("mean")) / self.get_buffer("spread")
        x = functional.interpolate(x, square, mode="nearest")
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        """Map `before` channels to `width`, with a stride."""
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            narrow = nn.Conv2d(before, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(narrow, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, rows, columns) -> (B, width, rows / stride, columns / stride)."""
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.downsample(x))


def group_names(size: str, fusion: str) -> tuple[str, ...]:
    """Name the groups that train, from input to output. Raises ValueError for unknown names."""
    _require("size", size, tuple(ARCHITECTURES))
    _require("fusion", fusion, FUSIONS)
    if fusion == "points":
        return ("points", "head")
    image = () if ARCHITECTURES[size].frozen_image else ("image",)
    return ("points", *image, "attention", "head")


def attention_entropy(weight_BHNT: Tensor) -> float:
    """Return the mean entropy of the attention weights in nats: log T if all are equal."""
    return float(torch.special.entr(weight_BHNT).sum(dim=-1).mean())


def _rows(widths: tuple[int, ...], dropout: tuple[float, ...] = ()) -> nn.Sequential:
    """Build layers for rows (…, C): linear, normalised, ReLU, and dropout where given."""
    layers: list[nn.Module] = []
    for index, (before, width) in enumerate(pairwise(widths)):
        # The normalisation brings its own shift: a bias before it would never get a gradient.
        layers += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        if index < len(dropout) and dropout[index] > 0.0:
            layers.append(nn.Dropout(dropout[index]))
    return nn.Sequential(*layers)


def _small_image(width: int) -> nn.Sequential:
    """(B, 3, rows, columns) -> (B, width, rows / 4, columns / 4)."""
    layers: list[nn.Module] = []
    before = 3
    for channels, pool in ((16, 2), (32, 2), (width, 1)):
        layers += [
            nn.Conv2d(before, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        layers += [nn.MaxPool2d(pool)] if pool > 1 else []
        before = channels
    return nn.Sequential(*layers)


def _require(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not known; choose one of {', '.join(allowed)}")
