"""VGG16 (Simonyan & Zisserman 2014, arXiv 1409.1556), as precision, recall and the LPIPS distance use it."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.detectors.base import Detector, as_rgb
from metrics.detectors.loading import filled
from metrics.detectors.tf1_resize import tf1_resize
from metrics.weights import WeightsFile, read_state

WIDTHS = (64, 128, 256, 512, 512)
HIDDEN = 4096
SIZE = 224  # pixels that the fully connected layers are made for: five poolings leave 7x7 of them
# The convolutions of each stage, by their place in the file, which counts activations and poolings as well.
PLACES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
UNUSED = ("classifier.6.weight", "classifier.6.bias")  # from features to the classes of ImageNet
AT_ONCE = {"cpu": 8, "cuda": 64}  # images; each takes 26 MB
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, images in [0, 1]


def normalized(images: Tensor) -> Tensor:
    """Images [N,3,H,W] in [0, 255] as networks of ImageNet take them."""
    mean, std = (images.new_tensor(values)[:, None, None] * 255 for values in (MEAN, STD))
    return (images - mean) / std


class Convolutions(nn.Module):
    """The thirteen convolutions, in five stages with a pooling between them."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.features = nn.ModuleDict()
        channels = 3
        for width, places in zip(widths, PLACES, strict=True):
            for place in places:
                self.features[str(place)] = nn.Conv2d(channels, width, 3, padding=1)
                channels = width

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """What each stage ends in, after its activation, of normalised images [N,3,H,W]: [N,C,H,W] to [N,C,H/16,W/16].

        H and W are 16 at least. A stage is computed when it is asked for, so that not all of them are in memory.
        """
        for i, places in enumerate(PLACES):
            x = F.max_pool2d(x, 2) if i else x
            for place in places:
                x = F.relu(self.features[str(place)](x), inplace=True)
            yield x


class VGG16(Convolutions):
    """Normalised images [N,3,224,224] -> the second fully connected layer [N,hidden] after its activation."""

    def __init__(self, widths: Sequence[int] = WIDTHS, hidden: int = HIDDEN) -> None:
        super().__init__(widths)
        self.classifier = nn.ModuleDict({"0": nn.Linear(widths[-1] * (SIZE // 32) ** 2, hidden),
                                         "3": nn.Linear(hidden, hidden)})

    def forward(self, x: Tensor) -> Tensor:
        for end in self.stages(x):
            last = end
        x = F.max_pool2d(last, 2).flatten(1)
        return F.relu(self.classifier["3"](F.relu(self.classifier["0"](x))))


def widths_of(state: Mapping[str, Tensor]) -> list[int]:
    """Of the stages of the network that a state is of."""
    return [len(state[f"features.{places[0]}.weight"]) for places in PLACES]


def suit(module: nn.Module, device: torch.device) -> None:
    """In the memory layout that the device is fastest with: a CPU by 1.4 times (measured)."""
    if device.type == "cpu":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def open_vgg16(file: WeightsFile, device: torch.device) -> Detector:
    """Rows [N,4096] for precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991).

    The file is torchvision's. Images are brought to 224x224 as TensorFlow 1 did, which that paper was computed with:
    bilinear, the corner at the corner, without a low-pass. torch-fidelity does the same.
    """
    state = {name: tensor for name, tensor in read_state(file).items() if name not in UNUSED}
    module = filled(lambda: VGG16(widths_of(state), len(state["classifier.0.bias"])), state, file.path, device)
    suit(module, device)
    about = {"resize": f"bilinear of TensorFlow 1 to {SIZE}x{SIZE}", "range": "ImageNet mean and deviation",
             "layer": "fc2 after ReLU"}

    @torch.no_grad()
    def rows(images: Tensor) -> Tensor:
        return torch.cat([module(normalized(tf1_resize(as_rgb(part), SIZE)))
                          for part in images.split(AT_ONCE.get(device.type, 16))])

    return Detector("vgg16", f"sha256:{file.sha256}", rows, about, module)
