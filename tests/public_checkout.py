"""A stand-in for a checkout of the public code: its packages and interface, with a few lines of torch in each."""

FILES = {
    "dnnlib/__init__.py": "from dnnlib import util\n",
    "dnnlib/util.py": """
import importlib

def construct_class_by_name(*args, class_name, **kwargs):
    module, _, name = class_name.rpartition('.')
    return getattr(importlib.import_module(module), name)(*args, **kwargs)
""",
    "torch_utils/__init__.py": "",
    "torch_utils/of_the_checkout.py": "HERE = True\n",
    "training/__init__.py": "",
    "training/networks.py": """
import torch
from torch_utils.of_the_checkout import HERE

class SynthesisBlock(torch.nn.Module):
    def __init__(self, resolution, fp16_channels_last=False):
        super().__init__()

class Mapping(torch.nn.Module):
    def __init__(self, z_dim, num_layers):
        super().__init__()
        self.layers = torch.nn.Sequential(*[torch.nn.Linear(z_dim, z_dim) for _ in range(num_layers)])

    def forward(self, z, c):
        return self.layers(z)

class Synthesis(torch.nn.Module):
    def __init__(self, w_dim, img_resolution, img_channels, channel_base, channel_max, num_fp16_res, conv_clamp,
                 fp16_channels_last=False):
        super().__init__()
        print('channels last:', fp16_channels_last)
        self.shape = [img_channels, img_resolution, img_resolution]
        self.paint = torch.nn.Linear(w_dim, img_channels * img_resolution**2)

    def forward(self, ws, noise_mode='random'):
        return self.paint(ws).reshape(-1, *self.shape)

class Generator(torch.nn.Module):
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs, synthesis_kwargs):
        super().__init__()
        self.mapping = Mapping(z_dim, **mapping_kwargs)
        self.synthesis = Synthesis(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.register_buffer('w_avg', torch.zeros([w_dim]))

    def forward(self, z, c, truncation_psi=1, noise_mode='random'):
        return self.synthesis(self.mapping(z, c), noise_mode=noise_mode)

class Discriminator(torch.nn.Module):
    def __init__(self, c_dim, img_resolution, img_channels, channel_base, channel_max, num_fp16_res, conv_clamp,
                 epilogue_kwargs, block_kwargs={}):
        super().__init__()
        assert epilogue_kwargs['mbstd_group_size'] >= 1
        self.score = torch.nn.Linear(img_channels * img_resolution**2, 1)

    def forward(self, img, c):
        return self.score(img.flatten(1))
""",
    "training/augment.py": """
import torch

class AugmentPipe(torch.nn.Module):
    def __init__(self, xflip=0, rotate90=0, xint=0, scale=0, rotate=0, aniso=0, xfrac=0, brightness=0, contrast=0,
                 lumaflip=0, hue=0, saturation=0):
        super().__init__()
        self.register_buffer('p', torch.ones([]))

    def forward(self, images):
        return images * (1 - self.p)
""",
    "training/loss.py": """
class StyleGAN2Loss:
    def __init__(self, device, G_mapping, G_synthesis, D, augment_pipe, r1_gamma, style_mixing_prob, pl_weight):
        assert float(augment_pipe.p) != 1
        self.G_mapping, self.G_synthesis, self.D, self.augment_pipe = G_mapping, G_synthesis, D, augment_pipe

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync, gain):
        assert phase in ('Gmain', 'Greg', 'Dmain', 'Dreg') and sync and len(real_img) == len(gen_z)
        assert real_img.min() >= -1 and real_img.max() <= 1
        images = self.G_synthesis(self.G_mapping(gen_z, gen_c)) if phase[0] == 'G' else real_img
        (self.D(self.augment_pipe(images), gen_c).mean() * gain).backward()
""",
}


def write_checkout(folder):
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
