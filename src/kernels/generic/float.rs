//! Matrices of plain numbers, or of blocks that become such, times a few tokens: dot products in sixteen lanes (see
//! `scalar.rs`).
use super::ahead::{FAR, prefetch_near};
use crate::{
    gguf::TensorType,
    kernels::{formats::with_count, simd::Simd},
    quant::{bf16_to_f32, f16_to_f32},
};
use std::marker::PhantomData;

/// Rows that meet the same tokens one after the other, so that the tokens are read once for all of them.
pub const ROWS: usize = 16;
/// Tokens that the inner loop keeps in registers, at most.
pub const TOKENS: usize = 6;
/// From how many places rows are read at a time for the tokens of one tile. On AVX2: with AVX-512, asking for the next rows
/// was as fast as memory, and this is not measured there.
const RUNS: usize = 4;
/// By how many bytes they are asked for early.
const AHEAD: usize = 512;
/// Columns of these rows and tokens that fit the first-level cache.
const COLUMNS: usize = 1024;

/// How numbers are stored.
pub trait Plain: Copy {
    const BYTES: usize;
    unsafe fn load<S: Simd>(p: *const u8) -> S::F;
    unsafe fn one(p: *const u8) -> f32;
}

#[derive(Clone, Copy)]
pub struct F32;
impl Plain for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        unsafe { S::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        unsafe { p.cast::<f32>().read_unaligned() }
    }
}

#[derive(Clone, Copy)]
pub struct F16;
impl Plain for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        unsafe { S::from_f16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        f16_to_f32(unsafe { p.cast::<u16>().read_unaligned() })
    }
}

#[derive(Clone, Copy)]
pub struct Bf16;
impl Plain for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        unsafe { S::from_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn one(p: *const u8) -> f32 {
        bf16_to_f32(unsafe { p.cast::<u16>().read_unaligned() })
    }
}

/// Rows of numbers stored in one way.
#[derive(Clone, Copy)]
struct Matrix<P> {
    data: *const u8,
    cols: usize,
    /// How many rows further the next one lies, in the file and in the results.
    apart: usize,
    stored: PhantomData<P>,
}

/// Some tokens, `cols` numbers each, and where their products go: `out[t * stride + r]`.
#[derive(Clone, Copy)]
struct Tokens {
    x: *const f32,
    count: usize,
    out: *mut f32,
    stride: usize,
}

/// `out[t * stride + r]` = row `r` times token `t`; the tokens' numbers lie `cols` apart from `x` on.
/// `scratch` has room for [`scratch_len`] numbers.
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
        let tokens = Tokens { x, count: tokens, out, stride };
        let in_runs = S::REGISTERS < 32 && tokens.count <= TOKENS / 2 && ty.block_len() == 1;
        let apart = if in_runs { rows / RUNS } else { 0 };
        for first in 0..apart {
            let tokens = Tokens { out: out.add(first), ..tokens };
            some::<S>(ty, weights.add(first * row_bytes), RUNS, apart, cols, tokens, scratch);
        }
        for first in (RUNS * apart..rows).step_by(ROWS) {
            let tokens = Tokens { out: out.add(first), ..tokens };
            some::<S>(ty, weights.add(first * row_bytes), ROWS.min(rows - first), 1, cols, tokens, scratch);
        }
    }
}

/// Up to [`ROWS`] rows, `apart` rows from each other; one after the other unless they are plain numbers.
#[inline(always)]
unsafe fn some<S: Simd>(
    ty: TensorType,
    data: *const u8,
    rows: usize,
    apart: usize,
    cols: usize,
    tokens: Tokens,
    scratch: *mut f32,
) {
    unsafe {
        match ty {
            TensorType::F32 => Matrix::<F32>::of(data, cols, apart).times::<S>(rows, tokens),
            TensorType::F16 => Matrix::<F16>::of(data, cols, apart).times::<S>(rows, tokens),
            TensorType::BF16 => Matrix::<Bf16>::of(data, cols, apart).times::<S>(rows, tokens),
            _ => {
                let bytes = std::slice::from_raw_parts(data, rows * (cols / ty.block_len() * ty.block_bytes()));
                crate::quant::for_each_weight(ty, bytes, |i, weight| *scratch.add(i) = weight);
                Matrix::<F32>::of(scratch.cast(), cols, 1).times::<S>(rows, tokens);
            }
        }
    }
}

pub fn scratch_len(cols: usize) -> usize {
    ROWS * cols
}

