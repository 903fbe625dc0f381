"""The layers of StyleGAN2 (arXiv 1912.04958) with equalised learning rate (arXiv 1710.10196, section 4.1).

Parameters are unit normals scaled at run time, so that Adam moves every layer at one relative speed.
Names of parameters and buffers are those of the ecosystem's snapshots.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_utils.ops.bias_act import ACTIVATIONS, bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.independent import apart
from torch_utils.ops.modulated_conv import modulated_conv2d
from torch_utils.ops.upfirdn2d import setup_filter

SQRT_HALF = math.sqrt(0.5)
DEFAULT_FILTER = (1, 3, 3, 1)
HOMOGENEOUS = ("linear", "relu", "lrelu")  # scaling after them, in their gain, spares a pass over all weights before


def normalize_2nd_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """x [N,C] scaled to unit mean square over C."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


def scaled_clamp(clamp: float | None, gain: float) -> float | None:
    return None if clamp is None else clamp * gain


class Dense(nn.Module):
    """Fully connected layer, x [N,in] -> [N,out]; weight and bias are stored divided by lr_multiplier."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, activation: str = "linear",
                 lr_multiplier: float = 1.0, bias_init: float = 0.0) -> None:
        super().__init__()
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.weight_gain  # not the weights, which are more
        b = None if self.bias is None else self.bias * self.bias_gain
        if self.activation == "linear":
            return apart(lambda x: nn.functional.linear(x, self.weight, b), x)
        return bias_act(apart(lambda x: x @ self.weight.t(), x), b, act=self.activation)


class Conv2dLayer(nn.Module):
    """Convolution with optional 2x resampling, bias and activation, x [N,in,H,W] -> [N,out,H*up/down,W*up/down].

    A layer that is not trainable (Freeze-D, arXiv 2002.10964) holds its weights as buffers.
    """

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True,
                 activation: str = "linear", up: int = 1, down: int = 1,
                 resample_filter: Sequence[float] = DEFAULT_FILTER, conv_clamp: float | None = None,
                 trainable: bool = True) -> None:
        super().__init__()
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        self.weight = self._hold("weight", weight, trainable)
        self.bias = self._hold("bias", torch.zeros([out_channels]), trainable) if bias else None

    def _hold(self, name: str, value: Tensor, trainable: bool) -> Tensor:
        if trainable:
            return nn.Parameter(value)
        self.register_buffer(name, value)
        return value

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        w, b, scale = self.weight, self.bias, self.weight_gain
        if x.dtype == torch.float32 and self.activation in HOMOGENEOUS:  # act(scale t) = scale act(t)
            b, gain_after = None if b is None else b / scale, gain * scale
        else:
            w, gain_after = w * scale, gain
        x = conv2d_resample(x, w.to(x.dtype), self.resample_filter, up=self.up, down=self.down, padding=self.padding,
                            flip_weight=self.up == 1)
        return bias_act(x, None if b is None else b.to(x.dtype), act=self.activation,
                        gain=ACTIVATIONS[self.activation].gain * gain_after, clamp=scaled_clamp(self.conv_clamp, gain))


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation (StyleGAN2, figure 2d)."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, resolution: int, kernel_size: int = 3,
                 up: int = 1, use_noise: bool = True, activation: str = "lrelu",
                 resample_filter: Sequence[float] = DEFAULT_FILTER, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        self.affine = Dense(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        if use_noise:
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x: Tensor, w: Tensor, noise_mode: str = "random", noise: Tensor | None = None,
                gain: float = 1.0) -> Tensor:
        """x [N,in,H,W], w [N,w_dim], noise [N,resolution^2] or None for a fresh draw."""
        noise = self._noise(len(x), noise_mode, noise, x)
        return modulated_conv2d(x, self.weight, self.affine(w), noise, up=self.up, padding=self.padding,
                                resample_filter=self.resample_filter, flip_weight=self.up == 1,
                                strength=None if noise is None else self.noise_strength, b=self.bias,
                                act=self.activation, gain=ACTIVATIONS[self.activation].gain * gain,
                                clamp=scaled_clamp(self.conv_clamp, gain))

    def _noise(self, n: int, mode: str, noise: Tensor | None, like: Tensor) -> Tensor | None:
        if not self.use_noise or mode == "none":
            return None
        if mode == "const":
            return self.noise_const
        shape = [n, 1, self.resolution, self.resolution]
        return torch.randn(shape, device=like.device) if noise is None else noise.reshape(shape)


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution to image channels, without demodulation."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, kernel_size: int = 1,
                 conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.affine = Dense(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return modulated_conv2d(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False, b=self.bias,
                                clamp=self.conv_clamp)


class MinibatchStdLayer(nn.Module):
    """Appends the mean standard deviation over groups of samples as channels (arXiv 1710.10196, section 3).

    Group g of G samples holds {i : i mod (N/G) = g}. G is group_size (None: the batch), or, where that does not
    divide N, the largest smaller number that does.
    """

    def __init__(self, group_size: int | None, num_channels: int = 1) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        size = next(g for g in range(min(self.group_size or n, n), 0, -1) if n % g == 0)
        y = x.reshape(size, -1, self.num_channels, c // self.num_channels, h, w)  # [GnFchw]
        y = (y - y.mean(dim=0)).square().mean(dim=0)
        y = (y + 1e-8).sqrt().mean(dim=[2, 3, 4])  # [nF]
        return torch.cat([x, y.repeat(size, 1)[:, :, None, None].expand(-1, -1, h, w)], dim=1)


class MappingNetwork(nn.Module):
    """z [N,z_dim] and label c [N,c_dim] -> ws [N,num_ws,w_dim] (or [N,w_dim] when num_ws is None).

    Tracks the mean w for truncation (StyleGAN, arXiv 1812.04948, appendix B). The mean moves only by update_w_avg,
    which the training loop calls once a phase with the mean of the whole batch.
    """

    w_avg: Tensor

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_ws: int | None, num_layers: int = 8,
                 embed_features: int | None = None, layer_features: int | None = None, activation: str = "lrelu",
                 lr_multiplier: float = 0.01, w_avg_beta: float = 0.995) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        embed = (embed_features or w_dim) if c_dim else 0
        widths = [z_dim + embed, *[layer_features or w_dim] * (num_layers - 1), w_dim]
        if c_dim:
            self.embed = Dense(c_dim, embed)
        for i in range(num_layers):
            layer = Dense(widths[i], widths[i + 1], activation=activation, lr_multiplier=lr_multiplier)
            self.add_module(f"fc{i}", layer)
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(self, z: Tensor | None, c: Tensor | None, truncation_psi: float = 1.0,
                truncation_cutoff: int | None = None) -> Tensor:
        inputs = []
        if self.z_dim:
            assert z is not None and z.shape[1] == self.z_dim, "z is [N, z_dim]"
            inputs.append(normalize_2nd_moment(z.to(torch.float32)))
        if self.c_dim:
            assert c is not None and c.shape[1] == self.c_dim, "c is [N, c_dim]"
            inputs.append(normalize_2nd_moment(self.embed(c.to(torch.float32))))
        x = torch.cat(inputs, dim=1)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        if self.num_ws is None:
            return x
        return self._truncate(x.unsqueeze(1).repeat([1, self.num_ws, 1]), truncation_psi, truncation_cutoff)

    def _truncate(self, ws: Tensor, psi: float, cutoff: int | None) -> Tensor:
        if psi == 1:
            return ws
        cutoff = ws.shape[1] if cutoff is None else cutoff
        return torch.cat([self.w_avg.lerp(ws[:, :cutoff], psi), ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def update_w_avg(self, w_mean: Tensor) -> None:
        """w_mean [w_dim]: the mean w of a batch."""
        self.w_avg.copy_(w_mean.lerp(self.w_avg, self.w_avg_beta))
