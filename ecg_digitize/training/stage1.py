"""Train stage 1: the norm image -> a heatmap of the grid crossings."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from torch import Tensor, nn

from ecg_digitize.frames import NORM, crossings_mm
from ecg_digitize.geometry import apply_homography, fit_homography
from ecg_digitize.stage0.normalize import registration_from_homography
from ecg_digitize.stage1.rectify import norm_image, page_from_norm
from ecg_digitize.synth.dataset import LASER_PRINTS, OTHER_MACHINES, SyntheticPage, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.losses import draw_gaussians, marker_loss
from ecg_digitize.types import Float32, Image, Page, Registration

SIGMA_PX: Final = 1.3
REGISTRATION_ERROR_MM: Final = 1.2  # of the corners, what stage 0 leaves on flat pages


def rough_registration(page: SyntheticPage, rng: np.random.Generator) -> Registration:
    """Return the page's homography with an error as stage 0's: fitted, then corners moved."""
    mm = crossings_mm()[16:43:3, 2:55:4].reshape(-1, 2)
    px = page.crossings_xy_px[16:43:3, 2:55:4].reshape(-1, 2).astype(np.float64)
    corners = np.array([[0.0, 80.0], [280.0, 80.0], [280.0, 215.0], [0.0, 215.0]])
    moved = corners + rng.normal(0, REGISTRATION_ERROR_MM, (4, 2)) + rng.normal(0, 0.8, 2)
    return registration_from_homography(fit_homography(mm, px) @ fit_homography(corners, moved))


def norm_sample(page: SyntheticPage, rng: np.random.Generator) -> tuple[Image, Float32]:
    """Return the norm image (896, 1152, 3) and the target heatmap (896, 1152)."""
    registration = rough_registration(page, rng)
    image = norm_image(Page(page.image, page.kind), registration)
    norm_from_page = np.linalg.inv(page_from_norm(registration)).astype(np.float64)
    points = page.printed_xy_px.reshape(-1, 2).astype(np.float64)
    height, width = page.image.shape[:2]
    visible = ((points > -2) & (points < [width + 1, height + 1])).all(-1)
    target = draw_gaussians(
        (NORM.height_px, NORM.width_px),
        apply_homography(norm_from_page, points[visible]),
        sigma_px=SIGMA_PX,
    )
    return image, target


def sample_of(page: SyntheticPage, rng: np.random.Generator) -> Sample:
    """Return image (3, 896, 1152) uint8 and crossings (896, 1152) float32 of a page."""
    image, target = norm_sample(page, rng)
    if rng.random() < 0.2:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)), "crossings": target}


@dataclass(frozen=True)
class Samples:
    """Page index -> one training sample (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return one sample, see `sample_of`."""
        rng = np.random.default_rng([self.seed, index, 1])
        page = make_page(
            self.source,
            seed=self.seed,
            index=index,
            other_machines=OTHER_MACHINES,
            laser_prints=LASER_PRINTS,
        )
        return [sample_of(page, rng)]


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the marker loss of a batch."""
    return marker_loss(network(batch["image"]), batch["crossings"])
