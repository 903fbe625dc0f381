"""Bundles of tensors: taken apart, put together, told apart, and moved in one piece."""

from dataclasses import dataclass

import torch

from stylegan2_pipeline.bundles import ALIGNMENT, mapped, moved, outline, packed, tensors_of, unpacked, with_tensors


@dataclass(frozen=True)
class Pair:
    a: torch.Tensor
    b: object = None


def example():
    return Pair(torch.arange(6.0).view(2, 3), {"x": (torch.ones(3), 4), "y": Pair(torch.zeros(2, 0)), "z": None})


def test_tensors_are_replaced_where_they_were_found():
    bundle = example()
    found = tensors_of(bundle)
    assert [list(t.shape) for t in found] == [[2, 3], [3], [2, 0]]
    other = with_tensors(bundle, [t + 1 for t in found])
    assert torch.equal(other.a, bundle.a + 1) and torch.equal(other.b["x"][0], torch.full([3], 2.0))
    assert other.b["x"][1] == 4 and other.b["z"] is None and torch.equal(bundle.b["x"][0], torch.ones(3))


def test_an_outline_is_all_but_the_numbers():
    bundle = example()
    assert outline(bundle) == outline(mapped(bundle, torch.rand_like)) and isinstance(hash(outline(bundle)), int)
    others = [Pair(bundle.a), Pair(bundle.a.double(), bundle.b), Pair(bundle.a[:1], bundle.b), (bundle.a, bundle.b),
              Pair(bundle.a, bundle.b | {"z": 0})]
    assert len({outline(bundle), *map(outline, others)}) == 6


def test_one_row_holds_all_and_every_tensor_begins_aligned():
    tensors = [torch.rand(5, 7), torch.rand([]), torch.rand(3, 0), torch.rand(2, 80).t()]
    row = packed(tensors)
    views = unpacked(row, tensors)
    assert all(map(torch.equal, views, tensors))
    assert len(row) == sum(-(-t.numel() // ALIGNMENT) * ALIGNMENT for t in tensors)
    assert all((v.data_ptr() - row.data_ptr()) % (4 * ALIGNMENT) == 0 for v in views if v.numel())


def test_what_is_on_the_device_stays_and_the_rest_comes():
    meta = torch.device("meta")
    there = torch.empty(2, 2, device=meta)
    bundle = moved((torch.ones(3, 2), there, 5), meta)
    assert bundle[1] is there and bundle[2] == 5 and bundle[0].device == meta and bundle[0].shape == (3, 2)
    assert moved(bundle, torch.device("cpu")) is bundle
