import copy

import torch

from ecg_digitize.stage1.net import Stage1Net
from ecg_digitize.training.depthwise import speed_up_depthwise


def test_sped_up_layers_compute_and_learn_the_same():
    torch.manual_seed(0)
    plain = Stage1Net().train()  # its encoder has strided, TensorFlow-padded and plain layers
    fast = copy.deepcopy(plain)
    speed_up_depthwise(fast, torch.float32)
    x = torch.randint(0, 255, (2, 3, 96, 128))

    out, out_fast = plain(x), fast(x)
    torch.testing.assert_close(out_fast, out)
    out.square().mean().backward()
    out_fast.square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_sped_up_layers_keep_activations_in_half_precision():
    layer = torch.nn.Conv2d(4, 4, 3, padding=1, groups=4)
    speed_up_depthwise(layer, torch.bfloat16)
    x = torch.randn(1, 4, 8, 8, requires_grad=True)
    out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
