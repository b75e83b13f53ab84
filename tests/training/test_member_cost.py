"""What members cost: one convolution by hand, and the table."""

import json

import pytest
import torch

from ecg_digitize.cli import main
from ecg_digitize.frames import RECT
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.training import member_cost
from ecg_digitize.training.member_cost import MemberCost, cost_of, to_text


def test_a_single_convolution_costs_what_it_does_by_hand(monkeypatch):
    monkeypatch.setattr(
        member_cost, "network_of", lambda _: torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    )
    pixels, weights = RECT.height_px * RECT.width_px, 3 * 8 * 9
    cost = cost_of("whole", batch=2)

    assert cost.million_weights == pytest.approx(weights / 1e6)
    assert cost.page_tflop == pytest.approx(2 * weights * pixels / 1e12)
    # The way back needs the picture; 16 bytes a weight are its gradient and moments.
    assert cost.training_gb == pytest.approx((2 * 2 * 3 * pixels + 16 * weights) / 1e9)
    assert cost.page_gb == pytest.approx(2 * (11 * pixels + weights) / 1e9)


def test_hours_are_operations_over_speed():
    cost = MemberCost("x", 1, 2, page_tflop=1.0, training_gb=1, page_gb=1, batch=4)

    assert cost.hours(records=100, epochs=36, tflops=3.0) == pytest.approx(1.0)
    assert "50 times 977 records" in to_text([cost], records=977, tflops=20)


def test_the_command_prints_all_members_and_writes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        member_cost, "network_of", lambda _: torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    )
    assert main(["bench", "--members", "--records", "10", "--json", str(tmp_path / "c.json")]) == 0

    table = capsys.readouterr().out
    written = json.loads((tmp_path / "c.json").read_text())
    assert [one["name"] for one in written] == list(MEMBERS)
    assert all(name in table for name in MEMBERS)
    assert "50 times 10 records" in table
