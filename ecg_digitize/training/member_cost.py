"""What the networks that stage 2 can be cost to train, without a GPU: by their shapes alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from ecg_digitize.frames import RECT
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.training.recipes import RECIPES
from ecg_digitize.training.run import network_of

BACKWARD: Final = 2.0  # operations of the way back, by those of the way forth
HALF_BYTES: Final = 2  # of a value in bfloat16, as networks compute, and of a weight in a file
STATE_BYTES: Final = 16
"""A weight in training takes so many: itself, its gradient and two moments, in float32."""


@dataclass(frozen=True)
class MemberCost:
    """What one member costs.

    Attributes:
        name: A key of MEMBERS.
        million_weights: Their number.
        file_mb: Its file, in half precision.
        page_tflop: 10^12 operations to look at a page once; a multiplication and its sum are two.
        training_gb: What a step of `batch` whole pages keeps in bfloat16, weights and their moments
            with it; what libraries need to work comes on top.
        page_gb: The same of a page that is looked at, and not learned from: its largest layer.
        batch: Pages a step.
    """

    name: str
    million_weights: float
    file_mb: float
    page_tflop: float
    training_gb: float
    page_gb: float
    batch: int

    def hours(self, *, records: int, epochs: int, tflops: float) -> float:
        """Return the time of a training on a device that computes so many TFLOP a second."""
        return epochs * records * self.page_tflop * (1 + BACKWARD) / tflops / 3600


def cost_of(name: str, *, batch: int = RECIPES["published"].batch) -> MemberCost:
    """Return what a member costs, by shapes: nothing is computed, and no memory is taken.

    Args:
        name: A key of MEMBERS.
        batch: Whole pages a step.
    """
    with FakeTensorMode():
        network = network_of(MEMBERS[name]).train()
        page = torch.empty((1, 3, RECT.height_px, RECT.width_px))
        weights = sum(one.numel() for one in network.parameters())
        kept = _Kept(network)
        with FlopCounterMode(display=False) as counter, saved_tensors_hooks(kept, lambda one: one):
            network(page)
        largest = _largest(network, page)
    return MemberCost(
        name=name,
        million_weights=weights / 1e6,
        file_mb=HALF_BYTES * weights / 1e6,
        page_tflop=counter.get_total_flops() / 1e12,
        training_gb=(batch * HALF_BYTES * kept.values + STATE_BYTES * weights) / 1e9,
        page_gb=HALF_BYTES * (largest + weights) / 1e9,
        batch=batch,
    )


def to_text(costs: Sequence[MemberCost], *, records: int, tflops: float) -> str:
    """Return the table to read."""
    epochs = RECIPES["published"].epochs or 1
    lines = [
        f"{'member':<20}{'weights':>10}{'file':>8}{'a page':>10}{'a page':>9}{'training':>10}"
        f"{'training':>10}",
        f"{'':<20}{'million':>10}{'MB':>8}{'TFLOP':>10}{'GB':>9}{'GB':>10}{'hours':>10}",
    ]
    for one in costs:
        hours = one.hours(records=records, epochs=epochs, tflops=tflops)
        lines.append(
            f"{one.name:<20}{one.million_weights:10.1f}{one.file_mb:8.0f}{one.page_tflop:10.2f}"
            f"{one.page_gb:9.1f}{one.training_gb:10.1f}{hours:10.1f}"
        )
    batch = costs[0].batch if costs else 0
    lines.append(
        f"training: batches of {batch} whole pages, {epochs} times {records} records, on a device "
        f"that computes {tflops:g} TFLOP a second"
    )
    return "\n".join(lines) + "\n"


class _Kept:
    """Counts the values that are kept for the way back, each storage once, weights apart."""

    def __init__(self, network: nn.Module) -> None:
        self.values = 0
        self._known = {one.untyped_storage()._cdata for one in network.parameters()}
        self._alive: list[Tensor] = []  # an address is no other's as long as these live

    def __call__(self, kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._alive.append(kept)
            self.values += storage.nbytes() // kept.element_size()
        return kept


def _largest(network: nn.Module, page: Tensor) -> int:
    """Return how many values the input and the output of the largest layer have."""
    most = 0

    def see(_: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal most
        both = (*inputs, output)
        most = max(most, sum(one.numel() for one in both if isinstance(one, Tensor)))

    hooks = [one.register_forward_hook(see) for one in network.modules() if not [*one.children()]]
    with torch.no_grad():
        network(page)
    for hook in hooks:
        hook.remove()
    return most
