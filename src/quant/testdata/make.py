"""Writes dequantize.bin: rows of every supported tensor type and what gguf-py says their elements are.

    pip install gguf==0.19.0 numpy && python3 make.py

A record per row, numbers little-endian: u32 type id, u32 elements, u32 bytes, the bytes, the elements as f32.
gguf-py has no Q1_0: its definition stands here.
Three rows per type: random codes with ordinary scales, random and extreme codes with extreme scales, and random codes
with scales that are zero or subnormal.
"""

import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Offsets of the f16 numbers (scales, minima) in a block.
F16_FIELDS = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    Type.IQ4_NL: [0], Type.IQ4_XS: [0], Type.MXFP4: [],
    Type.IQ1_S: [0], Type.IQ1_M: [], Type.IQ2_XXS: [0], Type.IQ2_XS: [0], Type.IQ2_S: [0], Type.IQ3_XXS: [0],
    Type.IQ3_S: [0], Type.TQ1_0: [52], Type.TQ2_0: [64], Type.NVFP4: [], Type.Q1_0: [0],
}
PLAIN = {Type.F32: (np.uint32, 0x7F800000), Type.F16: (np.uint16, 0x7C00), Type.BF16: (np.uint16, 0x7F80)}

rng = np.random.default_rng(20240607)


def f16_bits(kind: int) -> int:
    """Ordinary: |x| <= 1. Extreme: largest, smallest normal, either sign. Tiny: zero of either sign, subnormal."""
    if kind == 0:
        return int(np.float16(rng.uniform(-1, 1)).view(np.uint16))
    if kind == 1:
        return int(rng.choice([0x7BFF, 0xFBFF, 0x0400, 0x8400, 0x3C00]))
    return int(rng.choice([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, rng.integers(1, 0x400)]))


def quantised_row(ty: Type, kind: int) -> np.ndarray:
    block_len, block_bytes = GGML_QUANT_SIZES[ty]
    blocks = rng.integers(0, 256, ((512 if block_len == 256 else 256) // block_len, block_bytes), dtype=np.uint8)
    if kind == 1:
        blocks[0] = 0xFF
        blocks[1, ::2] = 0x00
    for block in blocks:
        for at in F16_FIELDS[ty]:
            block[at : at + 2] = list(struct.pack("<H", f16_bits(kind)))
        if ty == Type.MXFP4:
            block[0] = [rng.integers(100, 150), rng.choice([254, 255]), rng.integers(0, 4)][kind]
        if ty == Type.NVFP4:
            block[:4] = [rng.integers(8, 0x80, 4), rng.choice([0x7E, 0x7F, 0x80, 0xFF], 4), rng.integers(0, 8, 4)][kind]
        if ty == Type.IQ1_M:
            d = f16_bits(kind)
            for i in range(4):  # four bits in each of the last words
                block[49 + 2 * i] = block[49 + 2 * i] & 15 | (d >> (4 * i) & 15) << 4
    return blocks.ravel()


def plain_row(ty: Type, kind: int) -> np.ndarray:
    """Any finite number, or (tiny) zeros and subnormals, of either sign."""
    dtype, infinity = PLAIN[ty]
    smallest_normal = infinity & -infinity
    magnitude = rng.integers(0, smallest_normal if kind == 2 else infinity, 256)
    magnitude[:4] = [0, smallest_normal - 1, smallest_normal, infinity - 1]
    sign = rng.integers(0, 2, 256) * (1 << (8 * dtype().itemsize - 1))
    return (magnitude | sign).astype(dtype).view(np.uint8)


def elements(ty: Type, row: np.ndarray) -> np.ndarray:
    if ty != Type.Q1_0:
        return dequantize(row.reshape(1, -1), ty).ravel().astype("<f4")
    # ggml's block_q1_0: an f16 and 128 bits, lowest first, set where the element is positive.
    blocks = row.reshape(-1, 18)
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return np.where(np.unpackbits(blocks[:, 2:], axis=1, bitorder="little"), d, -d).ravel()


with open(pathlib.Path(__file__).with_name("dequantize.bin"), "wb") as file, np.errstate(over="ignore"):
    for ty in [*PLAIN, *F16_FIELDS]:
        for kind in range(3):
            row = plain_row(ty, kind) if ty in PLAIN else quantised_row(ty, kind)
            expected = elements(ty, row)
            file.write(struct.pack("<III", ty, expected.size, row.size) + row.tobytes() + expected.tobytes())
