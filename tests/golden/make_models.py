"""Writes models.json.xz: keys and shapes of torchvision's classification networks, and their parameter counts.

python tests/golden/make_models.py        # with torch and torchvision installed
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from torchvision_models import import_torchvision, without_initial_values

OUTPUT = Path(__file__).with_name("models.json.xz")
NOT_CONVOLUTIONAL = ("vit_*", "swin*", "maxvit*")


def main() -> None:
    _, torchvision = import_torchvision()
    golden = {}
    for name in torchvision.models.list_models(module=torchvision.models, exclude=NOT_CONVOLUTIONAL):
        with without_initial_values():
            model = torchvision.models.get_model(name)
        state = [[key, list(value.shape)] for key, value in model.state_dict().items()]
        golden[name] = {"parameters": sum(p.numel() for p in model.parameters()), "state_dict": state}
    text = json.dumps(golden, separators=(",", ":"))
    OUTPUT.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(golden)} models, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
