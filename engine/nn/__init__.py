"""Layers, containers and losses, named as in PyTorch."""

from engine.nn import functional as functional, init as init, utils as utils
from engine.nn.activation import (
    ELU as ELU,
    GELU as GELU,
    Hardsigmoid as Hardsigmoid,
    Hardswish as Hardswish,
    Hardtanh as Hardtanh,
    LeakyReLU as LeakyReLU,
    LogSigmoid as LogSigmoid,
    LogSoftmax as LogSoftmax,
    Mish as Mish,
    PReLU as PReLU,
    ReLU as ReLU,
    ReLU6 as ReLU6,
    SELU as SELU,
    SiLU as SiLU,
    Sigmoid as Sigmoid,
    Softmax as Softmax,
    Softplus as Softplus,
    Softsign as Softsign,
    Tanh as Tanh,
)
from engine.nn.container import (
    ModuleDict as ModuleDict,
    ModuleList as ModuleList,
    ParameterDict as ParameterDict,
    ParameterList as ParameterList,
    Sequential as Sequential,
)
from engine.nn.conv import (
    Conv2d as Conv2d,
    ConvTranspose2d as ConvTranspose2d,
)
from engine.nn.dropout import (
    Dropout as Dropout,
    Dropout2d as Dropout2d,
    StochasticDepth as StochasticDepth,
)
from engine.nn.linear import (
    Identity as Identity,
    Linear as Linear,
)
from engine.nn.loss import (
    BCELoss as BCELoss,
    BCEWithLogitsLoss as BCEWithLogitsLoss,
    CrossEntropyLoss as CrossEntropyLoss,
    FocalLoss as FocalLoss,
    HuberLoss as HuberLoss,
    KLDivLoss as KLDivLoss,
    L1Loss as L1Loss,
    MSELoss as MSELoss,
    NLLLoss as NLLLoss,
    SmoothL1Loss as SmoothL1Loss,
)
from engine.nn.module import Module as Module
from engine.nn.norm import (
    BatchNorm1d as BatchNorm1d,
    BatchNorm2d as BatchNorm2d,
    GroupNorm as GroupNorm,
    InstanceNorm2d as InstanceNorm2d,
    LayerNorm as LayerNorm,
    LocalResponseNorm as LocalResponseNorm,
)
from engine.nn.padding import (
    CircularPad2d as CircularPad2d,
    ConstantPad2d as ConstantPad2d,
    ReflectionPad2d as ReflectionPad2d,
    ReplicationPad2d as ReplicationPad2d,
    ZeroPad2d as ZeroPad2d,
)
from engine.nn.parameter import Parameter as Parameter
from engine.nn.pool import (
    AdaptiveAvgPool2d as AdaptiveAvgPool2d,
    AdaptiveMaxPool2d as AdaptiveMaxPool2d,
    AvgPool2d as AvgPool2d,
    MaxPool2d as MaxPool2d,
)
from engine.nn.shape import (
    ChannelShuffle as ChannelShuffle,
    Flatten as Flatten,
    PixelShuffle as PixelShuffle,
    PixelUnshuffle as PixelUnshuffle,
    Unflatten as Unflatten,
    Upsample as Upsample,
)
