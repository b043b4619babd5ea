//! What the IQ formats share: grids, tables whose entries are eight or four codes at once, and signs that are kept apart.
//!
//! Source of the grids: gguf-py 0.19, by `grids/make.py`, which says how `grids.bin` is laid out.

const PACKED: [u8; 9216] = *include_bytes!("grids/grids.bin");

pub static IQ2_XXS: [u64; 256] = eights(0, [8, 25, 43]);
pub static IQ2_XS: [u64; 512] = eights(256, [8, 25, 43]);
pub static IQ2_S: [u64; 1024] = eights(768, [8, 25, 43]);
/// Eight times the grid's values -1, 0 and 1, so that the formats' deltas of an eighth are integers too.
pub static IQ1: [u64; 2048] = eights(1792, [-8, 0, 8]);
pub static IQ3_XXS: [u32; 256] = fours(3840, [4, 12, 20, 28, 36, 44, 52, 62]);
pub static IQ3_S: [u32; 512] = fours(4096, [1, 3, 5, 7, 9, 11, 13, 15]);

/// Per byte `s`: byte `i` is 0xff if bit `i` of `s` is set, that is, if code `i` of eight is negative.
pub(super) static SIGNS: [u64; 256] = {
    let mut masks = [0; 256];
    let mut s = 0;
    while s < 256 {
        masks[s] = spread(s as u8);
        s += 1;
    }
    masks
};

/// As [`SIGNS`], of which seven bits are given: an even number of eight codes is negative.
pub static EVEN_SIGNS: [u64; 128] = {
    let mut masks = [0; 128];
    let mut s = 0;
    while s < 128 {
        masks[s] = spread(s as u8 | ((s.count_ones() % 2) << 7) as u8);
        s += 1;
    }
    masks
};

/// Eight positive codes with the signs of a mask from [`SIGNS`]. As each code is at least 1, no byte's negation carries
/// into the next.
#[inline(always)]
pub(super) fn signed(codes: u64, signs: u64) -> [i8; 8] {
    ((codes ^ signs) + (signs & 0x0101_0101_0101_0101)).to_le_bytes().map(|b| b as i8)
}

/// Two grid entries of four codes as eight.
#[inline(always)]
pub(super) fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

const fn spread(bits: u8) -> u64 {
    let (mut mask, mut i) = (0, 0);
    while i < 8 {
        if bits >> i & 1 == 1 {
            mask |= 0xff << (8 * i);
        }
        i += 1;
    }
    mask
}

/// Entry `i` of `grids.bin`.
const fn packed(i: usize) -> usize {
    u16::from_le_bytes([PACKED[2 * i], PACKED[2 * i + 1]]) as usize
}

/// The `N` entries from `first` on as eight bytes each.
const fn eights<const N: usize>(first: usize, values: [i8; 3]) -> [u64; N] {
    let mut grid = [0; N];
    let mut i = 0;
    while i < N {
        let (mut entry, mut bytes) = (packed(first + i), [0; 8]);
        let mut k = 0;
        while k < 8 {
            bytes[k] = values[entry & 3] as u8;
            entry >>= 2;
            k += 1;
        }
        grid[i] = u64::from_le_bytes(bytes);
        i += 1;
    }
    grid
}

/// The `N` entries from `first` on as four bytes each.
const fn fours<const N: usize>(first: usize, values: [u8; 8]) -> [u32; N] {
    let mut grid = [0; N];
    let mut i = 0;
    while i < N {
        let entry = packed(first + i);
        let mut bytes = [0; 4];
        let mut k = 0;
        while k < 4 {
            bytes[k] = values[entry >> (3 * k) & 7];
            k += 1;
        }
        grid[i] = u32::from_le_bytes(bytes);
        i += 1;
    }
    grid
}
