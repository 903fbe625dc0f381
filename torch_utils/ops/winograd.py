"""3x3 convolutions with fewer products, on a CPU: Winograd's F(2x2, 3x3) (Lavin and Gray 2015, arXiv 1509.09308).

The native kernels take 16 products (25 with stride 2) where 36 are written down, in float32 and with its rounding. The
references are torch's own convolutions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_utils.ops import native
from torch_utils.ops.layout import suggested_format
from torch_utils.ops.native import pattern

BEFORE = {1: 1, 2: 0}  # stride -> padding
LEAST_CHANNELS = 16  # fewer are faster written down


def fits(x: Tensor, out: int, stride: int, padding: Sequence[int], kernel: Sequence[int], groups: int) -> bool:
    """Whether a convolution of x into `out` channels is one of these, and faster so."""
    return (x.device.type == "cpu" and x.dtype == torch.float32 and groups == 1 and list(kernel) == [3, 3]
            and list(padding) == [BEFORE.get(stride)] * 2 and min(out, x.shape[1]) >= LEAST_CHANNELS
            and suggested_format(x) == torch.channels_last)


def _examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    if dtype != torch.float32:
        return []
    shown = [((2, 16, 7, 6), 48), ((1, 33, 9, 5), 64), ((1, 64, 3, 4), 17)]
    made = []
    for shape, out in shown:
        x = pattern(*shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = pattern(out, shape[1], 3, 3, device=device, dtype=dtype)
        back = w.transpose(0, 1).contiguous(memory_format=torch.channels_last)
        made += [(x, w, 1, False), (x, back, 1, True), (x, w, 2, False), (x, back, 2, True)]
    return made


def _grad_examples(device: torch.device, dtype: torch.dtype) -> list[tuple]:
    return [(torch.conv2d(x, w, stride=stride, padding=BEFORE[stride]), x, stride)
            for x, w, stride, transpose in _examples(device, dtype) if not transpose]


@native.operator("winograd", _examples, devices=("cpu",))
def convolve(x: Tensor, w: Tensor, stride: int, transpose: bool) -> Tensor:
    """x [N,I,H,W], w [O,I,3,3] -> [N,O,H',W'] channels-last; transpose: the transpose of that, w being [I,O,3,3]."""
    plain = torch.conv_transpose2d if transpose else torch.conv2d
    return plain(x, w, stride=stride, padding=BEFORE[stride]).contiguous(memory_format=torch.channels_last)


@native.operator("winograd_weight_grad", _grad_examples, devices=("cpu",))
def weight_grad(dy: Tensor, x: Tensor, stride: int) -> Tensor:
    """dy [N,O,H',W'], x [N,I,H,W] -> the gradient [O,I,3,3] of the weights."""
    like = x.new_empty([dy.shape[1], x.shape[1], 3, 3])
    _, dw, _ = torch.ops.aten.convolution_backward(dy, x, like, None, [stride] * 2, [BEFORE[stride]] * 2, [1, 1], False,
                                                   [0, 0], 1, [False, True, False])
    return dw.contiguous()


@convolve.register_fake
def _(x: Tensor, w: Tensor, stride: int, transpose: bool) -> Tensor:
    size = [n if stride == 1 else stride * n + 1 if transpose else (n - 3) // stride + 1 for n in x.shape[2:]]
    y = x.new_empty([x.shape[0], w.shape[1] if transpose else w.shape[0], *size])
    return y.contiguous(memory_format=torch.channels_last)


@weight_grad.register_fake
def _(dy: Tensor, x: Tensor, stride: int) -> Tensor:
    return x.new_empty([dy.shape[1], x.shape[1], 3, 3])
