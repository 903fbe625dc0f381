"""Generator and Discriminator of StyleGAN2(-ADA): arXiv 1912.04958 section 4, figure 7; arXiv 2006.06676 appendix D.

Constructor arguments and parameter names are those of the ecosystem's snapshots. Images are float32 [N,C,H,W] in about
[-1, 1], C = 1, 3 or 4; resolutions are powers of two from 8.

The highest num_fp16_res resolutions run in half precision: float16 or bfloat16 on CUDA, on a CPU bfloat16 only
(`half_dtype`); elsewhere, and with force_fp32, they run in float32 with the same result to rounding.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stylegan2_pipeline.layers import (
    DEFAULT_FILTER,
    SQRT_HALF,
    Conv2dLayer,
    Dense,
    MappingNetwork,
    MinibatchStdLayer,
    SynthesisLayer,
    ToRGBLayer,
)
from torch_utils.ops.layout import channels_last
from torch_utils.ops.upfirdn2d import downsample2d, setup_filter, upsample2d


def block_resolutions(img_resolution: int) -> list[int]:
    log2 = int(math.log2(img_resolution))
    assert 2**log2 == img_resolution >= 8, f"resolution {img_resolution} is not a power of two from 8"
    return [2**i for i in range(2, log2 + 1)]


def half_resolutions_from(img_resolution: int, num_fp16_res: int) -> int:
    return max(2 ** (int(math.log2(img_resolution)) + 1 - num_fp16_res), 8)


def in_usual_layout(x: Tensor) -> Tensor:
    """x float32, channels last on a CPU, where that is the faster layout."""
    return channels_last(x) if x.device.type == "cpu" else x.contiguous()


class Block(nn.Module):
    """What blocks of both networks share: the precision and memory layout that they compute in.

    recompute: keep only what went in for the gradient, which computes the block again (arXiv 1604.06174).
    """

    resample_filter: Tensor
    recompute: bool = False

    def __init__(self, use_fp16: bool, half_dtype: str, architecture: str, resample_filter: Sequence[float]) -> None:
        super().__init__()
        assert architecture in ("orig", "skip", "resnet")
        self.use_fp16 = use_fp16
        self.half_dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}[half_dtype]
        self.architecture = architecture
        self.register_buffer("resample_filter", setup_filter(resample_filter))

    def enter(self, x: Tensor, force_fp32: bool) -> Tensor:
        """x in this block's dtype, channels last where that is the faster layout."""
        on_cpu = x.device.type == "cpu"
        half = self.use_fp16 and not force_fp32 and not (on_cpu and self.half_dtype == torch.float16)
        x = x.to(self.half_dtype if half else torch.float32)
        return channels_last(x) if half else in_usual_layout(x)


def through(block: Block, *args: Any, random: bool = False) -> Any:
    """block(*args). What draws random numbers (random) is not computed again: it would draw others."""
    if not block.recompute or random or not torch.is_grad_enabled():
        return block(*args)
    return checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False)


