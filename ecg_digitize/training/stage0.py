"""Train stage 0: the picture as it comes -> lead names and orientation."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.geometry import apply_homography
from ecg_digitize.stage0.net import INPUT_PX, STRIDE
from ecg_digitize.stage0.prepare import stage0_input
from ecg_digitize.synth.dataset import LASER_PRINTS, OTHER_MACHINES, SyntheticPage, make_page, turn
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.losses import draw_gaussians, marker_loss

SIGMA_CELLS: Final = 1.5
ORIENTATION_WEIGHT: Final = 0.2


def sample_of(page: SyntheticPage, rng: np.random.Generator) -> Sample:
    """Return image (3, 1024, 1024), markers (13, 256, 256) and turns () int64 of an upright page.

    It may lie on any side here, also if it never does in the competition: the network then learns
    its letters in all directions.
    """
    turns = int(rng.choice(4, p=[0.55, 0.15, 0.15, 0.15]))
    picture, (names,) = turn(page.image, [page.names_xy_px.astype(np.float64)], turns)
    image, map_from_page = stage0_input(picture)
    names = apply_homography(map_from_page, names)
    side = INPUT_PX // STRIDE
    if rng.random() < 0.2:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    markers = np.stack(
        [draw_gaussians((side, side), xy[None], sigma_px=SIGMA_CELLS) for xy in names]
    )
    return {
        "image": np.ascontiguousarray(image.transpose(2, 0, 1)),
        "markers": markers,
        "turns": np.array(turns),
    }


@dataclass(frozen=True)
class Samples:
    """Page index -> one training sample (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return one sample, see `sample_of`."""
        rng = np.random.default_rng([self.seed, index, 0])
        page = make_page(
            self.source,
            seed=self.seed,
            index=index,
            turns=False,
            max_megapixels=2.0,
            other_machines=OTHER_MACHINES,
            laser_prints=LASER_PRINTS,
        )
        return [sample_of(page, rng)]


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the marker loss plus the cross-entropy of the orientation."""
    markers, orientation = network(batch["image"])
    loss = marker_loss(markers, batch["markers"])
    return loss + ORIENTATION_WEIGHT * F.cross_entropy(orientation.float(), batch["turns"])
