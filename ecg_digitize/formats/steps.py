"""Millivolts -> 16 bit steps, for formats that hold integers."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.errors import InputError
from ecg_digitize.types import Recording

NOT_SEEN: Final = -32768
"""The value of samples that are not printed, or not seen. No sample that is seen has it."""

MAX_STEP_UV: Final = 32
"""Up to 1049 mV, a hundred times what electrodes on the skin see. The range in uV then still fits
the eight characters that EDF has for it."""


@dataclass(frozen=True)
class Steps:
    """A recording in whole steps."""

    values: NDArray[np.int16]  # (12, n) in LEADS order, NOT_SEEN where the recording has NaN
    step_uv: int  # microvolts a step: 1, or the least power of two that holds all samples


def to_steps(recording: Recording) -> Steps:
    """Round a recording to steps of 1 microvolt, or of more where 16 bits do not hold it.

    So nothing is ever clipped: steps of 1 microvolt hold 32.767 mV, and each file says its step.

    Raises:
        InputError: A sample is infinite, or no surface ECG.
    """
    uv = recording.signals_mv.astype(np.float64) * 1000
    peak_uv = float(np.abs(uv[~np.isnan(uv)]).max(initial=0.0))
    step_uv = 1
    while np.rint(peak_uv / step_uv) > -NOT_SEEN - 1 and step_uv <= MAX_STEP_UV:
        step_uv *= 2
    if step_uv > MAX_STEP_UV:
        raise InputError(
            f"a sample of {peak_uv / 1000:.4g} mV is no surface ECG, at most "
            f"{-NOT_SEEN * MAX_STEP_UV / 1000:.0f} mV can be written; say --gain if the sheet's is "
            "known"
        )
    values = np.where(np.isnan(uv), NOT_SEEN, np.rint(uv / step_uv)).astype(np.int16)
    return Steps(values, step_uv)
