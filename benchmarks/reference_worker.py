"""Worker that trains and samples with a checkout of the public stylegan2-ada-pytorch, through its public interface.

The checkout's packages have names that ours have, too, so that nothing here may import those; the checkout comes first
on the path.
"""

import contextlib
import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.serving import Workload, serve, use

LAYOUT_OPTIONS = ("fp16_channels_last", "channels_last")  # names that a block's option for channels last may have


class PublicSteps:
    """The parts of a training step: networks, augmentation and losses of the checkout in a loop like its own."""

    def __init__(self, settings: dict[str, Any], device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.batch, self.batch_gpu = settings["batch"], settings["batch_gpu"]
        self.G = built("training.networks.Generator", settings["G"], settings["channels_last"]).to(device)
        self.D = built("training.networks.Discriminator", settings["D"], settings["channels_last"]).to(device)
        for net in (self.G, self.D):
            net.train().requires_grad_(False)
        self.G_ema = copy.deepcopy(self.G).eval()
        pipe = construct("training.augment.AugmentPipe", **settings["augment"]).to(device)
        pipe.train().requires_grad_(False)
        pipe.p.copy_(torch.as_tensor(settings["p"]))
        self.loss = construct("training.loss.StyleGAN2Loss", device=device, G_mapping=self.G.mapping,
                              G_synthesis=self.G.synthesis, D=self.D, augment_pipe=pipe, **settings["loss"])
        # Learning rates are 0, as in the other variants, so that every turn computes with the first weights.
        self.optimizers = {name: torch.optim.Adam(net.parameters(), **(settings["adam"][name] | {"lr": 0.0}))
                           for name, net in (("G", self.G), ("D", self.D))}
        image = settings["G"]
        shape = [self.batch, image["img_channels"], image["img_resolution"], image["img_resolution"]]
        loaded = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        self.loaded = loaded.pin_memory() if device.type == "cuda" else loaded
        self.c = torch.zeros([self.batch, image["c_dim"]], device=device)
        self.bring_images()

    def bring_images(self) -> None:
        self.real = (self.loaded.to(self.device).to(torch.float32) / 127.5 - 1).split(self.batch_gpu)

    def run(self, phase: str, interval: int) -> None:
        """The gradient of a phase over the batch, in micro-batches, and one step of its optimizer."""
        net, optimizer = (self.G, self.optimizers["G"]) if phase[0] == "G" else (self.D, self.optimizers["D"])
        z = torch.randn([self.batch, self.settings["G"]["z_dim"]], device=self.device).split(self.batch_gpu)
        optimizer.zero_grad(set_to_none=True)
        net.requires_grad_(True)
        for real, c, gen_z in zip(self.real, self.c.split(self.batch_gpu), z, strict=True):
            self.loss.accumulate_gradients(phase=phase, real_img=real, real_c=c, gen_z=gen_z, gen_c=c, sync=True,
                                           gain=interval)
        net.requires_grad_(False)
        for parameter in net.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()

    @torch.no_grad()
    def average(self) -> None:
        beta = 0.5 ** (self.batch / (self.settings["ema_kimg"] * 1000))
        for kept, new in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
            kept.copy_(new.lerp(kept, beta))
        for still, now in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            still.copy_(now)

    def cycle(self, length: int) -> None:
        for step in range(length):
            self.bring_images()
            for phase, interval in self.settings["intervals"].items():
                if step % interval == 0:
                    self.run(phase, interval)
            self.average()


def construct(class_name: str, **kwargs: Any) -> Any:
    return importlib.import_module("dnnlib").util.construct_class_by_name(class_name=class_name, **kwargs)


def built(class_name: str, kwargs: dict[str, Any], channels_last: bool) -> nn.Module:
    """A network; with channels last, by the option that the blocks of this checkout have for it."""
    if channels_last:
        block = importlib.import_module("training.networks").SynthesisBlock
        known = inspect.signature(block.__init__).parameters
        name = next((name for name in LAYOUT_OPTIONS if name in known), None)
        if name is None:
            raise ValueError("the checkout's SynthesisBlock has no option for channels last")
        group = "synthesis_kwargs" if "synthesis_kwargs" in kwargs else "block_kwargs"
        kwargs = kwargs | {group: kwargs.get(group, {}) | {name: True}}
    return construct(class_name, **kwargs)


def prepare(settings: dict[str, Any], device: torch.device) -> None:
    sys.path.insert(0, settings["reference"])
    use(device)
    torch.manual_seed(settings["seed"])
    torch.backends.cudnn.benchmark = settings["benchmark"]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings["allow_tf32"]


@contextlib.contextmanager
def public(settings: dict[str, Any]) -> Iterator[Workload]:
    """settings: those of public_code.public_settings; device; reference; cycle, or batches where it is to sample."""
    device = torch.device(settings["device"])
    prepare(settings, device)
    yield sampling(settings, device) if "batches" in settings else training(settings, device)


def training(settings: dict[str, Any], device: torch.device) -> Workload:
    steps, intervals = PublicSteps(settings, device), settings["intervals"]
    phases = {name: partial(steps.run, name, k) for name, k in intervals.items()}
    tasks: dict[str, Callable[[], object]] = {"images": steps.bring_images, **phases, "EMA": steps.average}
    weights = {"images": 1.0, **{name: 1 / k for name, k in intervals.items()}, "EMA": 1.0}
    if settings["cycle"]:
        length = max(intervals.values())
        tasks, weights = {"cycle": partial(steps.cycle, length)}, {"cycle": 1 / length}
    about = {"weights": weights, "kernels": "its own", "batch": steps.batch, "batch_gpu": steps.batch_gpu}
    return Workload(device, tasks, about)


def sampling(settings: dict[str, Any], device: torch.device) -> Workload:
    G = built("training.networks.Generator", settings["G"], settings["channels_last"]).to(device)
    G.eval().requires_grad_(False)

    @torch.no_grad()
    def images(n: int) -> Tensor:
        z = torch.randn([n, settings["G"]["z_dim"]], device=device)
        y = G(z, torch.zeros([n, settings["G"]["c_dim"]], device=device), truncation_psi=1, noise_mode="const")
        return (y * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu()

    tasks: dict[str, Callable[[], object]] = {f"batch {n}": partial(images, n) for n in settings["batches"]}
    return Workload(device, tasks, {"kernels": "its own"})


if __name__ == "__main__":
    serve(public)
