"""How the score falls with severity: the same pages are asked in order, and the curve is drawn."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ecg_digitize import extras
from ecg_digitize.cli import main
from ecg_digitize.errors import InputError, StageError
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training import compare_severity as comparing
from ecg_digitize.training.compare_severity import SeverityCurves, compare_severity
from ecg_digitize.training.validate import VALIDATION_SEED
from ecg_digitize.types import Recording

SOURCE = SimulatorSource(validation=True)


class StandIn:
    """Reads the truth of the first page, the worse the more its picture differs from the mildest.

    The mildest picture is the first that it sees. Only what is asked of it can make its curve fall.
    """

    def __init__(self, kind):
        page = make_page(SOURCE, seed=VALIDATION_SEED, index=0, kind=kind, vary_signals=False)
        self.truth = printed_recording(page.signals_mv, fs_hz=TRACE_FS_HZ, layout=page.style.layout)
        self.mildest = None
        self.asked = []

    def __call__(self, page):
        grey = cv2.resize(cv2.cvtColor(page.image, cv2.COLOR_RGB2GRAY), (400, 300)).astype(float)
        self.mildest = grey if self.mildest is None else self.mildest
        self.asked.append(page.source)
        noise = np.random.default_rng(0).standard_normal(self.truth.signals_mv.shape)
        worse = 0.03 + np.abs(grey - self.mildest).mean() / 100
        read_mv = self.truth.signals_mv + worse * noise
        return Recording(read_mv.astype(np.float32), TRACE_FS_HZ, self.truth.layout)


def test_the_same_page_is_asked_at_each_severity_in_order():
    stand_in, steps = StandIn("scan"), []

    compared = compare_severity(
        SOURCE,
        stand_in,
        pages=1,
        kinds=["scan"],
        severities=(0, 1, 2),
        progress=lambda: steps.append(1),
    )

    assert stand_in.asked == [f"page 0 scan at severity {s:g}" for s in (0, 1, 2)]
    assert len(steps) == 3
    (points,) = compared.curves.values()
    assert [point.severity for point in points] == [0, 1, 2]
    means_db = [point.capped_db for point in points]
    assert all(np.diff(means_db) < 0)
    assert np.isnan(points[0].low_db)  # one page has no interval
    assert compared.to_text().split()[:3] == ["capped", "dB", "0"]
    assert compared.to_text().splitlines()[1].split() == ["scan", *(f"{x:.2f}" for x in means_db)]


@pytest.fixture
def quick_pages(monkeypatch):
    """Pages of one record that are made at once; the names of their kinds are all that differs."""
    page = make_page(SOURCE, seed=1, index=0, kind="scan", vary_signals=False)
    small = replace(page, image=page.image[:8, :8])

    def pages_of_each_kind(source, *, pages, kinds, seed, severity):
        made = ((index, kind) for kind in kinds for index in range(pages))
        return ((index, replace(small, kind=kind)) for index, kind in made)

    monkeypatch.setattr(comparing, "pages_of_each_kind", pages_of_each_kind)
    return printed_recording(page.signals_mv, fs_hz=TRACE_FS_HZ, layout=page.style.layout)


def test_pages_that_fail_count_as_zeros_and_are_told(quick_pages):
    def digitize(page):
        if page.source == "page 1 scan at severity 2":
            raise StageError("stage1", "no grid")
        return quick_pages

    compared = compare_severity(
        SOURCE, digitize, pages=2, kinds=["scan", "photo"], severities=(0, 2)
    )

    scan, photo, everything = (compared.curves[name] for name in ("scan", "photo", "all"))
    assert [point.capped_db for point in photo] == pytest.approx([25.84, 25.84], abs=0.01)
    assert scan[0] == photo[0]
    assert scan[1].capped_db == pytest.approx(25.84 / 2, abs=1)  # zeros have about 0 dB
    assert scan[1].low_db < 2 < 25 < scan[1].high_db
    assert [point.n_failed for point in scan] == [0, 1]
    assert everything[1].capped_db == pytest.approx(np.mean([scan[1].capped_db, 25.84]), abs=0.01)
    assert compared.to_text().splitlines()[-1] == "scan at 2: 1 of 2 pages failed"


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="no kind of page 'poster'; there are render, scan"):
        compare_severity(SOURCE, lambda page: pytest.fail("read"), pages=1, kinds=["poster"])


def test_the_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    point = comparing.Point
    falling = {
        kind: tuple(point(s, top - 3 * s, top - 3 * s - 1, top - 3 * s + 0.5, 0) for s in (0, 1, 2))
        for kind, top in (("scan", 25), ("photo", 22))
    }

    SeverityCurves(4, falling).draw(tmp_path / "new" / "curves.png")

    picture = cv2.imread(str(tmp_path / "new" / "curves.png"))
    height, width = picture.shape[:2]
    assert width > height > 400
    assert (picture[0, 0] == 255).all()
    assert 0.01 < (picture < 200).any(axis=-1).mean() < 0.2  # lines and letters on white
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["curves.png"]


@pytest.mark.usefixtures("tiny_weights")
def test_the_command_prints_and_draws(quick_pages, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    read = SimpleNamespace(recording=quick_pages)
    monkeypatch.setattr("ecg_digitize.pipeline.digitize_page", lambda page, models: read)
    picture = tmp_path / "curves.png"

    options = ["--pages", "1", "--kind", "scan", "photo", "--picture", str(picture)]
    assert main(["compare", "severity", *options]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["capped", "dB", "0", "0.5", "1", "1.5", "2"]
    assert lines[1:] == [[name, *["25.84"] * 5] for name in ("scan", "photo", "all")]
    assert picture.stat().st_size > 10_000


@pytest.mark.usefixtures("tiny_weights")
def test_what_cannot_be_done_is_said_before_the_first_page(monkeypatch, capsys):
    monkeypatch.setattr(extras.importlib, "import_module", _without_matplotlib)
    assert main(["compare", "severity", "--pages", "1", "--picture", "x.png"]) == 2
    assert 'pip install "ecg-digitize[plot]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "subject"),
    [
        ("json", "looks"),
        ("kind", "looks"),
        ("labels", "systems"),
        ("paired", "severity"),
        ("picture", "geometry"),
        ("printed", "overlap"),
        ("trained", "sheets"),
    ],
)
def test_options_of_other_subjects_are_refused(option, subject, capsys):
    assert main(["compare", subject, f"--{option}", "x"]) == 2
    told = capsys.readouterr().err
    assert f"--{option}: expected with " in told
    assert f"but got {subject}" in told


def _without_matplotlib(name):
    raise ImportError(name)
