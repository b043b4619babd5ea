//! Rows of plain numbers: F32, F16, BF16, and blocks that are multiplied as such.
use super::{blocks, expand_nvfp4, expand_q1_0};
use crate::gguf::TensorType;

/// Calls `visit(index, weight)` with every number of a row, in order.
///
/// Panics if `ty` is not F32, F16, BF16, NVFP4 or Q1_0 or `row` does not hold whole blocks.
#[inline(always)]
pub fn for_each_weight(ty: TensorType, row: &[u8], mut visit: impl FnMut(usize, f32)) {
    #[inline(always)]
    fn all<const N: usize, const LEN: usize>(
        row: &[u8],
        expand: impl Fn(&[u8; N]) -> [f32; LEN],
        visit: &mut impl FnMut(usize, f32),
    ) {
        for (b, block) in blocks(row).iter().enumerate() {
            for (i, weight) in expand(block).into_iter().enumerate() {
                visit(LEN * b + i, weight);
            }
        }
    }
    match ty {
        TensorType::F32 => all(row, |b| [f32::from_le_bytes(*b)], &mut visit),
        TensorType::F16 => all(row, |b| [f16_to_f32(u16::from_le_bytes(*b))], &mut visit),
        TensorType::BF16 => all(row, |b| [bf16_to_f32(u16::from_le_bytes(*b))], &mut visit),
        TensorType::NVFP4 => all(row, expand_nvfp4, &mut visit),
        TensorType::Q1_0 => all(row, expand_q1_0, &mut visit),
        _ => panic!("expected a type of plain numbers, found {}", ty.name()),
    }
}

/// IEEE binary16 (1 sign, 5 exponent, 10 mantissa bits) to binary32; exact.
///
/// Without branches, so that loops over it vectorise, and without `f32` subnormals on the way: they cost over a hundred
/// cycles each, and small weights are often f16 subnormals.
#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    const REBIAS: u32 = (127 - 15) << 23;
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    let normal = (magnitude << 13) + REBIAS;
    // A subnormal is an integer multiple of 2^-24.
    let subnormal = (magnitude as f32 * (1.0 / 16_777_216.0)).to_bits();
    let infinite_or_nan = (magnitude << 13) | 0x7f80_0000;
    let bits = match magnitude {
        0..0x0400 => subnormal,
        0x0400..0x7c00 => normal,
        _ => infinite_or_nan,
    };
    f32::from_bits(sign | bits)
}

/// BF16 is the upper half of binary32.
#[inline]
pub fn bf16_to_f32(bf16: u16) -> f32 {
    f32::from_bits(u32::from(bf16) << 16)
}
