//! Block formats of GGUF: what the bytes of a weight row mean, and the integers that activations become beside them.
//!
//! A row of a quantised tensor is a sequence of blocks. One file per format says how a block is laid out and expands it:
//! [`Expanded32`] for blocks of 32 elements, [`Expanded256`] for super-blocks of 256. These expansions define the
//! formats: [`dequantize_row`] and the canonical dot products (`kernels::scalar`) are written on them, and every faster
//! kernel must agree with those. Begin with `q4_0.rs`, the simplest format, then `q4_k.rs`;
//! `grids.rs` before the formats IQ1 to IQ3. Blocks of other sizes expand to plain numbers ([`for_each_weight`]).
//!
//! Expansions are always inlined: a kernel compiles them with the instructions of its own tier.
//!
//! Source of all layouts: gguf-py 0.19, `gguf/quants.py` (the GGUF specification names the types but not their bytes).
//! `testdata/` checks every format against it, bit for bit. All numbers are little-endian; "f16" is IEEE binary16. In
//! the drawings the numbers are byte offsets, `x` is an element and `q` its code.
mod activation;
mod float;
pub(crate) mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_k;
mod q5_0;
mod q5_k;
mod q6_k;
mod q8_0;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tq1_0;
mod tq2_0;

pub use activation::{Act32x8, Act256, SMALLEST_AMAX, STEPS, TOPS, quantize_32, quantize_256, quantize_block};
pub use float::{bf16_to_f32, f16_to_f32, for_each_weight};
pub use iq1_m::expand_iq1_m;
pub use iq1_s::expand_iq1_s;
pub use iq2_s::expand_iq2_s;
pub use iq2_xs::expand_iq2_xs;
pub use iq2_xxs::expand_iq2_xxs;
pub use iq3_s::expand_iq3_s;
pub use iq3_xxs::expand_iq3_xxs;
pub use iq4::{IQ4_VALUES, expand_iq4_nl, expand_iq4_xs};
pub use mxfp4::{MXFP4_VALUES, e8m0_half_to_f32, expand_mxfp4};
pub use nvfp4::expand_nvfp4;
pub use q1_0::expand_q1_0;
pub use q2_k::expand_q2_k;
pub use q3_k::expand_q3_k;
pub use q4_0::{expand_q4_0, expand_q4_1};
pub use q4_k::expand_q4_k;
pub use q5_0::{expand_q5_0, expand_q5_1};
pub use q5_k::expand_q5_k;
pub use q6_k::expand_q6_k;
pub use q8_0::expand_q8_0;
pub use tq1_0::expand_tq1_0;
pub use tq2_0::expand_tq2_0;

use crate::gguf::TensorType;

/// What can go wrong with a tensor type; lengths that do not fit are the caller's bug and panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "expected a tensor of type F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ1_S, \
         IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0, MXFP4, NVFP4 or Q1_0, found {}",
        .0.name()
    )]
    Unsupported(TensorType),
}

/// The form of the activations that a weight type is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Plain numbers, for weights that are plain numbers or become such.
    F32,
    /// One scale per 32 ([`Act32x8`]), for weights in blocks of 32.
    A32,
    /// One scale per 256 ([`Act256`]), for weights in super-blocks of 256.
    A256,
}

/// What weights of this type are multiplied with; `None` for types that cannot be computed with.
pub fn activation(ty: TensorType) -> Option<Activation> {
    use TensorType::*;
    match ty {
        F32 | F16 | BF16 | NVFP4 | Q1_0 => Some(Activation::F32),
        Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | IQ4_NL | MXFP4 => Some(Activation::A32),
        Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS
        | TQ1_0 | TQ2_0 => Some(Activation::A256),
        _ => None,
    }
}

pub fn is_supported(ty: TensorType) -> bool {
    activation(ty).is_some()
}

/// Whether blocks of this 32-element type add a minimum `m` to every element.
pub fn has_min_32(ty: TensorType) -> bool {
    matches!(ty, TensorType::Q4_1 | TensorType::Q5_1)
}

/// A block of 32 elements: element `i` is `d * codes[i] + m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expanded32 {
    /// In natural order. Signed, except in Q4_1 and Q5_1 (0..=15, 0..=31).
    pub codes: [i8; 32],
    pub d: f32,
    /// [`NO_MIN`] in formats without a minimum.
    pub m: f32,
}

/// The one number that leaves every sum as it is, the sum with -0 included.
pub const NO_MIN: f32 = -0.0;

/// A super-block of 256 elements: element `i` is `d * scales[i / 16] * codes[i] - dmin * mins[i / 16]`.
///
/// Formats with one scale per 32 elements hold every scale (and minimum) twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expanded256 {
    /// In natural order; signed where the format centres its codes (all but Q2_K, Q4_K and Q5_K, which have minima).
    pub codes: [i8; 256],
    pub scales: [i16; 16],
    /// 0 in formats without minima.
    pub mins: [i16; 16],
    pub d: f32,
    /// 0 in formats without minima.
    pub dmin: f32,
}

/// Calls `visit` with every block of a row, in order.
///
/// Panics if `ty` is not a type with blocks of 32 elements or `row` does not hold whole blocks.
#[inline]
pub fn for_each_32(ty: TensorType, row: &[u8], visit: impl FnMut(Expanded32)) {
    match ty {
        TensorType::Q4_0 => blocks(row).iter().map(expand_q4_0).for_each(visit),
        TensorType::Q4_1 => blocks(row).iter().map(expand_q4_1).for_each(visit),
        TensorType::Q5_0 => blocks(row).iter().map(expand_q5_0).for_each(visit),
        TensorType::Q5_1 => blocks(row).iter().map(expand_q5_1).for_each(visit),
        TensorType::Q8_0 => blocks(row).iter().map(expand_q8_0).for_each(visit),
        TensorType::IQ4_NL => blocks(row).iter().map(expand_iq4_nl).for_each(visit),
        TensorType::MXFP4 => blocks(row).iter().map(expand_mxfp4).for_each(visit),
        _ => panic!("expected a type with blocks of 32 elements, found {}", ty.name()),
    }
}

