"""Synthetic pages: one sample is a pure function of (source, seed, index, kind)."""

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.layout import crossings_mm
from ecg_digitize.synth import degrade
from ecg_digitize.synth.page import CleanPage, PageStyle, default_style, draw_page, random_style
from ecg_digitize.synth.signals import SignalSource, augment, to_twelve
from ecg_digitize.synth.warp import SheetWarp, camera_warp, flat_warp, paint
from ecg_digitize.types import Float32, Float64, Image

KINDS: Final = ("render", "scan", "scan_bw", "photo", "worn")
"""render: as plotted; scan, scan_bw: a print on a flatbed; photo: by phone on a desk; worn: photo
or scan of a stained and creased print."""

KIND_SHARES: Final = (0.3, 0.2, 0.2, 0.18, 0.12)


@dataclass(frozen=True)
class SyntheticPage:
    """A picture with everything there is to know about it."""

    image: Image  # (H, W, 3) uint8 RGB, page frame
    kind: str  # one of KINDS
    signals_mv: Float32  # (12, 5000) float32 mV, whole leads at 500 Hz in LEADS order
    rows_mm: Float32  # (4, 5000) sheet y of the traces at the 500 Hz samples, mm
    crossings_xy_px: Float32  # (44, 57, 2) page px of the even lattice, may lie outside
    printed_xy_px: Float32  # (44, 57, 2) page px of the crossings as drawn, lines on whole pixels
    names_xy_px: Float32  # (13, 2) page px, NaN where names are not printed
    quarter_turns: int  # counter-clockwise quarter turns that set the page upright
    style: PageStyle


def make_page(
    source: SignalSource, *, seed: int, index: int, kind: str | None = None,
    vary_signals: bool = True, turns: bool = True, max_megapixels: float = 5.0,
) -> SyntheticPage:  # fmt: skip
    """Make one page.

    Args:
        source: Where the signals come from.
        seed: Family of samples.
        index: Which of them.
        kind: One of KINDS; None draws one by KIND_SHARES.
        vary_signals: Augment the record; False prints it as it is.
        turns: Let photos lie on their side or upside down.
        max_megapixels: Size limit of photos; cameras have 12, training does with fewer.

    Returns:
        The picture and its labels.

    Raises:
        InputError: If the kind is unknown.
    """
    rng = np.random.default_rng([seed, index])
    drawn = str(rng.choice(KINDS, p=KIND_SHARES))
    kind = drawn if kind is None else kind
    if kind not in KINDS:
        raise InputError(f'unknown kind of page "{kind}"; known are {", ".join(KINDS)}')
    leads = source.get(int(rng.integers(len(source))))
    if vary_signals:
        leads = augment(leads, rng)
    signals_mv = to_twelve(leads)

    style = random_style(rng, print_like=kind != "render")
    if kind == "render" and rng.random() < 0.3:
        style = replace(default_style(), pulses=style.pulses, left_mm=style.left_mm)
    if kind != "render":
        style = replace(style, px_per_mm=float(rng.choice([7.874, 7.874, 9.0, 11.811])))
    elif rng.random() < 0.25:
        style = replace(style, px_per_mm=float(rng.uniform(5.5, 11.8)))
    clean = draw_page(signals_mv, style, rng)
    if rng.random() < 0.12:
        clean = replace(clean, image=degrade.scribble(clean.image, rng, px_per_mm=clean.px_per_mm))

    make = {"render": _render, "scan": _scan, "scan_bw": _scan, "photo": _photo, "worn": _worn}
    image, warp = make[kind](clean, rng, kind, max_megapixels)
    crossings = warp.page_from_sheet(crossings_mm())
    printed = warp.page_from_sheet(clean.printed_mm)
    names = warp.page_from_sheet(clean.names_mm)
    if not style.names:
        names = np.full_like(names, np.nan)

    quarter_turns = 0
    if turns and kind in ("photo", "worn") and rng.random() < 0.3:
        quarter_turns = int(rng.integers(1, 4))
        image, points = turn(image, [crossings, printed, names], quarter_turns)
        crossings, printed, names = points
    return SyntheticPage(
        image=np.ascontiguousarray(image),
        kind=kind,
        signals_mv=signals_mv,
        rows_mm=clean.rows_mm,
        crossings_xy_px=crossings.astype(np.float32),
        printed_xy_px=printed.astype(np.float32),
        names_xy_px=names.astype(np.float32),
        quarter_turns=quarter_turns,
        style=style,
    )


def turn(image: Image, points: list[Float64], upright_turns: int) -> tuple[Image, list[Float64]]:
    """Turn a picture clockwise so that `upright_turns` counter-clockwise turns undo it."""
    for _ in range(upright_turns):
        height = image.shape[0]
        image = np.rot90(image, -1)
        points = [np.stack([height - 1 - p[..., 1], p[..., 0]], -1) for p in points]
    return image, points


def _identity(clean: CleanPage, rng: np.random.Generator) -> SheetWarp:
    return flat_warp(rng, px_per_mm=clean.px_per_mm, origin_mm=clean.origin_mm)


def _render(
    clean: CleanPage, rng: np.random.Generator, _kind: str, _limit: float
) -> tuple[Image, SheetWarp]:
    """As plotted; sometimes with the wrinkles, blur and compression of ECG-Image-Kit's options."""
    image = clean.image
    if rng.random() < 0.2:
        image = degrade.crease(image, rng, strength=rng.uniform(0.3, 1.3))
        if rng.random() < 0.5:
            image = degrade.expose(image, rng, unevenness=0.0, noise=rng.uniform(0, 6), cast=0.15,
                                   contrast=rng.uniform(0.8, 1.3))  # fmt: skip
    if rng.random() < 0.25:
        image = degrade.blur(image, rng.uniform(0.2, 1.0))
    if rng.random() < 0.3:
        image = degrade.jpeg(image, int(rng.integers(40, 96)))
    return image, _identity(clean, rng)