class SynthesisBlock(Block):
    """One resolution of the generator: [b4: a learned constant, conv1 | conv0 up 2, conv1], and the image so far."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int, img_channels: int,
                 is_last: bool, architecture: str = "skip", resample_filter: Sequence[float] = DEFAULT_FILTER,
                 conv_clamp: float | None = None, use_fp16: bool = False, half_dtype: str = "float16",
                 **layer_kwargs: Any) -> None:
        super().__init__(use_fp16, half_dtype, architecture, resample_filter)
        self.in_channels = in_channels
        self.resolution = resolution
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = 1 if is_last or architecture == "skip" else 0
        common: dict[str, Any] = dict(w_dim=w_dim, resolution=resolution, resample_filter=resample_filter,
                                      conv_clamp=conv_clamp)
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, up=2, **common, **layer_kwargs)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **common, **layer_kwargs)
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim=w_dim, conv_clamp=conv_clamp)
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(in_channels, out_channels, 1, bias=False, up=2, resample_filter=resample_filter)

    def forward(self, x: Tensor | None, img: Tensor | None, ws: Tensor, noise_mode: str = "random",
                noise: Tensor | None = None, force_fp32: bool = False) -> tuple[Tensor, Tensor | None]:
        """ws [N, num_conv+num_torgb, w_dim]; noise [N, num_conv*resolution^2] or None."""
        noises = [None] * self.num_conv if noise is None else noise.chunk(self.num_conv, dim=1)
        if x is None:
            x = self.enter(self.const.expand(len(ws), -1, -1, -1), force_fp32)
            x = self.conv1(x, ws[:, 0], noise_mode, noises[0])
        else:
            x = self.enter(x, force_fp32)
            residual = self.skip(x, gain=SQRT_HALF) if self.architecture == "resnet" else None
            x = self.conv0(x, ws[:, 0], noise_mode, noises[0])
            x = self.conv1(x, ws[:, 1], noise_mode, noises[1], gain=1.0 if residual is None else SQRT_HALF)
            x = x if residual is None else residual + x
        return x, self._paint(x, img, ws[:, -1])

    def _paint(self, x: Tensor, img: Tensor | None, w: Tensor) -> Tensor | None:
        img = None if img is None else upsample2d(img, self.resample_filter)
        if not self.num_torgb:
            return img
        rgb = self.torgb(x, w).to(torch.float32)
        return rgb if img is None else img + rgb


class SynthesisNetwork(nn.Module):
    """ws [N,num_ws,w_dim] -> images float32 [N,img_channels,R,R]."""

    def __init__(self, w_dim: int, img_resolution: int, img_channels: int, channel_base: int = 32768,
                 channel_max: int = 512, num_fp16_res: int = 0, **block_kwargs: Any) -> None:
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = block_resolutions(img_resolution)
        half_from = half_resolutions_from(img_resolution, num_fp16_res)
        self.num_ws = 0
        self.noise_numel = 0
        in_channels = 0
        for res in self.block_resolutions:
            out_channels = min(channel_base // res, channel_max)
            is_last = res == img_resolution
            block = SynthesisBlock(in_channels, out_channels, w_dim, res, img_channels, is_last,
                                   use_fp16=res >= half_from, **block_kwargs)
            self.num_ws += block.num_conv + (block.num_torgb if is_last else 0)
            self.noise_numel += block.num_conv * res**2
            self.add_module(f"b{res}", block)
            in_channels = out_channels

    def blocks(self) -> list[SynthesisBlock]:
        return [self.get_submodule(f"b{res}") for res in self.block_resolutions]  # type: ignore[misc]

    def forward(self, ws: Tensor, noise_mode: str = "random", noise: Tensor | None = None,
                force_fp32: bool = False) -> Tensor:
        """noise_mode random, const or none; noise [N,noise_numel] are the unit normals of random, drawn if None."""
        assert noise_mode in ("random", "const", "none")
        assert ws.shape[1:] == (self.num_ws, self.w_dim), "ws is [N, num_ws, w_dim]"
        ws = ws.to(torch.float32)
        x: Tensor | None = None
        img: Tensor | None = None
        w_index = noise_index = 0
        for block in self.blocks():
            pixels = block.num_conv * block.resolution**2
            block_ws = ws.narrow(1, w_index, block.num_conv + block.num_torgb)
            block_noise = None if noise is None else noise.narrow(1, noise_index, pixels)
            x, img = through(block, x, img, block_ws, noise_mode, block_noise, force_fp32,
                             random=noise is None and noise_mode == "random")
            w_index += block.num_conv
            noise_index += pixels
        assert img is not None
        return img


class Generator(nn.Module):
    """z [N,z_dim], c [N,c_dim] -> images float32 [N,img_channels,R,R]."""

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, img_resolution: int, img_channels: int,
                 mapping_kwargs: Mapping[str, Any] | None = None,
                 synthesis_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **(synthesis_kwargs or {}))
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **(mapping_kwargs or {}))

    def forward(self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0,
                truncation_cutoff: int | None = None, noise_mode: str = "random", noise: Tensor | None = None,
                force_fp32: bool = False) -> Tensor:
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff)
        return self.synthesis(ws, noise_mode, noise, force_fp32)


class DiscriminatorBlock(Block):
    """One resolution of the discriminator: [fromrgb], conv0, conv1 down 2, [skip down 2]."""

    def __init__(self, in_channels: int, tmp_channels: int, out_channels: int, resolution: int, img_channels: int,
                 first_layer_idx: int, architecture: str = "resnet", activation: str = "lrelu",
                 resample_filter: Sequence[float] = DEFAULT_FILTER, conv_clamp: float | None = None,
                 use_fp16: bool = False, half_dtype: str = "float16", freeze_layers: int = 0) -> None:
        super().__init__(use_fp16, half_dtype, architecture, resample_filter)
        self.in_channels = in_channels
        self.resolution = resolution
        self.num_layers = 0

        def conv(n_in: int, n_out: int, kernel: int, **kwargs: Any) -> Conv2dLayer:
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(n_in, n_out, kernel, trainable=trainable, resample_filter=resample_filter, **kwargs)

        active: dict[str, Any] = dict(activation=activation, conv_clamp=conv_clamp)
        if in_channels == 0 or architecture == "skip":
            self.fromrgb = conv(img_channels, tmp_channels, 1, **active)
        self.conv0 = conv(tmp_channels, tmp_channels, 3, **active)
        self.conv1 = conv(tmp_channels, out_channels, 3, down=2, **active)
        if architecture == "resnet":
            self.skip = conv(tmp_channels, out_channels, 1, bias=False, down=2)

    def forward(self, x: Tensor | None, img: Tensor | None, force_fp32: bool = False) -> tuple[Tensor, Tensor | None]:
        x = None if x is None else self.enter(x, force_fp32)
        if x is None or self.architecture == "skip":
            assert img is not None
            img = self.enter(img, force_fp32)
            rgb = self.fromrgb(img)
            x = rgb if x is None else x + rgb
            img = downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture != "resnet":
            return self.conv1(self.conv0(x)), img
        residual = self.skip(x, gain=SQRT_HALF)
        return residual + self.conv1(self.conv0(x), gain=SQRT_HALF), img


class DiscriminatorEpilogue(nn.Module):
    """x [N,C,4,4] -> logits [N,1], or features [N,cmap_dim] projected on cmap (arXiv 1802.05637) when conditional."""

    def __init__(self, in_channels: int, cmap_dim: int, resolution: int, img_channels: int,
                 architecture: str = "resnet", mbstd_group_size: int | None = 4, mbstd_num_channels: int = 1,
                 activation: str = "lrelu", conv_clamp: float | None = None) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        self.architecture = architecture
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation=activation)
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels else None
        self.conv = Conv2dLayer(in_channels + mbstd_num_channels, in_channels, 3, activation=activation,
                                conv_clamp=conv_clamp)
        self.fc = Dense(in_channels * resolution**2, in_channels, activation=activation)
        self.out = Dense(in_channels, cmap_dim or 1)

    def forward(self, x: Tensor, img: Tensor | None, cmap: Tensor | None) -> Tensor:
        x = in_usual_layout(x.to(torch.float32))
        if self.architecture == "skip":
            assert img is not None
            x = x + self.fromrgb(in_usual_layout(img.to(torch.float32)))
        x = x if self.mbstd is None else in_usual_layout(self.mbstd(x))
        x = self.out(self.fc(self.conv(x).flatten(1)))
        return x if cmap is None else (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    """Images [N,img_channels,R,R] and labels c [N,c_dim] -> logits [N,1]: higher is more real."""

    def __init__(self, c_dim: int, img_resolution: int, img_channels: int, architecture: str = "resnet",
                 channel_base: int = 32768, channel_max: int = 512, num_fp16_res: int = 0,
                 conv_clamp: float | None = None, cmap_dim: int | None = None,
                 block_kwargs: Mapping[str, Any] | None = None, mapping_kwargs: Mapping[str, Any] | None = None,
                 epilogue_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = block_resolutions(img_resolution)[:0:-1]
        half_from = half_resolutions_from(img_resolution, num_fp16_res)

        def channels(res: int) -> int:
            return min(channel_base // res, channel_max)

        common: dict[str, Any] = dict(img_channels=img_channels, architecture=architecture, conv_clamp=conv_clamp)
        first_layer_idx = 0
        for res in self.block_resolutions:
            in_channels = channels(res) if res < img_resolution else 0
            block = DiscriminatorBlock(in_channels, channels(res), channels(res // 2), res,
                                       first_layer_idx=first_layer_idx, use_fp16=res >= half_from,
                                       **common, **(block_kwargs or {}))
            first_layer_idx += block.num_layers
            self.add_module(f"b{res}", block)
        cmap_dim = (channels(4) if cmap_dim is None else cmap_dim) if c_dim else 0
        self.mapping = MappingNetwork(0, c_dim, cmap_dim, None, **(mapping_kwargs or {})) if c_dim else None
        self.b4 = DiscriminatorEpilogue(channels(4), cmap_dim, 4, **common,
                                        **(epilogue_kwargs or {}))

    def blocks(self) -> list[DiscriminatorBlock]:
        return [self.get_submodule(f"b{res}") for res in self.block_resolutions]  # type: ignore[misc]

    def forward(self, img: Tensor, c: Tensor | None = None, force_fp32: bool = False) -> Tensor:
        x: Tensor | None = None
        picture: Tensor | None = img
        for block in self.blocks():
            x, picture = through(block, x, picture, force_fp32)
        cmap = None if self.mapping is None else self.mapping(None, c)
        assert x is not None
        return self.b4(x, picture, cmap)
