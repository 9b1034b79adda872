"""The networks `net1` and `net2` of `viscera model count`, in PyTorch."""
from torch import cat, nn


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


def net(name):
    if name == "net1":
        return UNet([32, 64, 128, 256, 320, 320], residual=False)
    return UNet([16, 32, 64, 128, 256, 256], residual=True)
