"""What each op means: its forward rule and, right beside it, its backward rule.

Names, arguments and defaults are those of torch.nn.functional; the deprecated ones (size_average, reduce) are left
out. Rules call backend functions only, so whole steps can be traced. A backward rule is a closure over just the arrays
that it needs. `inplace` is accepted everywhere and changes nothing: memory is reused by the allocator.

What a layer of `engine.nn.conv` computes stands in `_conv`, and so on: one module beside each module of layers.
"""

from engine.functional._activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from engine.functional._arguments import Place as Place
from engine.functional._conv import conv2d, conv2d_act, conv_transpose2d
from engine.functional._dropout import dropout, dropout2d, stochastic_depth
from engine.functional._linear import linear, linear_act
from engine.functional._loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    one_hot,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
from engine.functional._norm import (
    batch_norm,
    batch_norm_act,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
)
from engine.functional._padding import pad
from engine.functional._pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from engine.functional._shape import channel_shuffle, interleave, interpolate, pixel_shuffle, pixel_unshuffle
from engine.tensor import cat, chunk, concat, flatten, split, stack, unbind, where

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_act",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cat",
    "channel_shuffle",
    "chunk",
    "concat",
    "conv2d",
    "conv2d_act",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "flatten",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "interleave",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_act",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "sigmoid_focal_loss",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "softsign",
    "split",
    "stack",
    "stochastic_depth",
    "tanh",
    "unbind",
    "where",
]
