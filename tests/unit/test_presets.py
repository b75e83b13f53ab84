"""Presets: from how many sides a page is looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_digitize import models
from ecg_digitize.cli import main, parser
from ecg_digitize.errors import InputError
from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.layout import COMPETITION
from ecg_digitize.models import BEST, PRESETS, load_models
from ecg_digitize.stage2.decode import true_trace_map
from ecg_digitize.stage2.refine import REACH_PX
from ecg_digitize.stages import refine_trace
from ecg_digitize.types import RectifiedPage, Trace


class _Darkest(torch.nn.Module):
    """Says how far the darkest pixel lies from the middle, and in the first column 5 px more."""

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        offset = bands[:, 0].argmin(dim=1) - REACH_PX
        offset[:, 0] += 5
        return offset


def test_looks_are_averaged_the_right_way_up(tiny_models):
    y_px = (
        np.array(COMPETITION.zero_px)[:, None] + 9 * np.sin(np.arange(COMPETITION.n_columns) / 200)
    ).round()
    image = np.full((RECT.height_px, RECT.width_px, 3), 255, np.uint8)
    for row in range(COMPETITION.n_rows):
        image[y_px[row].astype(int), TRACE_X0_PX + np.arange(COMPETITION.n_columns)] = 0
    page, trace_map = RectifiedPage(image, valid=1.0), true_trace_map(y_px.astype(np.float32))
    confidence = np.ones_like(y_px, np.float32)
    near = Trace(
        np.repeat(np.array(COMPETITION.zero_px, np.float32)[:, None], COMPETITION.n_columns, 1),
        confidence,
    )

    def refined(preset: str) -> np.ndarray:
        models = replace(tiny_models, refine=_Darkest(), preset=PRESETS[preset])
        return refine_trace(page, trace_map, near, models).y_px - y_px

    fast, best = refined("fast"), refined("best")
    assert np.abs(fast[:, 1:]).max() <= 1
    assert np.abs(best[:, 1:-1]).max() <= 1
    np.testing.assert_allclose(fast[:, 0] - fast[:, 1], 5, atol=1)
    # One look begins at either end, and the turned one says the opposite there.
    np.testing.assert_allclose(best[:, 0] - best[:, 1], 2.5, atol=1)
    np.testing.assert_allclose(best[:, -1] - best[:, -2], -2.5, atol=1)


def test_presets_that_do_not_exist_are_refused(capsys):
    with pytest.raises(InputError, match="fast, best"):
        load_models(preset="slow")
    with pytest.raises(SystemExit):
        main(["bench", "--preset", "slow"])
    assert "fast" in capsys.readouterr().err


def test_commands_ask_for_their_preset(monkeypatch):
    asked = []

    def load(**options):
        asked.append(options["preset"])
        raise InputError("enough seen")

    monkeypatch.setattr(models, "load_models", load)

    commands = (["bench"], ["validate", "--pages", "1"], ["compare", "decoders", "--pages", "1"])
    for command in commands:
        assert main([*command, "--preset", "fast"]) == 2
        assert main(command) == 2
    assert asked == ["fast", "best"] * len(commands)
    assert load_models(stages=(), preset="fast").preset == PRESETS["fast"]


def test_the_parser_knows_the_presets():
    """It repeats their names, as importing the pipeline takes seconds."""
    for name in PRESETS:
        assert parser().parse_args(["bench", "--preset", name]).preset == name
    assert parser().parse_args(["bench"]).preset == BEST
