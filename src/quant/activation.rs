//! Activations as signed bytes: what a row of numbers becomes before it meets quantised weights.
//!
//! For a block of numbers `x` with the largest magnitude `amax`:
//! `d = amax / 127`, `q = x * (127 / amax)` rounded to nearest, ties to even, and clamped to -127..=127 (never -128:
//! kernels count on it). Every step is rounded to `f32`. Two kinds of blocks are special:
//!
//! - `amax < 1e-30`: `q` and `d` are 0. Smaller scales would lead to subnormal products, which are very slow.
//! - A block that holds a NaN or an infinity: `q` is 0 and `d` is NaN, so that every dot product with it is NaN. An
//!   overflow upstream must show in the output, and in the same way on every tier.
//!
//! These functions are the specification: faster quantisers give the same bits.

pub const SMALLEST_AMAX: f32 = 1e-30;

/// 256 activations with one scale: element `i` is about `d * q[i]`.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Act256 {
    pub q: [i8; 256],
    /// Sums of `q` over each 16, for weights with a minimum or a centre per 16.
    pub sums16: [i16; 16],
    /// The same over each 32.
    pub sums32: [i16; 8],
    pub d: f32,
    pub(crate) padding: [u32; 3],
}

impl Act256 {
    pub const ZERO: Self = Self { q: [0; 256], sums16: [0; 16], sums32: [0; 8], d: 0.0, padding: [0; 3] };
}

/// Eight blocks of 32 activations, each with its own scale: element `i` is about `d[i / 32] * q[i]`.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Act32x8 {
    pub q: [i8; 256],
    pub d: [f32; 8],
    /// Sum of `q` over each block.
    pub sums: [i32; 8],
}

impl Act32x8 {
    pub const ZERO: Self = Self { q: [0; 256], d: [0.0; 8], sums: [0; 8] };
}

/// Quantises a row with one scale per 256.
///
/// Panics unless the length of `row` is 256 times that of `out`.
pub fn quantize_256(row: &[f32], out: &mut [Act256]) {
    assert_eq!(row.len(), 256 * out.len(), "expected 256 activations for each of {} groups", out.len());
    for (row, out) in row.as_chunks::<256>().0.iter().zip(out) {
        out.d = quantize_block(row, &mut out.q);
        let q = out.q.as_chunks::<16>().0;
        out.sums16 = std::array::from_fn(|s| q[s].iter().map(|&q| i16::from(q)).sum());
        out.sums32 = std::array::from_fn(|s| out.sums16[2 * s] + out.sums16[2 * s + 1]);
    }
}

/// Quantises a row with one scale per 32. The blocks that a last, incomplete group lacks become zeros.
///
/// Panics unless `row` holds whole blocks of 32 and `out` one group for each 256 elements begun.
pub fn quantize_32(row: &[f32], out: &mut [Act32x8]) {
    assert!(row.len().is_multiple_of(32), "expected whole blocks of 32 activations, found {}", row.len());
    assert_eq!(out.len(), row.len().div_ceil(256), "expected a group for each 256 of {} activations", row.len());
    for (row, out) in row.chunks(256).zip(out) {
        *out = Act32x8::ZERO;
        let blocks = row.as_chunks::<32>().0.iter().zip(out.q.as_chunks_mut::<32>().0);
        for (b, (row, q)) in blocks.enumerate() {
            out.d[b] = quantize_block(row, q);
            out.sums[b] = q.iter().map(|&q| i32::from(q)).sum();
        }
    }
}

/// Writes the codes of one block and returns its scale.
#[inline]
pub fn quantize_block<const N: usize>(x: &[f32; N], q: &mut [i8; N]) -> f32 {
    let amax = largest_magnitude(x);
    if !amax.is_finite() || amax < SMALLEST_AMAX {
        *q = [0; N];
        return if amax.is_finite() { 0.0 } else { f32::NAN };
    }
    let inverse = 127.0 / amax;
    for (q, x) in q.iter_mut().zip(x) {
        *q = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    amax / 127.0
}

/// Largest |x|, or a NaN if there is one: without their sign, the bits of floats sort like integers, infinity above all
/// numbers and NaN above infinity.
#[inline]
fn largest_magnitude(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().map(|x| x.abs().to_bits()).fold(0, u32::max))
}
