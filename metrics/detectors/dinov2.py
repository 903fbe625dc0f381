"""DINOv2 (Oquab et al. 2023, arXiv 2304.07193), the vision transformer behind FD-DINOv2 (Stein et al. 2023)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.detectors.base import Detector, as_rgb
from metrics.detectors.bicubic import pillow_bicubic
from metrics.detectors.loading import filled
from metrics.detectors.vgg16 import normalized
from metrics.weights import WeightsFile, read_state

SIZE = 224
HEAD_WIDTH = 64  # in all published sizes
EPSILON = 1e-6
AT_ONCE = {"cpu": 4, "cuda": 64}  # images
UNUSED = "mask_token"  # of pre-training
# Added to the number of patches before positions are resampled, for their scale alone. Published features have it.
SCALE_OFFSET = 0.1


class Attention(nn.Module):
    """Multi-head self-attention of tokens [N,L,D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [N,heads,L,D/heads]
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = MLP(width, 4 * width)
        self.ls2 = Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images)


class DINOv2(nn.Module):
    """Normalised images [N,3,H,W], H and W multiples of `patch` -> the class token [N,width] after the last norm.

    grid: patches along an edge of the images that it was trained on, for which positions are stored.
    """

    def __init__(self, width: int = 1024, depth: int = 24, heads: int = 16, grid: int = 37, patch: int = 14) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.patch_embed = PatchEmbedding(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)
        patches = patches + self.positions(patches.shape[2], patches.shape[3])
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(images), -1, -1)
        x = torch.cat([cls_token, patches.flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def positions(self, rows: int, columns: int) -> Tensor:
        """Embeddings of the places of rows x columns patches [1,width,rows,columns], from those that are stored."""
        grid = math.isqrt(self.pos_embed.shape[1] - 1)
        stored = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
        if (rows, columns) == (grid, grid):
            return stored
        scale = ((rows + SCALE_OFFSET) / grid, (columns + SCALE_OFFSET) / grid)
        return F.interpolate(stored, scale_factor=scale, mode="bicubic")


def open_dinov2(file: WeightsFile, device: torch.device) -> Detector:
    """Rows [N,1024] of the public file of ViT-L/14 (other sizes: as many as they are wide).

    Images are brought to 224x224 by Pillow's antialiased bicubic filter, to the last bit, as where FD-DINOv2 was
    defined (dgm-eval). EDM2's evaluation has torch's filter instead, neither rounded nor clipped, by default.
    """
    state = {name: tensor for name, tensor in read_state(file).items() if name != UNUSED}
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})

    def build() -> DINOv2:
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
        return DINOv2(width, depth, max(width // HEAD_WIDTH, 1), math.isqrt(state["pos_embed"].shape[1] - 1), patch)

    module = filled(build, state, file.path, device)
    about = {"resize": f"bicubic of Pillow to {SIZE}x{SIZE}", "range": "ImageNet mean and deviation",
             "layer": "class token"}

    @torch.no_grad()
    def rows(images: Tensor) -> Tensor:
        return torch.cat([module(normalized(pillow_bicubic(as_rgb(part), SIZE).float()))
                          for part in images.split(AT_ONCE.get(device.type, 16))])

    return Detector("dinov2", f"sha256:{file.sha256}", rows, about, module)
