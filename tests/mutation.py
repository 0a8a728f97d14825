"""Damaged copies of a file, for fuzzing its reader."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

# More cases for a longer hunt: ENGINE_FUZZ_CASES=20000
FUZZ_CASES = int(os.environ.get("ENGINE_FUZZ_CASES", "400"))


def mutations(whole: bytes, seed: int, count: int = FUZZ_CASES, tokens: bytes = b"", focus: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged copies of `whole`, the same for the same seed.

    Args:
        whole: a valid file.
        seed: of the random numbers.
        count: number of copies.
        tokens: bytes that mean something in this format.
        focus: half of the changes fall into this many first bytes; 0 is no preference.
    """
    rng = random.Random(seed)
    lengths = (b"\0", b"\1", b"\x7f", b"\x80", b"\xff", b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f")
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            if not data:
                break
            limit = min(focus, len(data)) if focus and rng.random() < 0.5 else len(data)
            where = rng.randrange(limit)
            action = rng.randrange(8)
            if action == 0:
                data[where] ^= 1 << rng.randrange(8)
            elif action == 1:
                data[where] = rng.randrange(256)
            elif action == 2 and tokens:
                data[where] = rng.choice(tokens)
            elif action == 3 and tokens:
                data.insert(where, rng.choice(tokens))
            elif action == 4:
                del data[where : where + rng.choice((1, 1, 2, 4, 16, 64))]
            elif action == 5:
                piece = rng.choice(lengths)
                data[where : where + len(piece)] = piece
            elif action == 6:
                source = rng.randrange(len(data))
                piece = data[source : source + rng.choice((1, 4, 12, 46, 100))]
                data[where : where + rng.choice((0, len(piece)))] = piece
            elif rng.random() < 0.2:
                del data[where:]
        yield bytes(data)
