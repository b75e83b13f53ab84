"""What is ink on a sheet, whatever its grid is printed in."""

import numpy as np
import pytest

from ecg_digitize.frames import Frame
from ecg_digitize.stage1.sight import is_ink

FRAME = Frame(2801, 200, (10.0, 4.0), (0.0, 55.0))


@pytest.mark.parametrize("line_rgb", [(240, 190, 190), (200, 90, 90), (118, 60, 56)])
def test_lines_are_no_ink_and_strokes_are(line_rgb: tuple[int, int, int]) -> None:
    seen = np.full((FRAME.height_px, FRAME.width_px, 3), 235, np.uint8)
    lines = (np.arange(FRAME.width_px) + 1) % 50 < 3
    seen[:, lines] = line_rgb
    stroke = np.zeros(seen.shape[:2], np.bool_)
    stroke[60:140, 1004:1012] = True  # aside of a line
    stroke[100:106, 1480:1520] = True  # across one
    seen[stroke] = (45, 42, 40)

    ink = is_ink(seen, FRAME)

    assert ink[stroke].all()
    assert not ink[~stroke].any()
