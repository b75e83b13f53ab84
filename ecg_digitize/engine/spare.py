"""Networks on a GPU, and the same ones on the CPU for a page that the GPU has no room for."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from ecg_digitize import models as loading
from ecg_digitize.models import BEST, Models
from ecg_digitize.runtime import choose_device

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def load_on(
    device: str, *, weights_dir: Path | None = None, preset: str = BEST, is_final: bool = True
) -> Models:
    """Load the networks on a device, or on the CPU if a GPU fails at that; see ``load_models``.

    Raises:
        WeightsError: If the weights are missing or altered.
    """
    load = partial(loading.load_models, weights_dir=weights_dir, preset=preset, is_final=is_final)
    try:
        return load(device=choose_device(device))
    except RuntimeError as error:  # what torch raises if a GPU is full, or has fallen off its bus
        if device == "cpu":
            raise
        log.warning("%s cannot be used (%s); going on with the CPU", device, error)
    return load(device=choose_device("cpu"))


class WithSpare:
    """Runs a page's work on a GPU, and on the CPU where the GPU fails at it.

    A GPU may have no room for a page. It may also fail for good: after some errors of CUDA every
    further call of the process fails. Then the CPU reads all further pages too.
    """

    def __init__(self, models: Models, load_on_cpu: Callable[[], Models]) -> None:
        """Keep the networks.

        Args:
            models: To be used.
            load_on_cpu: Gives the same networks on the CPU; called once, when they are needed.
        """
        self.models, self._load_on_cpu = models, load_on_cpu
        self._spare: Models | None = None

    def __call__(self, work: Callable[[Models], _Result]) -> _Result:
        """Do the work; what goes wrong with it on the CPU is raised."""
        device = self.models.device
        if device.type == "cpu":
            return work(self.models)
        try:
            return work(self.models)
        except RuntimeError as error:  # of which a lack of memory is a kind; ours are none
            log.warning("%s failed at this page (%s); the CPU reads it", device, error)
        self._spare = self._spare or self._load_on_cpu()
        if not _works(device):
            log.warning("%s has failed for good; the CPU reads all further pages", device)
            self.models = self._spare
        return work(self._spare)


def _works(device: torch.device) -> bool:
    """Free what a GPU holds for nothing, and say whether it still computes."""
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(torch.ones(1, device=device).sum().item() == 1)
    except (RuntimeError, AssertionError):  # an AssertionError: this torch has no CUDA at all
        return False
