"""Decoding undoes the label exactly, and the kernels equal their numpy twins on anything."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_digitize.layout import COMPETITION
from ecg_digitize.stage2.decode import decode, decode_numpy, true_trace_map
from ecg_digitize.stage2.ridges import DecodeOptions
from ecg_digitize.types import TraceMap

few = settings(max_examples=15, deadline=None)


@few
@given(
    seed=st.integers(0, 2**32 - 1),
    qrs_mv=st.floats(-4, 4),
    qrs_columns=st.integers(1, 40),
    wander_px=st.floats(0, 40),
    noise_px=st.floats(0, 3),
)
def test_decode_undoes_the_label(seed, qrs_mv, qrs_columns, wander_px, noise_px):
    rng = np.random.default_rng(seed)
    t = np.arange(5000)
    beats = np.zeros((4, 5000))
    # One beat in each twelfth: two on top of each other would be 8 mV.
    for start in np.arange(0, 4992, 416) + rng.integers(0, 416 - qrs_columns, 12):
        beats[:, start : start + qrs_columns] += (
            qrs_mv * COMPETITION.px_per_mv * np.hanning(qrs_columns + 2)[1:-1]
        )
    wander = wander_px * np.sin(t / rng.uniform(100, 1000) + rng.uniform(0, 6, (4, 1)))
    y_px = (
        np.array(COMPETITION.zero_px)[:, None]
        - beats
        + wander
        + noise_px * rng.normal(size=(4, 5000))
    )
    y_px = np.clip(y_px, 0.5, 1278.5).astype(np.float32)

    trace = decode(true_trace_map(y_px))

    assert np.abs(trace.y_px - y_px).max() < 0.01
    assert trace.confidence.min() > 0.999


@few
@given(
    seed=st.integers(0, 2**32 - 1),
    bins=st.integers(1, 48),
    spread=st.floats(0.02, 3),
    bad=st.floats(0, 1),
    bad_value=st.sampled_from([0.0, np.nan, np.inf, -1.0]),
    max_reach=st.integers(1, 40),
    n_ridges=st.integers(1, 5),
)
def test_kernels_equal_their_twins(seed, bins, spread, bad, bad_value, max_reach, n_ridges):
    rng = np.random.default_rng(seed)
    p = rng.gamma(spread, size=(4, bins, 5000))
    p = np.where(p.sum(1, keepdims=True) > 0, p / np.maximum(p.sum(1, keepdims=True), 1e-30), 0)
    p[np.broadcast_to(rng.random((4, 1, 5000)) < bad, p.shape)] = bad_value  # whole columns
    p[rng.random(p.shape) < 0.05 * bad] = bad_value  # and single bins
    trace_map = TraceMap(p.astype(np.float32), px_per_bin=2.0, first_px=0.5)
    options = DecodeOptions(max_reach=max_reach, n_ridges=n_ridges)

    fast, slow = decode(trace_map, options=options), decode_numpy(trace_map, options=options)

    np.testing.assert_allclose(fast.y_px, slow.y_px, rtol=1e-5)
    np.testing.assert_allclose(fast.confidence, slow.confidence, rtol=1e-5)
    assert np.isfinite(fast.y_px).all()
