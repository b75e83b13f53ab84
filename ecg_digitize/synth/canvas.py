"""The raster that a page is drawn on, addressed in sheet millimetres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ecg_digitize.render.paper import cover_polyline, paste_coverage, text_coverage
from ecg_digitize.types import Float32, Float64

_MIDDLE_EM = 0.56
"""Half the height of capitals lies so far below the top of an em box of the DejaVu family."""


@dataclass(frozen=True)
class Canvas:
    """Ink on a raster: px = (mm - origin_mm) * px_per_mm - 0.5."""

    coverage: Float32  # (H, W) share of each pixel that is inked
    origin_mm: tuple[float, float]  # sheet xy of the raster's upper left corner
    px_per_mm: float

    @classmethod
    def blank(
        cls, size_px: tuple[int, int], *, origin_mm: tuple[float, float], px_per_mm: float
    ) -> "Canvas":
        """Return a canvas without ink; size_px is width and height."""
        return cls(np.zeros(size_px[::-1], np.float32), origin_mm, px_per_mm)

    def x_px(self, x_mm: ArrayLike) -> Float64:
        """Map sheet x."""
        shifted = np.asarray(x_mm, np.float64) - self.origin_mm[0]
        return np.asarray(shifted * self.px_per_mm - 0.5)

    def y_px(self, y_mm: ArrayLike) -> Float64:
        """Map sheet y."""
        shifted = np.asarray(y_mm, np.float64) - self.origin_mm[1]
        return np.asarray(shifted * self.px_per_mm - 0.5)

    def stroke(self, x_mm: ArrayLike, y_mm: ArrayLike, width_mm: float) -> None:
        """Draw a polyline with round joins."""
        cover_polyline(self.coverage, self.x_px(x_mm), self.y_px(y_mm), width_mm * self.px_per_mm)

    def write(self, text: str, x_mm: float, middle_mm: float, *, font: str, font_mm: float) -> None:
        """Write a text from sheet x on, half the height of its capitals at a sheet y."""
        em_px = max(6, round(font_mm * self.px_per_mm))
        top_px = self.y_px(middle_mm) - _MIDDLE_EM * em_px
        patch = text_coverage(text, em_px, font)
        paste_coverage(self.coverage, patch, float(self.x_px(x_mm)), float(top_px))
