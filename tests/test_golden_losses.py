"""Ten training losses of two small networks agree with those that PyTorch recorded, to 1e-4 relative."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from execution import ISAS, THREADS, running
from golden.recipe import STEPS, TRAININGS, losses

import engine

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", list(TRAININGS))
def test_losses_agree_with_recorded_ones(name: str) -> None:
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())["losses"]
    assert len(recorded) == STEPS + 1 and recorded[-2] < 0.7 * recorded[0], "the recording shows no learning"
    for isa in ISAS:
        with running(isa, 2):
            found = losses(engine, engine.functional, name)
        assert found == pytest.approx(recorded, rel=1e-4), isa
    for threads in THREADS:  # the last, best instruction set
        with running(ISAS[-1], threads):
            assert losses(engine, engine.functional, name) == found, f"{threads} threads give other losses than 2"
