"""The tables of docs/ablation.md compare what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_digitize.cli import main
from ecg_digitize.frames import RECT
from ecg_digitize.layout import COMPETITION
from ecg_digitize.stage2.decode import true_trace_map
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training import compare
from ecg_digitize.training.compare_resampling import compare_resampling
from ecg_digitize.types import RectifiedPage


def _truth_px() -> np.ndarray:
    wave = 60 * np.sin(np.arange(COMPETITION.n_columns) / 40)
    return (np.array(COMPETITION.zero_px)[:, None] + wave).astype(np.float32)


@pytest.mark.parametrize("name", compare.DECODERS)
def test_every_decoder_finds_a_clear_line(name: str):
    y_px = _truth_px()

    off_px = np.abs(compare.DECODERS[name](true_trace_map(y_px), None).y_px - y_px)

    assert off_px.max() < (1.01 if name in ("highest bin", "parabola through it") else 0.01)


def test_only_paths_at_a_price_ignore_a_stray_peak():
    y_px = _truth_px()
    trace_map = true_trace_map(y_px)
    trace_map.probability[0, :, 2000:2003] *= 0.4
    trace_map.probability[0, 600, 2000:2003] = 0.6

    off_px = {n: np.abs(d(trace_map, None).y_px - y_px).max() for n, d in compare.DECODERS.items()}

    for name in ("best path (ships)", "path through any ink", "path across blank paper"):
        assert off_px.pop(name) < 0.01
    assert min(off_px.values()) > 100


def _page() -> RectifiedPage:
    image = np.random.default_rng(0).integers(0, 256, (RECT.height_px, RECT.width_px, 3))
    return RectifiedPage(image.astype(np.uint8), valid=1.0)


class _ByColumn(torch.nn.Module):
    """Says of each column how bright it is."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        brightness = image[:, :1, :640].float() / 25
        return brightness.expand(-1, 4, -1, -1)


def test_looks_are_brought_back_to_where_the_page_lies(tiny_models):
    models = replace(tiny_models, stage2=_ByColumn())
    page = _page()
    plain = compare._moved(page, models, 0)

    np.testing.assert_allclose(plain.sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(
        compare._moved(page, models, 2)[..., :-2], plain[..., :-2], atol=1e-5
    )
    np.testing.assert_allclose(compare._mirrored(page, models), plain, atol=1e-5)
    assert (compare._gamma(page, models, 1.25) != plain).mean() > 0.5


def test_what_ships_resamples_these_records_best_at_every_rate():
    table = compare_resampling(SimulatorSource(), windows=3)

    ships = table.rows.pop("windowed sinc (ships)")
    assert table.columns == tuple(f"{rate} Hz" for rate in (100, 250, 256, 500, 512, 1000, 1025))
    assert ships.min() > 38
    for other in table.rows.values():
        assert (ships >= other - 1e-6).all()
        assert ships.mean() > other.mean()


@pytest.mark.usefixtures("tiny_weights")
@pytest.mark.parametrize(("subject", "ways"), [("decoders", 8), ("geometry", 7), ("looks", 7)])
def test_the_command_prints_a_row_a_way_and_a_column_a_kind(subject, ways, monkeypatch, capsys):
    monkeypatch.setattr(compare, "KINDS", ("render", "scan"))

    assert main(["compare", subject, "--pages", "1"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [subject, "render", "scan", "all"]
    assert len(lines) == ways + 1
    ships = {"decoders": "(ships)", "geometry": "(ships)", "looks": "best"}
    assert ships[subject] in "".join(lines)


@pytest.mark.usefixtures("tiny_weights")
def test_geometry_is_compared_on_real_pictures_too(tmp_path, capsys):
    samples = Path(__file__).parents[1] / "samples"
    paired = tmp_path / "paired.csv"
    row = f"{samples}/sample_render.png,{samples}/sample_render.csv,500,render"
    paired.write_text(f"image,truth,fs,kind\n{row}\n")

    assert main(["compare", "geometry", "--paired", str(paired)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["geometry", "samples", "all"]
    assert len(lines) == 8
    assert main(["compare", "looks", "--paired", str(paired)]) == 2
