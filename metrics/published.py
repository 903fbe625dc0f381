"""The weights that metrics take, as their authors publish them. Light: help texts ask for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Same:
    """The same weights in another file."""

    filename: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class Published:
    """One set of weights as its authors publish it.

    Only `url` is ever downloaded; `also` names files of the same weights that are taken where they lie already. marks:
    names of tensors that are in no other set, for each layout of the file.
    """

    name: str
    title: str
    url: str
    filename: str
    nbytes: int
    sha256: str
    licence: str
    marks: tuple[frozenset[str], ...]
    also: tuple[Same, ...] = ()

    @property
    def files(self) -> tuple[Same, ...]:
        return (Same(self.filename, self.nbytes, self.sha256), *self.also)


# Sizes and hashes are those that many independent projects pin; of "lpips" also those of the PyPI package lpips 0.1.4.
_INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_HEADS = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"

WEIGHTS = {published.name: published for published in (
    Published(
        name="inception",
        title="Inception 2015 (FID, KID, Inception score)",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
        filename="pt_inception-2015-12-05-6726825d.pth",
        nbytes=95_628_359,
        sha256=_INCEPTION,
        licence="Apache-2.0",
        marks=(frozenset({"Mixed_7c.branch_pool.conv.weight", "fc.weight"}),
               frozenset({"layers.conv.weight", "output.weight"})),
        also=(Same("weights-inception-2015-12-05-6726825d.pth", 95_628_359, _INCEPTION),  # torch-fidelity's name of it
              Same("inception-2015-12-05.pt", 95_607_719,                                 # TorchScript
                   "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"))),
    Published(
        name="vgg16",
        title="VGG16 of torchvision (precision and recall, path length)",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        filename="vgg16-397923af.pth",
        nbytes=553_433_881,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        licence="BSD-3-Clause (torchvision)",
        marks=(frozenset({"features.28.weight", "classifier.3.weight"}),)),
    Published(
        name="lpips",
        title="LPIPS 0.1, heads on VGG16 (path length)",
        url="https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
            "082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/vgg.pth",
        filename="lpips-v0.1-vgg.pth",
        nbytes=7289,
        sha256=_HEADS,
        licence="BSD-2-Clause",
        marks=(frozenset({"lin0.model.1.weight", "lin4.model.1.weight"}),),
        also=(Same("vgg.pth", 7289, _HEADS),)),  # as its package calls it
    Published(
        name="dinov2",
        title="DINOv2 ViT-L/14 (FD-DINOv2)",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        filename="dinov2_vitl14_pretrain.pth",
        nbytes=1_217_586_395,
        sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        licence="Apache-2.0",
        marks=(frozenset({"mask_token", "blocks.0.ls1.gamma"}),)),
)}
