//! Activations as signed bytes: what a row of numbers becomes before it meets quantised weights.
//!
//! Codes are `q` = x / scale, rounded to nearest, ties to even, and clamped to -127..=127 (never -128: kernels count on
//! it). Every step is rounded to `f32`.
//!
//! - Blocks of 32 ([`Act32x8`]): for each of four scales `amax / top` ([`TOPS`]), where `amax` is the largest magnitude,
//!   the codes, and the scale that fits these codes best by least squares, `d = (amax / top) * (fit / squares)` with
//!   `fit = sum(x' q)`, `x' = x * (top / amax)`, `squares = sum(q q)`. The one that leaves the least error is taken: the
//!   largest `(fit / top)² / squares`, the first of equals. (On plain noise 8 % less error than `amax / 127` alone. Whole
//!   tops leave none at the largest element, and are 2 % better than others.) The sum `fit` runs in sixteen lanes like
//!   those of `kernels::scalar`.
//! - Blocks of 256 ([`Act256`]): `d = amax / (16 * 127)`, and each 32 have the scale `d * step` with the smallest whole
//!   `step` in 1..=16 that they fit into. The step multiplies the weights' integer scale, so a block is still one exact
//!   integer sum, and an outlier costs only its own 32 their precision. (With one scale for all 256 the error is a
//!   quarter larger on plain noise, and many times larger beside outliers.)
//!
//! Two kinds of blocks are special:
//!
//! - `amax < 1e-30`: `q` and `d` are 0. Smaller scales would lead to subnormal products, which are very slow.
//! - A block that holds a NaN or an infinity: `q` is 0 and `d` is NaN, so that every dot product with it is NaN. An
//!   overflow upstream must show in the output, and in the same way on every tier.
//!
//! These functions are the specification: faster quantisers give the same bits.

pub const SMALLEST_AMAX: f32 = 1e-30;
/// The largest step of a 32 in a block of 256.
pub const STEPS: f32 = 16.0;
/// What the largest magnitude of 32 may become.
pub const TOPS: [f32; 4] = [127.0, 126.0, 125.0, 124.0];

/// 256 activations: element `i` is about `d * steps[i / 32] * q[i]`.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub struct Act256 {
    pub q: [i8; 256],
    /// Sums of `steps[i / 32] * q[i]` over each 16, for weights with a minimum or a centre per 16. At most
    /// 16 * 16 * 127 = 32512: they fit.
    pub sums16: [i16; 16],
    /// 1..=[`STEPS`].
    pub steps: [i16; 8],
    pub d: f32,
    pub(crate) padding: [u32; 3],
}

impl Act256 {
    pub const ZERO: Self = Self { q: [0; 256], sums16: [0; 16], steps: [1; 8], d: 0.0, padding: [0; 3] };
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

/// Quantises a row in blocks of 256.
///
/// Panics unless the length of `row` is 256 times that of `out`.
pub fn quantize_256(row: &[f32], out: &mut [Act256]) {
    assert_eq!(row.len(), 256 * out.len(), "expected 256 activations for each of {} groups", out.len());
    for (row, out) in row.as_chunks::<256>().0.iter().zip(out) {
        *out = Act256::ZERO;
        let amax = largest_magnitude(row);
        if !amax.is_finite() || amax < SMALLEST_AMAX {
            out.d = if amax.is_finite() { 0.0 } else { f32::NAN };
            continue;
        }
        out.d = amax / (STEPS * 127.0);
        let (to_steps, to_codes) = (STEPS / amax, STEPS * 127.0 / amax);
        let blocks = row.as_chunks::<32>().0.iter().zip(out.q.as_chunks_mut::<32>().0);
        for (b, (x, q)) in blocks.enumerate() {
            let step = (largest_magnitude(x) * to_steps).ceil().clamp(1.0, STEPS);
            let inverse = to_codes / step;
            *q = x.map(|x| (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8);
            out.steps[b] = step as i16;
            for half in 0..2 {
                let sum: i16 = q[16 * half..16 * half + 16].iter().map(|&q| i16::from(q)).sum();
                out.sums16[2 * b + half] = step as i16 * sum;
            }
        }
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

/// Writes the codes of 32 numbers and returns their scale.
#[inline]
pub fn quantize_block(x: &[f32; 32], q: &mut [i8; 32]) -> f32 {
    let amax = largest_magnitude(x);
    if !amax.is_finite() || amax < SMALLEST_AMAX {
        *q = [0; 32];
        return if amax.is_finite() { 0.0 } else { f32::NAN };
    }
    let (mut best, mut d) = (0.0, 0.0);
    for top in TOPS {
        let scaled = x.map(|x| x * (top / amax));
        let codes = scaled.map(|x| x.round_ties_even().clamp(-127.0, 127.0));
        let product = |i: usize| scaled[i + 16].mul_add(codes[i + 16], scaled[i] * codes[i]);
        let mut lanes: [f32; 16] = std::array::from_fn(product);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        let fit = lanes[0];
        let squares = codes.iter().map(|&q| q as i32 * q as i32).sum::<i32>() as f32;
        let explained = (fit / top) * (fit / top) / squares;
        if explained > best {
            (best, d) = (explained, (amax / top) * (fit / squares));
            *q = codes.map(|code| code as i8);
        }
    }
    d
}

/// Largest |x|, or a NaN if there is one: without their sign, the bits of floats sort like integers, infinity above all
/// numbers and NaN above infinity.
#[inline]
fn largest_magnitude(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().map(|x| x.abs().to_bits()).fold(0, u32::max))
}
