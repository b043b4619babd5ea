//! Matrices of plain numbers, or of blocks that become such, times many tokens. Sixteen rows are turned, so that a vector
//! is a column of theirs and meets one number of each token: of what is loaded for sixteen products, all but one number
//! stays for those of the next tokens.
//!
//! Each sixteenth column adds to the same of the sixteen sums of `scalar.rs`. These are computed one after the other, each
//! for all tokens, in an order in which the tree that joins them keeps few waiting.
use super::{
    ahead::{Ahead, prefetch_near},
    float::{Bf16, F16, F32, Plain},
    panel::{GROUP_ROWS, LONE_TILE, PANEL_ROWS, PANELS, TILE},
};
use crate::{
    gguf::TensorType,
    kernels::{formats::with_count, simd::Simd},
};

/// Tokens whose sums the registers hold, and thus the best number in a tile.
pub const TOKENS: usize = 6;
/// Tokens from which on turning rows pays.
pub const TILED_FROM: usize = 36;
/// Sums of a row and a token.
const LANES: usize = 16;
/// How many of them ask for the next rows.
const LATE: usize = 4;
/// Most of them that wait for another.
const WAITING: usize = LANES.ilog2() as usize;

/// Numbers in a tile: `[lane][step][token]`, with room for [`LONE_TILE`] tokens.
pub const fn tile_len(cols: usize) -> usize {
    LANES * cols.div_ceil(LANES) * LONE_TILE
}

/// Numbers between the lanes of sixteen turned rows, `[lane][step][row]`: a line more than they need, or they would all
/// want the same places in the cache.
const fn lane_len(cols: usize) -> usize {
    LANES * (cols.div_ceil(LANES) + 1)
}

/// Numbers of scratch that [`group`] needs: turned rows, sums that wait, and rows that become plain numbers.
pub const fn scratch_len(cols: usize, tiles: usize) -> usize {
    PANELS * LANES * lane_len(cols) + tiles * LONE_TILE * WAITING * GROUP_ROWS + PANEL_ROWS * cols
}

/// Packs the numbers of up to [`LONE_TILE`] tokens into a tile.
pub fn pack(rows: &[&[f32]], out: &mut [f32]) {
    let cols = rows[0].len();
    let lanes = out.len() / LANES;
    for k in 0..cols {
        let at = k % LANES * lanes + k / LANES * LONE_TILE;
        for (out, row) in out[at..].iter_mut().zip(rows) {
            *out = row[k];
        }
    }
}

/// 32 rows (as for [`panel::group_256`](super::panel::group_256)) of `cols` columns times a run of tiles: `tiles[i]` has
/// `counts[i]` tokens, and `out[i]` receives `[token][32 rows]`, [`TILE`] tokens apart.
/// `scratch` has room for [`scratch_len`] numbers.
#[inline(always)]
pub unsafe fn group<S: Simd>(
    ty: TensorType,
    rows: &[*const u8; GROUP_ROWS],
    cols: usize,
    tiles: &[(*const f32, usize)],
    scratch: *mut f32,
    out: *mut f32,
) {
    unsafe {
        if const { S::REGISTERS >= 32 } {
            panels::<S, PANELS>(ty, rows, cols, tiles, scratch, out);
        } else {
            for (g, rows) in rows.chunks(PANEL_ROWS).enumerate() {
                panels::<S, 1>(ty, rows, cols, tiles, scratch, out.add(PANEL_ROWS * g));
            }
        }
    }
}

/// `R` times sixteen rows.
#[inline(always)]
unsafe fn panels<S: Simd, const R: usize>(
    ty: TensorType,
    rows: &[*const u8],
    cols: usize,
    tiles: &[(*const f32, usize)],
    scratch: *mut f32,
    out: *mut f32,
) {
    unsafe {
        let panel = LANES * lane_len(cols);
        let waiting = scratch.add(R * panel);
        let wide = waiting.add(tiles.len() * LONE_TILE * WAITING * R * PANEL_ROWS);
        for (r, rows) in rows.as_chunks::<PANEL_ROWS>().0.iter().enumerate() {
            turn_any::<S>(ty, rows, cols, wide, scratch.add(r * panel));
        }
        // Those that come next, asked for so late that tokens do not take their place in the cache.
        let bytes = rows.len() * (cols / ty.block_len() * ty.block_bytes());
        let mut ahead = Ahead::<2>::new(rows[0].wrapping_add(bytes));
        ahead.allow(bytes, LATE * tiles.len());
        for i in 0..LANES {
            // Lane i + 8 follows lane i, lane i + 4 these two, and so on.
            let lane = i.reverse_bits() >> (usize::BITS - LANES.ilog2());
            let at = lane * tile_len(cols) / LANES;
            for (j, &(tile, count)) in tiles.iter().enumerate() {
                if i >= LANES - LATE {
                    ahead.step::<S>();
                }
                let next = tiles.get(j + 1).map_or(tile, |tile| tile.0).wrapping_add(at);
                let halves = if count > TOKENS { 2 } else { 1 };
                for half in 0..halves {
                    let (from, to) = (half * count / halves, (half + 1) * count / halves);
                    let sums = Sums {
                        columns: scratch.add(lane * lane_len(cols)),
                        panel,
                        steps: (cols + LANES - 1 - lane) / LANES,
                        tokens: tile.add(at + from),
                        next,
                        waiting: waiting.add((j * LONE_TILE + from) * WAITING * R * PANEL_ROWS),
                        out: out.add((j * TILE + from) * GROUP_ROWS),
                    };
                    with_count!([1 2 3 4 5 6] to - from, T => sums.add::<S, R, T>(i));
                }
            }
        }
    }
}