impl<P: Plain> Matrix<P> {
    #[inline(always)]
    fn of(data: *const u8, cols: usize, apart: usize) -> Self {
        Self { data, cols, apart, stored: PhantomData }
    }

    #[inline(always)]
    unsafe fn at(&self, row: usize, column: usize) -> *const u8 {
        unsafe { self.data.add((row * self.apart * self.cols + column) * P::BYTES) }
    }

    /// Up to [`ROWS`] rows.
    #[inline(always)]
    unsafe fn times<S: Simd>(self, rows: usize, tokens: Tokens) {
        unsafe {
            let most = if const { S::REGISTERS >= 32 } { TOKENS } else { TOKENS / 2 };
            let tiles = tokens.count.div_ceil(most);
            for i in 0..tiles {
                let (from, to) = (i * tokens.count / tiles, (i + 1) * tokens.count / tiles);
                let x = tokens.x.add(from * self.cols);
                let out = tokens.out.add(from * tokens.stride);
                if const { S::REGISTERS >= 32 } {
                    with_count!([1 2 3 4 5 6] to - from, T => self.tile::<S, 4, T>(rows, x, out, tokens.stride));
                } else {
                    with_count!([1 2 3] to - from, T => {
                        self.tile::<S, { if T == 1 { 4 } else { 2 } }, T>(rows, x, out, tokens.stride)
                    });
                }
            }
        }
    }

    /// The rows, `R` at a time, times `T` tokens.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const T: usize>(
        self,
        rows: usize,
        x: *const f32,
        out: *mut f32,
        stride: usize,
    ) {
        unsafe {
            // Sixteen sums for each product, kept from one run of columns to the next.
            let mut lanes = [[[0.0f32; 16]; T]; ROWS];
            let whole = self.cols / 16 * 16;
            for from in (0..whole).step_by(COLUMNS) {
                let columns = from..whole.min(from + COLUMNS);
                let in_groups = rows / R * R;
                for r in (0..in_groups).step_by(R) {
                    self.add::<S, R, T>(r, columns.clone(), x, &mut lanes[r..r + R]);
                }
                for r in in_groups..rows {
                    self.add::<S, 1, T>(r, columns.clone(), x, &mut lanes[r..r + 1]);
                }
            }
            for (r, lanes) in lanes[..rows].iter_mut().enumerate() {
                for (t, lanes) in lanes.iter_mut().enumerate() {
                    for k in whole..self.cols {
                        let lane = &mut lanes[k - whole];
                        *lane = P::one(self.at(r, k)).mul_add(*x.add(t * self.cols + k), *lane);
                    }
                    *out.add(t * stride + r * self.apart) = S::sum(S::load(lanes.as_ptr()));
                }
            }
        }
    }

    /// Adds the products of some columns, whole vectors of them, of `R` rows from `first` on.
    #[inline(always)]
    unsafe fn add<S: Simd, const R: usize, const T: usize>(
        self,
        first: usize,
        columns: std::ops::Range<usize>,
        x: *const f32,
        lanes: &mut [[[f32; 16]; T]],
    ) {
        unsafe {
            let mut acc = [[S::splat(0.0); T]; R];
            for r in 0..R {
                for t in 0..T {
                    acc[r][t] = S::load(lanes[r][t].as_ptr());
                }
            }
            // The rows that come next, in the order in which they lie.
            let mut ahead = self.data.wrapping_add(((first + R) * self.cols + R * columns.start) * P::BYTES);
            for k in columns.step_by(16) {
                if self.apart > 1 {
                    if (k * P::BYTES).is_multiple_of(64) {
                        for r in 0..R {
                            prefetch_near(self.at(first + r, k).wrapping_add(AHEAD).cast());
                        }
                    }
                } else if T <= 2 {
                    for line in 0..(R * 16 * P::BYTES).div_ceil(64) {
                        S::prefetch(ahead.wrapping_add(FAR + 64 * line));
                        prefetch_near(ahead.wrapping_add(64 * line).cast());
                    }
                    ahead = ahead.wrapping_add(R * 16 * P::BYTES);
                }
                let mut w = [S::splat(0.0); R];
                for r in 0..R {
                    w[r] = P::load::<S>(self.at(first + r, k));
                }
                for t in 0..T {
                    let x = S::load(x.add(t * self.cols + k));
                    for r in 0..R {
                        acc[r][t] = S::fma(w[r], x, acc[r][t]);
                    }
                }
            }
            for r in 0..R {
                for t in 0..T {
                    S::store(lanes[r][t].as_mut_ptr(), acc[r][t]);
                }
            }
        }
    }
}
