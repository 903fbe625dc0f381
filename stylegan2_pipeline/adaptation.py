"""Weights of one network made to fit another of other channels or labels, computing the same wherever that can be.

Stored weights act times a gain that depends on the layer's inputs (equalised learning rate), so that what acts, not
what is stored, is kept. Each function changes a Draft and says what it did in words.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stylegan2_pipeline.layers import Dense, normalize_2nd_moment
from stylegan2_pipeline.networks import Discriminator, Generator
from torch_utils.ops.bias_act import ACTIVATIONS

KINDS = {1: "gray", 3: "RGB", 4: "RGBA"}
OPAQUE = 1.0  # alpha, in the range of images
Names = Sequence[str] | None


@dataclass
class Draft:
    """Tensors of the source by name, on the way to the new network; changed: names that are not as they were."""

    state: dict[str, Tensor]
    changed: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: Tensor) -> None:
        self.state[name] = value
        self.changed.add(name)

    def drop(self, prefix: str) -> None:
        self.state = {name: value for name, value in self.state.items() if not name.startswith(prefix)}


@torch.no_grad()
def adapt(source: Generator | Discriminator, net: Generator | Discriminator, source_classes: Names = None,
          classes: Names = None) -> Draft:
    """The source's tensors, changed for net's image channels, labels and mapping depth; both are of one class."""
    draft = Draft(dict(source.state_dict()))
    adapt_channels(draft, source.img_channels, net.img_channels, min(source.img_resolution, net.img_resolution))
    if isinstance(source, Generator) and isinstance(net, Generator):
        if source.mapping.num_layers != net.mapping.num_layers:
            leave_mapping(draft, source.mapping.num_layers, net.mapping.num_layers)
            return draft
        alike = (source.z_dim, source.w_dim) == (net.z_dim, net.w_dim)
        if alike and net.c_dim and not source.c_dim:
            add_labels_to_generator(draft, source, net)
        elif alike and source.c_dim and not net.c_dim:
            drop_labels_of_generator(draft, source, net)
    elif isinstance(source, Discriminator) and isinstance(net, Discriminator):
        if net.c_dim and not source.c_dim:
            add_labels_to_discriminator(draft, net)
        elif source.c_dim and not net.c_dim:
            drop_labels_of_discriminator(draft, source)
    if source.c_dim and net.c_dim:
        adapt_classes(draft, net.c_dim, source_classes, classes)
    return draft


# Image channels.

def adapt_channels(draft: Draft, old: int, new: int, last_resolution: int) -> None:
    """D sees a gray image as the RGB copy of it, and an RGB image as the opaque RGBA copy; G paints accordingly.

    Only the torgb layer of the last resolution makes a new alpha opaque, because skip connections add up.
    """
    if old == new:
        return
    for layer in sorted({name.rpartition(".")[0] for name in draft.state}):
        weight, bias = draft.state.get(f"{layer}.weight"), draft.state.get(f"{layer}.bias")
        if weight is None or bias is None or not layer.endswith((".fromrgb", ".torgb")):
            continue
        if layer.endswith(".fromrgb"):
            weight, bias = adapt_fromrgb(weight / math.sqrt(old), bias, new)
            weight = weight * math.sqrt(new)
        else:
            weight, bias = adapt_torgb(weight, bias, new, OPAQUE if f"b{last_resolution}." in layer else 0.0)
        draft.put(f"{layer}.weight", weight)
        draft.put(f"{layer}.bias", bias)
    words = []
    if min(old, 3) > new:
        words.append("G paints the mean of red, green and blue, D sees an image as its RGB copy")
    elif old < min(new, 3):
        words.append("G paints gray at first, D sees the mean of red, green and blue")
    if old == 4:
        words.append("alpha is left out, D takes every image as opaque")
    elif new == 4:
        words.append("alpha begins opaque in G and unseen by D")
    draft.notes.append(f"the source is of {KINDS[old]} images, these are {KINDS[new]}: {'; '.join(words)}")


def adapt_fromrgb(weight: Tensor, bias: Tensor, new: int) -> tuple[Tensor, Tensor]:
    """weight [O,C,1,1], as it acts, and bias [O] for images of `new` channels."""
    if weight.shape[1] == 4:
        bias = bias + OPAQUE * weight[:, 3, 0, 0]
        weight = weight[:, :3]
    if weight.shape[1] == 1 and new >= 3:
        weight = weight.expand(-1, 3, -1, -1) / 3
    elif weight.shape[1] == 3 and new == 1:
        weight = weight.sum(1, keepdim=True)
    return (torch.cat([weight, torch.zeros_like(weight[:, :1])], 1) if new == 4 else weight), bias


def adapt_torgb(weight: Tensor, bias: Tensor, new: int, alpha: float) -> tuple[Tensor, Tensor]:
    """weight [C,I,1,1] and bias [C] for images of `new` channels; alpha: the bias of a new fourth one."""
    def colors(rows: Tensor) -> Tensor:
        rows = rows[:3]
        if len(rows) == 1 and new >= 3:
            return rows.repeat(3, *[1] * (rows.ndim - 1))
        return rows.mean(0, keepdim=True) if len(rows) == 3 and new == 1 else rows

    weight, bias = colors(weight), colors(bias)
    if new == 4:
        weight = torch.cat([weight, torch.zeros_like(weight[:1])])
        bias = torch.cat([bias, torch.full_like(bias[:1], alpha)])
    return weight, bias


# Labels.

def leave_mapping(draft: Draft, old: int, new: int) -> None:
    """A mapping network of another depth is another function: some of its layers would be worth nothing."""
    draft.drop("mapping.")
    draft.notes.append(f"the source's mapping network has {old} layers, this one {new}: it starts new; "
                       f"--map-depth={old} would keep it")


def dense(net: nn.Module, name: str) -> Dense:
    layer = net.get_submodule(name)
    assert isinstance(layer, Dense)
    return layer


def add_labels_to_generator(draft: Draft, source: Generator, net: Generator) -> None:
    """The first layer of the mapping gets inputs for the embedded label, with weights of zero."""
    first, target = dense(source, "mapping.fc0"), dense(net, "mapping.fc0")
    weight = first.weight * (first.weight_gain / target.weight_gain)  # [w_dim, z_dim]
    extra = weight.new_zeros(len(weight), target.weight.shape[1] - weight.shape[1])
    draft.put("mapping.fc0.weight", torch.cat([weight, extra], 1))
    for name in ("mapping.embed.weight", "mapping.embed.bias"):
        draft.put(name, net.state_dict()[name])
    draft.notes.append(f"the source knows no labels, here there are {net.c_dim}: they begin without influence on G")


def drop_labels_of_generator(draft: Draft, source: Generator, net: Generator) -> None:
    """The label's inputs are replaced by what the mean of the embedded labels adds to the first layer."""
    first, target = dense(source, "mapping.fc0"), dense(net, "mapping.fc0")
    embedded = dense(source, "mapping.embed")(torch.eye(source.c_dim, device=first.weight.device))
    mean = normalize_2nd_moment(embedded).mean(0)
    weight = first.weight * first.weight_gain  # [w_dim, z_dim + embed], as it acts
    bias = draft.state["mapping.fc0.bias"] * first.bias_gain + weight[:, source.z_dim:] @ mean
    draft.put("mapping.fc0.weight", weight[:, :source.z_dim] / target.weight_gain)
    draft.put("mapping.fc0.bias", bias / target.bias_gain)
    draft.drop("mapping.embed.")
    draft.notes.append(f"the source has {source.c_dim} labels, here there are none: G begins at their mean embedding")


