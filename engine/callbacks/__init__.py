"""Callbacks of `engine.train.Trainer`: what happens beside the five verbs.

A callback is any object with methods named after events (`engine.train.EVENTS`), each called with the trainer.
"""

from engine.callbacks.averaging import EMA as EMA, SWA as SWA, update_bn as update_bn
from engine.callbacks.base import Callback as Callback
from engine.callbacks.gradients import GradientClipping as GradientClipping, StopOnNaN as StopOnNaN
from engine.callbacks.mixing import Mixing as Mixing
from engine.callbacks.progress import Progress as Progress
from engine.callbacks.recording import HistoryLog as HistoryLog, TensorBoard as TensorBoard
from engine.callbacks.saving import Checkpoint as Checkpoint
from engine.callbacks.stopping import Convergence as Convergence, EarlyStopping as EarlyStopping
from engine.callbacks.unfreezing import GradualUnfreezing as GradualUnfreezing
