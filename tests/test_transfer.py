"""Weights taken over by a network of other channels, labels, depth or size: what must stay equal does."""

import pytest
import torch

from stylegan2_pipeline.checkpoint import Snapshot
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.transfer import resume_weights, transfer
from torch_utils.errors import UserError

CHANNELS = [(old, new) for old in (1, 3, 4) for new in (1, 3, 4) if old != new]
SHARED = dict(channel_base=128, channel_max=16)


def generator(c_dim=0, channels=3, depth=3, resolution=16, **synthesis):
    return Generator(8, c_dim, 8, resolution, channels, {"num_layers": depth}, SHARED | synthesis).eval()


def discriminator(c_dim=0, channels=3, resolution=16, architecture="resnet", frozen=0):
    return Discriminator(c_dim, resolution, channels, architecture, **SHARED,
                         block_kwargs={"freeze_layers": frozen}).eval()


def scramble(net):
    """As if it had been trained: no bias, noise strength or mean at its initial value."""
    for name, value in net.state_dict().items():
        if not name.endswith(("resample_filter", "noise_const")):
            value.add_(torch.randn_like(value) * 0.3)
    return net


def painted(G, c=None):
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    return G(z, c, noise_mode="const", truncation_psi=0.7)


def labels(count, n=4):
    return torch.eye(count)[torch.arange(n) % count]


def seen_as(images, channels):
    """Images [N,1,H,W] or [N,3,H,W] shown to a network of other channels without loss of anything."""
    if channels >= 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    return torch.cat([images, torch.ones_like(images[:, :1])], 1) if channels == 4 else images


@pytest.mark.parametrize(("old", "new"), CHANNELS)
@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_an_image_is_worth_the_same_in_other_channels(old, new, architecture):
    source = scramble(discriminator(channels=old, architecture=architecture))
    net = discriminator(channels=new, architecture=architecture)
    report = transfer(source, net)
    assert not report.partial and len(report.notes) == 1
    images = torch.randn(4, 1 if 1 in (old, new) else 3, 16, 16)
    a, b = source(seen_as(images, old)), net(seen_as(images, new))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    if new == 4:  # whatever alpha holds
        other = seen_as(images, 4)
        other[:, 3] = torch.randn(4, 16, 16)
        torch.testing.assert_close(net(other), b)


@pytest.mark.parametrize(("old", "new"), CHANNELS)
@pytest.mark.parametrize("architecture", ["skip", "orig"])
def test_the_same_image_is_painted_in_other_channels(old, new, architecture):
    source = scramble(generator(channels=old, architecture=architecture))
    net = generator(channels=new, architecture=architecture)
    assert not transfer(source, net).partial
    a, b = painted(source), painted(net)
    colors = a[:, :3].mean(1, keepdim=True) if new == 1 else seen_as(a[:, :3], 3)
    torch.testing.assert_close(b[:, :3], colors, rtol=1e-4, atol=1e-4)
    assert new < 4 or torch.equal(b[:, 3], torch.ones_like(b[:, 3]))


