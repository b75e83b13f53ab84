"""Networks that stage 2 can be, by name."""

from typing import Final

from ecg_digitize.manifest import Architecture

BACKBONE: Final = "tf_efficientnet_lite0"
"""What all networks with an encoder that ship are built on."""
_LARGE: Final = {"decoder": (256, 128, 64, 32), "detail": 32}

MEMBERS: Final = {
    "whole": Architecture("WholeNet", {"backbone": BACKBONE}),
    "series-conv2d": Architecture("SeriesNet", {"backbone": BACKBONE, "fusion": "conv2d"}),
    "series-shared": Architecture("SeriesNet", {"backbone": BACKBONE, "fusion": "shared"}),
    "series-conv3d": Architecture("SeriesNet", {"backbone": BACKBONE, "fusion": "conv3d"}),
    "whole-b7": Architecture("WholeNet", {"backbone": "tf_efficientnet_b7", **_LARGE}),
    "whole-v2l": Architecture("WholeNet", {"backbone": "tf_efficientnetv2_l", **_LARGE}),
    "series-b6-conv2d": Architecture(
        "SeriesNet", {"backbone": "tf_efficientnet_b6", "fusion": "conv2d", **_LARGE}
    ),
    "series-b6-shared": Architecture(
        "SeriesNet", {"backbone": "tf_efficientnet_b6", "fusion": "shared", **_LARGE}
    ),
    "series-v2l-shared": Architecture(
        "SeriesNet", {"backbone": "tf_efficientnetv2_l", "fusion": "shared", **_LARGE}
    ),
    "series-v2l-conv3d": Architecture(
        "SeriesNet", {"backbone": "tf_efficientnetv2_l", "fusion": "conv3d", **_LARGE}
    ),
}
"""The first four train on a CPU, and "whole" ships. The six large ones are the ensemble of the
competition's second place (two whole pages, four series; EfficientNet-B7, B6 and V2-L), for whoever
has a big GPU; ImageNet weights of their backbones are given to `train --encoder`. Inputs have mean
and deviation 0.5 here, which B6 and B7 of timm's were not trained with."""
