"""engine: train, fine-tune and deploy convolutional networks.

Tensors, layers and optimizers have PyTorch's names and semantics. What is heavy or rarely needed (data, train, io,
models, ...) is imported at its first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

try:
    from engine import backend as backend
except ModuleNotFoundError as error:
    if error.name != "engine._C":
        raise
    raise ImportError(
        f"[engine] expected the compiled part engine._C in {os.path.dirname(__file__)}, found none: this is the source "
        "tree, not the installed package: start Python in another folder, or build here with: python setup.py "
        "build_ext --inplace"
    ) from None
from engine import functional as functional, nn as nn, optim as optim, random as random
from engine._version import __version__ as __version__
from engine.algorithms import (
    autotune as autotune,
    get_conv_algorithm as get_conv_algorithm,
    set_conv_algorithm as set_conv_algorithm,
)
from engine.autograd import (
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    is_grad_enabled as is_grad_enabled,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)
from engine.backend import (
    available_isas as available_isas,
    build_info as build_info,
    empty_cache as empty_cache,
    isa as isa,
    memory_stats as memory_stats,
    num_threads as num_threads,
    set_num_threads as set_num_threads,
)
from engine.functional import (
    log_softmax as log_softmax,
    softmax as softmax,
)
from engine.random import (
    get_rng_state as get_rng_state,
    initial_seed as initial_seed,
    manual_seed as manual_seed,
    seed as seed,
    set_rng_state as set_rng_state,
)
from engine.tensor import (
    Parameter as Parameter,
    Tensor as Tensor,
    abs as abs,
    add as add,
    allclose as allclose,
    amax as amax,
    amin as amin,
    arange as arange,
    argmax as argmax,
    argmin as argmin,
    as_tensor as as_tensor,
    bool as bool,
    cat as cat,
    ceil as ceil,
    chunk as chunk,
    clamp as clamp,
    clip as clip,
    concat as concat,
    cos as cos,
    div as div,
    dtype as dtype,
    empty as empty,
    empty_like as empty_like,
    equal as equal,
    erf as erf,
    exp as exp,
    expm1 as expm1,
    eye as eye,
    flatten as flatten,
    float32 as float32,
    floor as floor,
    from_dlpack as from_dlpack,
    from_numpy as from_numpy,
    full as full,
    full_like as full_like,
    gather as gather,
    index_select as index_select,
    int32 as int32,
    int64 as int64,
    is_tensor as is_tensor,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    linspace as linspace,
    log as log,
    log1p as log1p,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    matmul as matmul,
    max as max,
    maximum as maximum,
    mean as mean,
    min as min,
    minimum as minimum,
    movedim as movedim,
    mul as mul,
    neg as neg,
    norm as norm,
    normal as normal,
    numel as numel,
    ones as ones,
    ones_like as ones_like,
    permute as permute,
    pow as pow,
    prod as prod,
    rand as rand,
    rand_like as rand_like,
    randint as randint,
    randn as randn,
    randn_like as randn_like,
    randperm as randperm,
    reciprocal as reciprocal,
    relu as relu,
    reshape as reshape,
    round as round,
    rsqrt as rsqrt,
    sigmoid as sigmoid,
    sign as sign,
    sin as sin,
    split as split,
    sqrt as sqrt,
    square as square,
    squeeze as squeeze,
    stack as stack,
    std as std,
    sub as sub,
    sum as sum,
    tanh as tanh,
    tensor as tensor,
    transpose as transpose,
    uint8 as uint8,
    unbind as unbind,
    unsqueeze as unsqueeze,
    var as var,
    where as where,
    zeros as zeros,
    zeros_like as zeros_like,
)

if TYPE_CHECKING:
    from engine import (
        callbacks as callbacks,
        data as data,
        interpret as interpret,
        io as io,
        metrics as metrics,
        models as models,
        plots as plots,
        report as report,
        train as train,
    )
    from engine.fine_tuning import fine_tune as fine_tune
    from engine.io.weights_file import load_weights as load_weights, save_weights as save_weights
    from engine.lr_finder import lr_find as lr_find

get_num_threads = num_threads
float, int, long = float32, int32, int64

_LAZY = ("callbacks", "cli", "cuda", "data", "interpret", "io", "metrics", "models", "plots", "report", "train")
_LAZY_FUNCTIONS = {  # name -> module
    "fine_tune": "fine_tuning",
    "load_weights": "io.weights_file",
    "lr_find": "lr_finder",
    "save_weights": "io.weights_file",
}

if os.environ.get("ENGINE_AUTOTUNE"):
    autotune(os.environ["ENGINE_AUTOTUNE"])


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return importlib.import_module(f"engine.{name}")
    if name in _LAZY_FUNCTIONS:
        return getattr(importlib.import_module(f"engine.{_LAZY_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_FUNCTIONS})