def _on_paper(clean: CleanPage, rng: np.random.Generator, *, margin_mm: float) -> CleanPage:
    """Put white margins round the printed area and let the ink spread."""
    pad = [round(m * clean.px_per_mm) for m in rng.uniform(0.3, 1.0, 4) * margin_mm]
    top, bottom, left, right = pad
    white = clean.style.paper.paper
    padded = cv2.copyMakeBorder(
        clean.image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=white
    )
    image = degrade.blur(np.asarray(padded, np.uint8), rng.uniform(0.1, 0.8))
    x, y = clean.origin_mm
    origin = (x - left / clean.px_per_mm, y - top / clean.px_per_mm)
    return replace(clean, image=image, origin_mm=origin)


def _scan(
    clean: CleanPage, rng: np.random.Generator, kind: str, _limit: float
) -> tuple[Image, SheetWarp]:
    """A flatbed scan: slight turn and scale, margins or cropped edges, colour or black."""
    clean = _on_paper(clean, rng, margin_mm=6.0)
    px_per_mm = float(np.clip(rng.normal(7.6, 0.9), 5.5, 11.8))
    height_mm = clean.image.shape[0] / clean.px_per_mm
    width_mm = clean.image.shape[1] / clean.px_per_mm
    crop = rng.uniform(0, 8, 4) * (rng.random(4) < 0.3) - rng.uniform(0, 4, 4)
    size = (
        round((width_mm - crop[0] - crop[1]) * px_per_mm),
        round((height_mm - crop[2] - crop[3]) * px_per_mm),
    )
    warp = flat_warp(
        rng,
        px_per_mm=px_per_mm,
        origin_mm=(clean.origin_mm[0] + crop[0], clean.origin_mm[1] + crop[2]),
        turn_deg=float(rng.normal(0, 0.8)),
        anisotropy=float(rng.normal(0, 0.006)),
        shear=float(rng.normal(0, 0.002)),
        wave_mm=float(rng.uniform(0, 0.35)),
    )
    lid = np.full((size[1], size[0], 3), int(rng.choice([255, 250, 235, 30])), np.uint8)
    maps = warp.sheet_maps(size)
    image = paint(lid, clean.image, maps, px_per_mm=clean.px_per_mm, origin_mm=clean.origin_mm)
    image = degrade.blur(image, rng.uniform(0.0, 0.9))
    image = degrade.expose(
        image, rng,
        unevenness=rng.uniform(0, 0.03), noise=rng.uniform(0, 5), cast=0.03,
        gamma=rng.uniform(0.7, 1.3), contrast=rng.uniform(0.9, 1.3),
    )  # fmt: skip
    if kind == "scan_bw":
        image = degrade.to_black_and_white(image, rng)
        if rng.random() < 0.6:
            image = degrade.blur(image, rng.uniform(0.15, 0.9))
    if rng.random() < 0.6:
        image = degrade.jpeg(image, int(rng.integers(40, 96)))
    return image, warp


def _photo(
    clean: CleanPage, rng: np.random.Generator, _kind: str, limit: float
) -> tuple[Image, SheetWarp]:
    """A phone photo on a desk: perspective, bend, uneven light, sensor noise."""
    clean = _on_paper(clean, rng, margin_mm=9.0)
    megapixels = min(limit, float(rng.choice([1.6, 3.0, 5.0, 12.0], p=[0.15, 0.35, 0.35, 0.15])))
    height = round(np.sqrt(megapixels * 1e6 * 3 / 4))
    size = (height * 4 // 3, height)
    x0, y0 = clean.origin_mm
    x1 = x0 + clean.image.shape[1] / clean.px_per_mm
    y1 = y0 + clean.image.shape[0] / clean.px_per_mm
    warp = camera_warp(
        rng,
        size_px=size,
        box_mm=(x0, y0, x1, y1),
        fill=float(rng.uniform(0.82, 1.02)),
        tilt_deg=float(rng.uniform(0.5, 7)),
        turn_deg=float(rng.normal(0, 2.0)),
        bend_mm=float(rng.choice([0.0, rng.uniform(0, 5)])),
    )
    maps = warp.sheet_maps(size)
    image = paint(
        degrade.desk(rng, size), clean.image, maps,
        px_per_mm=clean.px_per_mm, origin_mm=clean.origin_mm,
    )  # fmt: skip
    image = degrade.blur(image, rng.uniform(0.3, 1.2) * np.sqrt(megapixels / 4))
    image = degrade.expose(
        image, rng,
        unevenness=rng.uniform(0.02, 0.14), noise=rng.uniform(1, 8), cast=0.08,
        gamma=rng.uniform(0.8, 1.5), contrast=rng.uniform(0.8, 1.1),
        brightness=rng.uniform(0.6, 1.0),
    )  # fmt: skip
    return degrade.jpeg(image, int(rng.integers(50, 96))), warp


def _worn(
    clean: CleanPage, rng: np.random.Generator, _kind: str, limit: float
) -> tuple[Image, SheetWarp]:
    """A stained, creased print, photographed or scanned."""
    image = clean.image
    for _ in range(rng.integers(1, 4)):
        image = degrade.stain(image, rng, strength=rng.uniform(0.2, 0.9))
    if rng.random() < 0.5:
        image = degrade.crease(image, rng, strength=rng.uniform(0.1, 0.6))
    clean = replace(clean, image=image)
    if rng.random() < 0.6:
        return _photo(clean, rng, "photo", limit)
    return _scan(clean, rng, "scan_bw" if rng.random() < 0.5 else "scan", limit)
