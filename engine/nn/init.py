"""Alias of `engine.init`, where PyTorch users look for it: `from engine.nn import init`."""

import sys

from engine import init
from engine.init import *  # noqa: F403  (for type checkers; at run time the line below answers)

sys.modules[__name__] = init
