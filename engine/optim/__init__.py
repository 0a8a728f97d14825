"""Optimizers and learning-rate schedules, named as in PyTorch."""

from engine.optim import lr_scheduler as lr_scheduler
from engine.optim.adagrad import Adagrad as Adagrad
from engine.optim.adam import Adam as Adam, AdamW as AdamW
from engine.optim.optimizer import Optimizer as Optimizer
from engine.optim.param_groups import param_groups as param_groups
from engine.optim.rmsprop import RMSprop as RMSprop
from engine.optim.sgd import SGD as SGD