def add_labels_to_discriminator(draft: Draft, net: Discriminator) -> None:
    """The logit begins as it was, whatever the label: every label maps to ones, on which features are projected.

    Row k of `out` becomes r_k + out/sqrt(n), with r of random rows whose mean is zero, so that the logit, the sum of
    all rows over sqrt(n), is that of `out`. The random part is what labels can come to weigh.
    """
    assert net.mapping is not None
    device = draft.state["b4.out.weight"].device
    new = {name: value.to(device) for name, value in net.state_dict().items()}
    last = f"mapping.fc{net.mapping.num_layers - 1}"
    layer = dense(net, last)
    one = 1 / (ACTIVATIONS[layer.activation].gain * layer.bias_gain)
    for name in (name for name in new if name.startswith("mapping.")):
        draft.put(name, new[name])
    draft.put(f"{last}.weight", torch.zeros_like(new[f"{last}.weight"]))
    draft.put(f"{last}.bias", torch.full_like(new[f"{last}.bias"], one))
    for name in ("b4.out.weight", "b4.out.bias"):
        random, old = new[name], draft.state[name]  # [n, C] or [n]; [1, C] or [1]
        if random.shape[1:] == old.shape[1:]:
            draft.put(name, random - random.mean(0) + old / math.sqrt(len(random)))
    draft.notes.append(f"the source knows no labels, here there are {net.c_dim}: D begins with the same logit for all")


def drop_labels_of_discriminator(draft: Draft, source: Discriminator) -> None:
    """The logit becomes the mean of those for each label, in which it is linear."""
    assert source.mapping is not None
    mean = source.mapping(None, torch.eye(source.c_dim, device=draft.state["b4.out.weight"].device)).mean(0)
    for name in ("b4.out.weight", "b4.out.bias"):
        value = draft.state[name]
        draft.put(name, (mean @ value / math.sqrt(len(mean))).reshape(1, *value.shape[1:]))
    draft.drop("mapping.")
    draft.notes.append(f"the source has {source.c_dim} labels, here there are none: D begins with their mean logit")


def adapt_classes(draft: Draft, new: int, old_names: Names, new_names: Names) -> None:
    """Columns of the embedding by the names of the classes; a class that the source does not know gets their mean."""
    weight = draft.state["mapping.embed.weight"]  # [embed, c_dim]
    old = weight.shape[1]
    found: list[int | None] = list(range(new)) if new == old else [None] * new
    if old_names and new_names:
        places = {name: place for place, name in enumerate(old_names)}
        found = [places.get(name) for name in new_names]
    if found == list(range(old)):
        return
    mean = weight.mean(1)
    columns = torch.stack([mean if place is None else weight[:, place] for place in found], 1)
    draft.put("mapping.embed.weight", columns * math.sqrt(new / old))
    by_mean = sum(place is None for place in found)
    unknown = "" if old_names and new_names else ", because their names are not known on both sides"
    draft.notes.append(f"the source has {old} labels, here there are {new}: {new - by_mean} are known by their names, "
                       f"{by_mean} begin at the mean of the source's{unknown}")