/// One lane of the sums of some rows and tokens.
struct Sums {
    /// Those of the next sixteen rows lie `panel` numbers further.
    columns: *const f32,
    panel: usize,
    steps: usize,
    tokens: *const f32,
    /// Tokens that come after these.
    next: *const f32,
    /// `[level][token][row]`.
    waiting: *mut f32,
    out: *mut f32,
}

impl Sums {
    /// Computes lane number `i` and joins it with those that wait for it. The last one completes them.
    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize, const T: usize>(self, i: usize) {
        unsafe {
            let mut acc = [[S::splat(0.0); T]; R];
            for k in 0..self.steps {
                prefetch_near(self.next.wrapping_add(LONE_TILE * k));
                for r in 0..R {
                    let column = S::load(self.columns.add(r * self.panel + LANES * k));
                    for t in 0..T {
                        acc[r][t] = S::fma_number(column, self.tokens.add(LONE_TILE * k), t, acc[r][t]);
                    }
                }
            }
            let waiting = |level, r, t| self.waiting.wrapping_add(((level * T + t) * R + r) * LANES);
            let mut level = i.count_ones() as usize;
            for _ in 0..i.trailing_ones() {
                level -= 1;
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = S::add(S::load(waiting(level, r, t)), acc[r][t]);
                    }
                }
            }
            for r in 0..R {
                for t in 0..T {
                    let complete = self.out.wrapping_add(t * GROUP_ROWS + r * PANEL_ROWS);
                    S::store(if i == LANES - 1 { complete } else { waiting(level, r, t) }, acc[r][t]);
                }
            }
        }
    }
}

/// Turns sixteen rows of any type. `wide` has room for them as plain numbers.
#[inline(always)]
unsafe fn turn_any<S: Simd>(
    ty: TensorType,
    rows: &[*const u8; PANEL_ROWS],
    cols: usize,
    wide: *mut f32,
    out: *mut f32,
) {
    unsafe {
        match ty {
            TensorType::F32 => turn::<S, F32>(rows, cols, out),
            TensorType::F16 => turn::<S, F16>(rows, cols, out),
            TensorType::BF16 => turn::<S, Bf16>(rows, cols, out),
            _ => {
                for (r, &row) in rows.iter().enumerate() {
                    let row = std::slice::from_raw_parts(row, cols / ty.block_len() * ty.block_bytes());
                    crate::quant::for_each_weight(ty, row, |i, weight| *wide.add(r * cols + i) = weight);
                }
                turn::<S, F32>(&std::array::from_fn(|r| wide.add(r * cols).cast_const().cast()), cols, out);
            }
        }
    }
}

/// `out[lane][step][r]` = number `16 step + lane` of row `r`.
#[inline(always)]
unsafe fn turn<S: Simd, P: Plain>(rows: &[*const u8; PANEL_ROWS], cols: usize, out: *mut f32) {
    unsafe {
        let whole = cols / LANES;
        for step in 0..whole {
            let at = rows.map(|row| row.add(LANES * step * P::BYTES));
            S::turn::<P>(at, out.add(LANES * step), lane_len(cols));
        }
        for k in LANES * whole..cols {
            for r in 0..PANEL_ROWS {
                *out.add(k % LANES * lane_len(cols) + LANES * whole + r) = P::one(rows[r].add(k * P::BYTES));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{portable::Portable, scalar};

    /// Also what Miri sees of this.
    #[test]
    fn products_are_those_of_the_definition() {
        let all = [(TensorType::F16, 21), (TensorType::F32, 37), (TensorType::BF16, 5), (TensorType::NVFP4, 64)];
        for &(ty, cols) in if cfg!(miri) { &all[..1] } else { &all } {
            let row_bytes = cols / ty.block_len() * ty.block_bytes();
            // Finite numbers in each of these types.
            let weights: Vec<u8> = (0..GROUP_ROWS * row_bytes).map(|i| (i * 89 % 63) as u8).collect();
            let tokens: Vec<Vec<f32>> =
                (0..14).map(|t| (0..cols).map(|k| ((k * 31 + t * 17) % 29) as f32 - 14.0).collect()).collect();
            let mut tiles = vec![vec![0.0; tile_len(cols)]; 3];
            let parts = [&tokens[..1], &tokens[1..6], &tokens[6..]];
            for (tile, part) in tiles.iter_mut().zip(parts) {
                pack(&part.iter().map(|token| token.as_slice()).collect::<Vec<_>>(), tile);
            }
            let rows: [_; GROUP_ROWS] = std::array::from_fn(|r| weights[r * row_bytes..].as_ptr());
            let list: Vec<_> = tiles.iter().zip(parts).map(|(tile, part)| (tile.as_ptr(), part.len())).collect();
            for both in [false, true] {
                let mut scratch = vec![f32::NAN; scratch_len(cols, 3)];
                let mut out = vec![f32::NAN; 3 * LONE_TILE * GROUP_ROWS];
                let (scratch, y) = (scratch.as_mut_ptr(), out.as_mut_ptr());
                // SAFETY (both): plain arrays need no instruction set; all sizes are as `group` says.
                match both {
                    false => unsafe { group::<Portable>(ty, &rows, cols, &list, scratch, y) },
                    true => unsafe { panels::<Portable, PANELS>(ty, &rows, cols, &list, scratch, y) },
                }
                for (i, part) in parts.into_iter().enumerate() {
                    for (t, token) in part.iter().enumerate() {
                        for (r, row) in weights.chunks(row_bytes).enumerate() {
                            let found = out[(i * TILE + t) * GROUP_ROWS + r];
                            let expected = scalar::dot_f32(ty, row, token);
                            assert_eq!(found.to_bits(), expected.to_bits(), "{} row {r} token {t} of {i}", ty.name());
                        }
                    }
                }
            }
        }
    }
}
