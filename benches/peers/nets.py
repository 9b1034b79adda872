"""Networks of `viscera model count` in PyTorch: `net1` and `net2`, and the families that `fixtures` have.

`a-fine` (here with a bias in every convolution) and `e-organ` need dynamic_network_architectures. PHTrans is not here:
the form in `fixtures` goes through its windows one by one, made to be checked against and not to be fast.
"""
import importlib.util
import sys
from functools import partial
from pathlib import Path

from torch import cat, nn
from torch.nn.functional import relu

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
sys.path.insert(0, str(FIXTURES))


def unit(ins, outs, stride=1, act=True):
    layers = [nn.Conv3d(ins, outs, 3, stride, 1), nn.InstanceNorm3d(outs, affine=True)]
    return nn.Sequential(*layers, *([nn.LeakyReLU(0.01, inplace=True)] if act else []))


class Residual(nn.Module):
    def __init__(self, ins, outs, stride):
        super().__init__()
        self.body = nn.Sequential(unit(ins, outs, stride), unit(outs, outs, act=False))
        skip = [nn.AvgPool3d(2)] if stride == 2 else []
        if ins != outs:
            skip += [nn.Conv3d(ins, outs, 1, bias=False), nn.InstanceNorm3d(outs, affine=True)]
        self.skip = nn.Sequential(*skip)
        self.act = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x):
        return self.act(self.body(x) + self.skip(x))


class UNet(nn.Module):
    """Encoder stages of two plain units or of one residual block; the decoder has two plain units per level."""

    def __init__(self, widths, residual, classes=14):
        super().__init__()
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (ins, outs) in enumerate(zip([1, *widths], widths)):
            stride = min(level, 1) + 1
            plain = nn.Sequential(unit(ins, outs, stride), unit(outs, outs))
            self.down.append(Residual(ins, outs, stride) if residual else plain)
        for low, high in zip(widths[:0:-1], widths[-2::-1]):
            self.up.append(nn.ConvTranspose3d(low, high, 2, 2))
            self.join.append(nn.Sequential(unit(2 * high, high), unit(high, high)))
        self.head = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x):
        levels = []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        for up, join, skip in zip(self.up, self.join, levels[-2::-1]):
            x = join(cat([up(x), skip], 1))
        return self.head(x)


def fixture(folder):
    """What the goldens of a network are made with."""
    spec = importlib.util.spec_from_file_location(folder.replace("-", "_"), FIXTURES / folder / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dmfnet(channels, classes, gate):
    module = fixture("net-dmfnet")
    module.GROUPS = 16
    gate = getattr(module, gate) if gate else Ungated
    return module.DmfNet(relu, "paper", gate, True, c_in=channels, n=32, c=128, c_out=classes)


class Ungated(nn.Module):
    def __init__(self, *_):
        super().__init__()

    def forward(self, low, up, skip):
        return skip


def nnunet(name, widths, classes, **other):
    from dynamic_network_architectures.architectures import unet

    norm = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
    act = {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"negative_slope": 0.01, "inplace": True}}
    depth = {"n_conv_per_stage_decoder": [2] * (len(widths) - 1), "num_classes": classes, "conv_bias": True}
    common = {"conv_op": nn.Conv3d, "kernel_sizes": [[3] * 3] * len(widths), **depth, **norm, **act}
    return getattr(unet, name)(1, len(widths), widths, **common, **other)


PLAIN = [32, 64, 128, 256, 320, 320]
HALVED = [[1] * 3] + [[2] * 3] * 5
NETS = {
    "net1": partial(UNet, PLAIN, residual=False),
    "net2": partial(UNet, [16, 32, 64, 128, 256, 256], residual=True),
    "a-fine": partial(
        nnunet,
        "PlainConvUNet",
        PLAIN,
        14,
        strides=[*HALVED[:5], [1, 2, 2]],
        n_conv_per_stage=[2] * 6,
        deep_supervision=False,
    ),
    "e-organ": partial(
        nnunet,
        "ResidualEncoderUNet",
        [16, 32, 64, 128, 256, 300],
        14,
        strides=HALVED,
        n_blocks_per_stage=[2] * 6,
        deep_supervision=True,
    ),
    "c-stage2": partial(dmfnet, 1, 14, "GroupedGate"),
    "dmfnet": partial(dmfnet, 4, 4, None),
    "d-coarse": lambda: fixture("net-coarse-unet").CoarseUnet(1, 8, 4, relu),
    "d-fine": lambda: fixture("net-efficientsegnet").EfficientSegNet(relu, 1, 16, 4, "paper"),
}
