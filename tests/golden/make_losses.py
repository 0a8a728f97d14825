"""Records the losses of the trainings in recipe.py with PyTorch: python tests/golden/make_losses.py"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from recipe import TRAININGS, losses

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    for name in TRAININGS:
        recorded = losses(torch, torch.nn.functional, name)
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(json.dumps({"made_with": f"torch {torch.__version__}", "losses": recorded}, indent=1) + "\n")
        print(path.name, [round(value, 4) for value in recorded])
