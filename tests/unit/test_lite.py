"""The shipped encoder is timm's network, layer for layer."""

import pytest
import torch

from ecg_digitize.nets import encoder, lite


@pytest.mark.parametrize(("in_channels", "levels", "size"), [(3, 5, (96, 64)), (6, 3, (65, 90))])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_names_are_those_of_timm(in_channels, levels, size, training):
    torch.manual_seed(0)
    theirs = encoder._timm().create_model(
        lite.NAME,
        features_only=True,
        pretrained=False,
        in_chans=in_channels,
        out_indices=tuple(range(levels)),
    )
    ours = lite.EfficientNetLite0(in_channels=in_channels, levels=levels)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, in_channels, *size)

    with torch.no_grad():
        got, want = ours.train(training)(x), theirs.train(training)(x)

    assert ours.channels == theirs.feature_info.channels()
    assert ours.reductions == theirs.feature_info.reduction()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_start_with_the_shipped_backbone_does_not_import_timm(run_python):
    code = """
import sys
from ecg_digitize import load_models
load_models()
print([name for name in ("timm", "torchvision", "pandas", "matplotlib") if name in sys.modules])
"""
    assert run_python(code).stdout == "[]\n"
