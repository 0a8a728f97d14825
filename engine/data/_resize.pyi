import numpy as np

def resize(
    image: np.ndarray,
    top: int,
    left: int,
    in_h: int,
    in_w: int,
    height: int,
    width: int,
    cubic: bool,
    antialias: bool,
) -> np.ndarray: ...
def resize_normalized(
    image: np.ndarray,
    top: int,
    left: int,
    in_h: int,
    in_w: int,
    out: np.ndarray,
    cubic: bool,
    antialias: bool,
    flip: bool,
    table: np.ndarray,
) -> None: ...
def resize_nearest(
    image: np.ndarray, top: int, left: int, in_h: int, in_w: int, height: int, width: int, exact: bool
) -> np.ndarray: ...
