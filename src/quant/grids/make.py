"""Writes grids.bin: the grids of the IQ formats, from gguf-py.

    pip install gguf==0.19.0 numpy && python3 make.py

A little-endian u16 per entry: the indices into the grid's few values, two bits each for entries of eight elements, three
bits each for entries of four, first element lowest. The order is that of `grid.rs`.
"""

import pathlib

import numpy as np
from gguf import quants

with open(pathlib.Path(__file__).with_name("grids.bin"), "wb") as file:
    for format in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S", "IQ3_XXS", "IQ3_S"]:
        of = getattr(quants, format)
        of.init_grid()
        grid = of.grid.reshape(of.grid_shape)
        indices = np.searchsorted(of.grid_map, grid).astype(np.uint16)
        assert (np.array(of.grid_map)[indices] == grid).all()
        bits = {8: 2, 4: 3}[grid.shape[1]]
        entries = sum(indices[:, i] << (bits * i) for i in range(grid.shape[1]))
        file.write(entries.astype("<u2").tobytes())
