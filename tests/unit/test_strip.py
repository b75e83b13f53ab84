"""The strip network, and how rows of other sheets are read by it."""

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ecg_digitize.errors import WeightsError
from ecg_digitize.layout import Layout, Row, Segment
from ecg_digitize.manifest import Architecture
from ecg_digitize.sheet.read import with_strips
from ecg_digitize.stage2.decode import decode, true_trace_map
from ecg_digitize.stage2.strip import STRIP_PX, StripNet, start_as_whole
from ecg_digitize.stage2.whole import WholeNet
from ecg_digitize.training.run import start_from
from ecg_digitize.training.strips import touches_mm
from ecg_digitize.types import Trace

TINY = {"backbone": "test_efficientnet", "decoder": (8, 8, 8), "detail": 4}
ARCHITECTURE = Architecture("StripNet", TINY)


@pytest.mark.parametrize("height_px", [480, 384])
def test_a_strip_has_a_bin_every_two_pixels(height_px: int) -> None:
    network = StripNet(**TINY).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(2, 3, height_px, 64, dtype=torch.uint8))
    assert logits.shape == (2, 1, height_px // 2, 64)


def test_the_trace_is_looked_for_in_the_middle() -> None:
    prior = StripNet(**TINY).row_prior[0, 0, :, 0].detach()
    assert prior.argmax() in (119, 120)
    assert torch.allclose(prior, prior.flip(0))


def test_it_starts_as_a_row_of_whole(tmp_path) -> None:
    torch.manual_seed(1)
    whole = WholeNet(**TINY)
    strips = StripNet(**TINY)
    start_as_whole(strips, whole.state_dict())
    assert torch.equal(strips.head[1].weight, whole.head[1].weight[8:16])
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    started = start_from(ARCHITECTURE, initial=tmp_path / "whole.safetensors")
    assert torch.equal(started.head[1].weight, strips.head[1].weight)  # type: ignore[union-attr]


def test_what_is_neither_is_refused(tmp_path) -> None:
    save_file({"row_prior": torch.zeros(1, 1, 3, 1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not fit StripNet"):
        start_from(ARCHITECTURE, initial=tmp_path / "other.safetensors")


def test_ink_is_looked_for_at_the_height_of_the_strip() -> None:
    """Ink was sought at the height of a whole page: strokes looked as if no ink led to them."""
    layout = Layout("strip", (Row(84.0, (Segment("I", 0.0, 2.0),)),))
    y_px = np.full((1, 1000), 240.0, np.float32)
    y_px[0, 500:520] = 240 - 120 * np.sin(np.linspace(0, np.pi, 20)).astype(np.float32)
    image = np.full((STRIP_PX, 1400, 3), 255, np.uint8)
    line = np.column_stack([300 + np.arange(1000), y_px[0]]).round().astype(np.int32)
    cv2.polylines(image, [line[:, None]], False, (0, 0, 0), 7)
    trace = decode(true_trace_map(y_px, n_bins=STRIP_PX // 2, layout=layout), image)
    assert trace.confidence.min() > 0
    assert np.abs(trace.y_px - y_px).max() < 1.0


def test_a_strip_longer_than_its_leads_is_compared_with_them() -> None:
    leads = tuple(Segment(lead, 2.5 * k, 2.5 * (k + 1)) for k, lead in enumerate(("I", "II")))
    rows = (
        Row(40.0, leads),
        Row(80.0, (), is_strip=True),
        Row(120.0, (Segment("V1", 0.0, 11.0),), is_strip=True),
    )
    layout = Layout("6x2", rows)
    shape = layout.shape
    beats = np.sin(np.arange(shape[1]) / 40.0).astype(np.float32)
    y_px = (np.array(layout.zero_px)[:, None] + 40.0 * beats).astype(np.float32)
    found = with_strips(Trace(y_px, np.ones(shape, np.float32), layout))
    assert found.layout.rows[2].leads == ("V1",)
    assert found.y_px.shape == shape


def test_lines_of_two_rows_touch_where_one_reaches_the_other():
    x_mm = np.arange(0, 100, 0.1)
    upper, lower, lowest = (np.column_stack([x_mm, np.full_like(x_mm, y)]) for y in (20, 35, 60))
    upper[300:320, 1] = 40  # a deep wave
    left, right = lower[:600], lower[700:]  # a gap, where nothing is
    lowest[650, 1] = 30

    above, middle, below = touches_mm([[upper], [left, right], [lowest]])

    for touched in (above, middle):
        assert 29.8 < touched.min() < 30.2
        assert 31.7 < touched.max() < 32.1
    assert not len(below)