/// Calls `visit` with every super-block of a row, in order.
///
/// Panics if `ty` is not a type with super-blocks of 256 elements or `row` does not hold whole blocks.
#[inline]
pub fn for_each_256(ty: TensorType, row: &[u8], visit: impl FnMut(Expanded256)) {
    match ty {
        TensorType::Q2_K => blocks(row).iter().map(expand_q2_k).for_each(visit),
        TensorType::Q3_K => blocks(row).iter().map(expand_q3_k).for_each(visit),
        TensorType::Q4_K => blocks(row).iter().map(expand_q4_k).for_each(visit),
        TensorType::Q5_K => blocks(row).iter().map(expand_q5_k).for_each(visit),
        TensorType::Q6_K => blocks(row).iter().map(expand_q6_k).for_each(visit),
        TensorType::IQ4_XS => blocks(row).iter().map(expand_iq4_xs).for_each(visit),
        TensorType::IQ1_S => blocks(row).iter().map(expand_iq1_s).for_each(visit),
        TensorType::IQ1_M => blocks(row).iter().map(expand_iq1_m).for_each(visit),
        TensorType::IQ2_XXS => blocks(row).iter().map(expand_iq2_xxs).for_each(visit),
        TensorType::IQ2_XS => blocks(row).iter().map(expand_iq2_xs).for_each(visit),
        TensorType::IQ2_S => blocks(row).iter().map(expand_iq2_s).for_each(visit),
        TensorType::IQ3_XXS => blocks(row).iter().map(expand_iq3_xxs).for_each(visit),
        TensorType::IQ3_S => blocks(row).iter().map(expand_iq3_s).for_each(visit),
        TensorType::TQ1_0 => blocks(row).iter().map(expand_tq1_0).for_each(visit),
        TensorType::TQ2_0 => blocks(row).iter().map(expand_tq2_0).for_each(visit),
        _ => panic!("expected a type with super-blocks of 256 elements, found {}", ty.name()),
    }
}

/// Writes the elements of a row (or of any whole number of blocks) as `f32`, bit for bit what gguf-py's `dequantize`
/// gives: every step is rounded to `f32`, nothing is fused. Only the payload of a NaN is unspecified.
///
/// Panics if `bytes` is not exactly as long as `out.len()` elements of this type are.
pub fn dequantize_row(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    let class = activation(ty).ok_or(Error::Unsupported(ty))?;
    assert!(
        out.len().is_multiple_of(ty.block_len()) && bytes.len() == out.len() / ty.block_len() * ty.block_bytes(),
        "expected the bytes of {} elements of {}, found {} bytes",
        out.len(),
        ty.name(),
        bytes.len()
    );
    match class {
        Activation::F32 => for_each_weight(ty, bytes, |i, weight| out[i] = weight),
        Activation::A32 => {
            let mut out = out.as_chunks_mut().0.iter_mut();
            for_each_32(ty, bytes, |block| dequantize_32(&block, out.next().expect("as many blocks as bytes")));
        }
        Activation::A256 => {
            let mut out = out.as_chunks_mut().0.iter_mut();
            for_each_256(ty, bytes, |block| dequantize_256(&block, out.next().expect("as many blocks as bytes")));
        }
    }
    Ok(())
}

#[inline]
fn dequantize_32(block: &Expanded32, out: &mut [f32; 32]) {
    for (out, &code) in out.iter_mut().zip(&block.codes) {
        *out = block.d * f32::from(code) + block.m;
    }
}

#[inline]
fn dequantize_256(block: &Expanded256, out: &mut [f32; 256]) {
    let (codes, out) = (block.codes.as_chunks::<16>().0, out.as_chunks_mut::<16>().0);
    for s in 0..16 {
        let scale = block.d * f32::from(block.scales[s]);
        let min = block.dmin * f32::from(block.mins[s]);
        for (out, &code) in out[s].iter_mut().zip(&codes[s]) {
            *out = scale * f32::from(code) - min;
        }
    }
}

/// The blocks of a row, each `N` bytes long.
#[inline]
fn blocks<const N: usize>(row: &[u8]) -> &[[u8; N]] {
    let (blocks, rest) = row.as_chunks();
    assert!(rest.is_empty(), "expected whole blocks of {N} bytes, found {} bytes", row.len());
    blocks
}

/// The `N` bytes at offset `at` of a block.
#[inline(always)]
fn field<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("a field lies inside its block")
}

/// The f16 at offset `at` of a block.
#[inline(always)]
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*field(block, at)))
}

/// The 32 four-bit codes of 16 bytes: first all low nibbles, then all high ones.
#[inline(always)]
fn nibbles(bytes: &[u8; 16]) -> [i8; 32] {
    let mut codes = [0; 32];
    let (low, high) = codes.split_at_mut(16);
    for i in 0..16 {
        low[i] = (bytes[i] & 15) as i8;
        high[i] = (bytes[i] >> 4) as i8;
    }
    codes
}

/// Every value twice: scales of 32 elements as scales of 16.
#[inline(always)]
fn each_twice(values: [u8; 8]) -> [i16; 16] {
    std::array::from_fn(|i| i16::from(values[i / 2]))
}
