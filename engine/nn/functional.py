"""Alias of `engine.functional`, where PyTorch users look for it: `import engine.nn.functional as F`."""

import sys

from engine import functional
from engine.functional import *  # noqa: F403  (for type checkers; at run time the line below answers)

sys.modules[__name__] = functional
