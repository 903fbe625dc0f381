"""Operators in torch's dispatcher, without a derivative: autograd functions call them.

That of torch.library.custom_op, even where there is none, is Python that takes longer than small layers.
"""

import getpass
import os
from collections.abc import Callable

import torch


def _name_the_user() -> None:
    """torch asks for the user's name when an operator is registered, and fails where a container's user has none."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid{os.getuid()}"


_name_the_user()
_LIBRARY = torch.library.Library("stylegan2", "FRAGMENT")


class Registered:
    """stylegan2::name in torch's dispatcher: `kernel`, which takes tensors and plain values, for every device."""

    def __init__(self, name: str, kernel: Callable) -> None:
        self.name = f"stylegan2::{name}"
        schema = torch.library.infer_schema(kernel, mutates_args=())
        _LIBRARY.define(f"{name}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
        self.call: Callable = getattr(torch.ops.stylegan2, name).default

    def register_fake(self, fake: Callable) -> Callable:
        """Decorates what says of which shape, type and layout a result is."""
        return torch.library.register_fake(self.name, fake, lib=_LIBRARY)
