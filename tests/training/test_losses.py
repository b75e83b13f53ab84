import numpy as np
import pytest
import torch

from ecg_digitize.training.losses import (
    MIXTURES,
    _ColumnStatistics,
    column_loss,
    draw_gaussians,
    marker_loss,
)


def test_column_statistics_have_the_gradients_of_the_composed_formula():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 17, 5, requires_grad=True)
    index = torch.stack([torch.randperm(17)[:4] for _ in range(30)]).view(2, 3, 5, 4).mT
    log_p, mean = _ColumnStatistics.apply(logits, index)
    (log_p.sum() * 0.3 + (mean**2).sum()).backward()
    got, logits.grad = logits.grad, None

    p = logits.softmax(2)
    composed = torch.einsum("nrhw,h->nrw", p, torch.arange(17.0))
    (p.gather(2, index).log().sum() * 0.3 + (composed**2).sum()).backward()

    torch.testing.assert_close(got, logits.grad, atol=1e-4, rtol=1e-4)


def test_column_loss_is_least_at_the_truth_and_ignores_nan():
    y = torch.full((1, 1, 4), 8.3)
    y[..., 3] = torch.nan
    bins = torch.arange(20.0)[None, None, :, None]

    def at(centre: float) -> float:
        logits = (-((bins - centre) ** 2) / (2 * 0.8**2)).expand(1, 1, 20, 4).clone()
        logits[..., 3] = 1e4 * torch.randn(20)
        return float(column_loss(logits, y))

    assert at(8.3) < at(8.1) < at(7.0) < at(3.0)
    assert at(8.3) < at(8.5)


@pytest.mark.parametrize("name", MIXTURES)
def test_every_mixture_draws_the_line_to_the_truth(name: str):
    torch.manual_seed(0)
    y = 12 + 6 * torch.sin(torch.arange(24) / 4)[None, None]
    y[..., 20:] = torch.nan
    logits = torch.zeros(1, 1, 30, 24, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(200):
        loss = column_loss(logits, y, mixture=MIXTURES[name])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    bins = torch.arange(30.0)[:, None]
    mean = (logits.softmax(2) * bins).sum(2)
    off = (mean - y)[..., :20].abs()
    assert off.max() < 0.6
    assert not logits.grad[..., 20:].any()


def test_gaussians_peak_at_their_points_and_skip_what_is_outside():
    target = draw_gaussians((20, 30), np.array([[5.25, 7.0], [-50, 3], [np.nan, 1]]), sigma_px=1.5)

    rows, columns = np.indices(target.shape)
    assert target.argmax() == 7 * 30 + 5
    assert abs((target * columns).sum() / target.sum() - 5.25) < 0.02
    assert abs((target * rows).sum() / target.sum() - 7.0) < 0.02


def test_marker_loss_falls_towards_the_target():
    target = torch.from_numpy(draw_gaussians((20, 30), np.array([[5.0, 7.0]]), sigma_px=1.5))
    right = torch.logit(target.clamp(1e-4, 1 - 1e-4))

    assert marker_loss(right, target) < marker_loss(torch.full_like(right, -5.0), target)


def test_errors_at_seams_weigh_more():
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 20, 8)
    bins = torch.arange(20.0)[:, None]
    logits[..., :4] = -((bins - 8) ** 2) / (2 * 0.8**2)  # the first half is right
    y = torch.full((1, 1, 8), 8.0)
    seams = torch.zeros(1, 1, 8, dtype=torch.bool)
    seams[..., 4:] = True

    plain = column_loss(logits, y)
    assert column_loss(logits, y, seams=seams) > plain > column_loss(logits, y, seams=~seams)
