//! Matrices of plain numbers, or of blocks that become such: dot products in sixteen lanes (see `scalar.rs`).
use crate::{gguf::TensorType, kernels::simd::Simd};

/// Rows and tokens that the inner loop keeps in registers.
const ROWS: usize = 4;
const TOKENS: usize = 6;

/// `out[t * stride + r]` = row `r` times token `t`; the tokens' numbers lie `cols` apart from `x` on.
/// `scratch` has room for `ROWS * cols` numbers ([`scratch_len`]).
#[inline(always)]
pub unsafe fn rows<S: Simd>(
    ty: TensorType,
    weights: *const u8,
    rows: usize,
    cols: usize,
    x: *const f32,
    tokens: usize,
    scratch: *mut f32,
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let row_bytes = cols / ty.block_len() * ty.block_bytes();
        for first in (0..rows).step_by(ROWS) {
            let n = ROWS.min(rows - first);
            for i in 0..n {
                widen::<S>(ty, weights.add((first + i) * row_bytes), cols, scratch.add(i * cols));
            }
            for token in (0..tokens).step_by(TOKENS) {
                let x = x.add(token * cols);
                let out = out.add(token * stride + first);
                match (n == ROWS, TOKENS.min(tokens - token)) {
                    (true, TOKENS) => full::<S>(scratch, cols, x, out, stride),
                    (true, 1) => tile::<S, ROWS, 1>(scratch, cols, x, out, stride),
                    (_, count) => {
                        for t in 0..count {
                            for r in 0..n {
                                let (w, x) = (scratch.add(r * cols), x.add(t * cols));
                                tile::<S, 1, 1>(w, cols, x, out.add(t * stride + r), stride);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `ROWS` rows times `TOKENS` tokens, in quarters where the registers do not hold all sums.
#[inline(always)]
unsafe fn full<S: Simd>(w: *const f32, cols: usize, x: *const f32, out: *mut f32, stride: usize) {
    unsafe {
        if const { S::REGISTERS >= 32 } {
            return tile::<S, ROWS, TOKENS>(w, cols, x, out, stride);
        }
        const R: usize = ROWS / 2;
        const T: usize = TOKENS / 2;
        for (r, t) in [(0, 0), (R, 0), (0, T), (R, T)] {
            tile::<S, R, T>(w.add(r * cols), cols, x.add(t * cols), out.add(t * stride + r), stride);
        }
    }
}

pub fn scratch_len(cols: usize) -> usize {
    ROWS * cols
}

/// A row as `f32`.
#[inline(always)]
unsafe fn widen<S: Simd>(ty: TensorType, row: *const u8, cols: usize, out: *mut f32) {
    unsafe {
        let (blocks, size) = (cols / ty.block_len(), ty.block_bytes());
        // How many numbers an instruction reads.
        let whole = if ty.block_len() == 1 { cols / 16 * 16 } else { 0 };
        for k in (0..whole).step_by(16) {
            let p = row.add(k * size);
            let x = match ty {
                TensorType::F32 => S::load(p.cast()),
                TensorType::F16 => S::from_f16(p.cast()),
                _ => S::from_bf16(p.cast()),
            };
            S::store(out.add(k), x);
        }
        let tail = std::slice::from_raw_parts(row.add(whole * size), (blocks - whole) * size);
        crate::quant::for_each_weight(ty, tail, |i, weight| *out.add(whole + i) = weight);
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const T: usize>(
    w: *const f32,
    cols: usize,
    x: *const f32,
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let mut acc = [[S::splat(0.0); T]; R];
        let whole = cols / 16 * 16;
        for k in (0..whole).step_by(16) {
            let mut wv = [S::load(w.add(k)); R];
            for r in 1..R {
                wv[r] = S::load(w.add(r * cols + k));
            }
            for t in 0..T {
                let xv = S::load(x.add(t * cols + k));
                for r in 0..R {
                    acc[r][t] = S::fma(wv[r], xv, acc[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                let mut lanes = acc[r][t];
                if whole < cols {
                    let mut array = [0.0f32; 16];
                    S::store(array.as_mut_ptr(), lanes);
                    for k in whole..cols {
                        array[k - whole] = (*w.add(r * cols + k)).mul_add(*x.add(t * cols + k), array[k - whole]);
                    }
                    lanes = S::load(array.as_ptr());
                }
                *out.add(t * stride + r) = S::sum(lanes);
            }
        }
    }
}