def test_new_labels_begin_without_influence_and_gain_it():
    sources = scramble(generator()), scramble(discriminator())
    nets = generator(5), discriminator(5)
    for source, net in zip(sources, nets, strict=True):
        report = transfer(source, net)
        assert not report.partial and "the source knows no labels, here there are 5" in report.notes[0]
    images = torch.randn(4, 3, 16, 16)
    for c in (labels(5), labels(5).flip(0), torch.zeros(4, 5)):
        torch.testing.assert_close(painted(nets[0], c), painted(sources[0]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(nets[1](images, c), sources[1](images), rtol=1e-4, atol=1e-4)
    for net, inputs in zip(nets, (torch.randn(4, 8), images), strict=True):  # one step, and labels count
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        (net(inputs, labels(5)).flatten(1).mean(1) * torch.tensor([1.0, -1, 1, -1])).sum().backward()
        optimizer.step()
    assert not torch.allclose(painted(nets[0], labels(5)), painted(nets[0], labels(5).flip(0)), atol=1e-5)
    logits = [nets[1](images[:1], c[None])[0, 0] for c in torch.eye(5)]
    assert len({round(logit.item(), 5) for logit in logits}) == 5


def test_the_discriminators_new_labels_weigh_different_features():
    """Rows of `out` are no copies of each other, which would stay copies for ever."""
    net = discriminator(5)
    transfer(scramble(discriminator()), net)
    assert torch.linalg.matrix_rank(net.b4.out.weight) > 4


@pytest.mark.parametrize("count", [1, 3])
def test_labels_left_out_are_replaced_by_their_mean(count):
    sources = scramble(generator(count)), scramble(discriminator(count))
    nets = generator(), discriminator()
    for source, net in zip(sources, nets, strict=True):
        assert not transfer(source, net).partial
    images = torch.randn(4, 3, 16, 16)
    logits = torch.stack([sources[1](images, c.expand(4, -1)) for c in torch.eye(count)]).mean(0)
    torch.testing.assert_close(nets[1](images), logits, rtol=1e-4, atol=1e-4)
    if count == 1:
        torch.testing.assert_close(painted(nets[0]), painted(sources[0], labels(1)), rtol=1e-4, atol=1e-4)
    z = torch.randn(4, 8)  # the mean is that of the normalised embeddings, before the first layer's activation
    first = [(x @ G.mapping.fc0.weight.T * G.mapping.fc0.weight_gain + G.mapping.fc0.bias * 0.01)
             for G, x in ((nets[0], z), *((sources[0], torch.cat([z, embedded(sources[0], c)], 1))
                                          for c in torch.eye(count)))]
    torch.testing.assert_close(first[0], torch.stack(first[1:]).mean(0), rtol=1e-4, atol=1e-5)


def embedded(G, c):
    e = G.mapping.embed(c[None])
    return (e / e.square().mean().sqrt()).expand(4, -1)


@pytest.mark.parametrize("make", [generator, discriminator])
def test_classes_are_found_by_name(make):
    source, net = scramble(make(3)), make(4)
    report = transfer(source, net, ["cat", "dog", "owl"], ["ant", "dog", "emu", "cat"])
    assert not report.partial and "2 are known by their names, 2 begin at the mean" in report.notes[0]
    images = torch.randn(4, 3, 16, 16)
    run = (lambda net, c: painted(net, c)) if make is generator else (lambda net, c: net(images, c))
    new = [run(net, c.expand(4, -1)) for c in torch.eye(4)]
    old = [run(source, c.expand(4, -1)) for c in torch.eye(3)]
    for a, b in ((1, 1), (3, 0)):
        torch.testing.assert_close(new[a], old[b], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new[0], new[2])
    torch.testing.assert_close(new[0], run(source, torch.full((4, 3), 1 / 3)), rtol=1e-4, atol=1e-4)


def test_classes_without_names_go_by_number_or_to_the_mean():
    source = scramble(discriminator(3))
    for names in (None, ["a", "b", "c"]):
        report = transfer(source, net := discriminator(3), None, names)
        assert not report.adapted and torch.equal(net.mapping.embed.weight, source.mapping.embed.weight)
    turned = transfer(source, net, ["a", "b", "c"], ["c", "a", "b"])
    assert turned.adapted == ["mapping.embed.weight"]
    assert torch.equal(net.mapping.embed.weight, source.mapping.embed.weight[:, [2, 0, 1]])
    report = transfer(source, discriminator(5))
    assert "5 begin at the mean of the source's, because their names are not known" in report.notes[0]


def nets(**changes):
    about = {key: changes.pop(key) for key in ("depth",) if key in changes}
    frozen = {"frozen": changes.pop("frozen")} if "frozen" in changes else {}
    return {"G": generator(**changes, **about), "D": discriminator(**changes, **frozen),
            "G_ema": generator(**changes, **about)}


def resumed(old, new, allow_partial=False, names=(None, None)):
    snapshot = Snapshot(**{name: scramble(net) for name, net in old.items()}, class_names=names[0])
    return resume_weights(snapshot, new, "a.pkl", allow_partial, names[1])


def test_all_that_is_adapted_is_said_once_in_words():
    text = resumed(nets(channels=4), nets(channels=1, c_dim=2), names=(None, ["x", "y"]))
    assert text.count("Adapted: the source is of RGBA images, these are gray: ") == 1
    assert "alpha is left out" in text and "mean of red, green and blue" in text
    assert "they begin without influence on G." in text and "D begins with the same logit for all." in text
    assert "D: " in text and "0 missing" in text
    assert "Adapted" not in resumed(nets(), nets())


def test_a_mapping_of_another_depth_is_not_cut_but_refused():
    with pytest.raises(UserError, match=r"mapping network has 5 layers, this one 3: .*--map-depth=5 would keep it"):
        resumed(nets(depth=5), nets())
    new = nets()
    before = new["G"].mapping.fc0.weight.clone()
    assert "missing: mapping." in resumed(nets(depth=5), new, allow_partial=True)
    assert torch.equal(new["G"].mapping.fc0.weight, before)


@pytest.mark.parametrize(("old", "new"), [(16, 32), (32, 16)])
def test_blocks_of_shared_resolutions_are_copied(old, new):
    sources, targets = nets(resolution=old), nets(resolution=new)
    with pytest.raises(UserError, match=r"only in part(.|\n)*--allow-partial"):
        resumed(sources, targets)
    text = resumed(sources, targets, allow_partial=True)
    assert "b32." in text or "b16.fromrgb" in text
    for name in ("G", "G_ema"):
        assert torch.equal(sources[name].synthesis.b16.conv1.weight, targets[name].synthesis.b16.conv1.weight)
    assert torch.equal(sources["D"].b8.conv1.weight, targets["D"].b8.conv1.weight)


def test_another_architecture_is_no_full_match():
    """The names of the one are a part of the other's, and what is computed is not the same."""
    report = transfer(discriminator(), discriminator(architecture="orig"))
    assert report.partial and not report.missing and report.unused == ["b16.skip.weight", "b16.skip.resample_filter",
                                                                       "b8.skip.weight", "b8.skip.resample_filter"]


def test_layers_that_are_new_cannot_be_frozen():
    resumed(nets(), nets(frozen=4))
    with pytest.raises(UserError, match=r"--freezed: .*b32\.fromrgb\.weight.* would stay random"):
        resumed(nets(), nets(resolution=32, frozen=4), allow_partial=True)
