//! 64-bit Arm instruction sets.
mod neon;
#[cfg(test)]
mod tests;

use super::{
    generic::{attention, batch, float, panel, vector},
    tier::{Panels, Tier, generic_tier},
};
use crate::{
    gguf::TensorType,
    quant::{Act32x8, Act256},
};
use neon::Neon;
use std::arch::is_aarch64_feature_detected;

/// The kernels of a tier for a few rows and tokens, generic ones on a vector machine: `(rows_256, rows_32)`.
macro_rules! generic_rows {
    ($Machine:ty, $($feature:tt)+) => {{
        // SAFETY (of both): the caller's promise is the kernel's.
        $(#[target_feature(enable = $feature)])+
        unsafe fn rows_256(ty: TensorType, weights: *const u8, row_bytes: usize, rows: usize, tokens: &[*const Act256],
            out: *mut f32, stride: usize) {
            with_format_256!(ty, W => unsafe {
                batch::rows_256::<$Machine, W>(weights, row_bytes, rows, tokens, out, stride)
            })
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn rows_32(ty: TensorType, weights: *const u8, row_bytes: usize, rows: usize, tokens: &[*const Act32x8],
            out: *mut f32, stride: usize) {
            with_format_32!(ty, W => unsafe {
                batch::rows_32::<$Machine, W>(weights, row_bytes, rows, tokens, out, stride)
            })
        }
        (rows_256, rows_32)
    }};
}

/// All of them, best first.
pub static TIERS: [&Tier; 3] = [&NEON_I8MM, &NEON_DOTPROD, &NEON];

/// With matrix products of bytes (Armv8.6 and before as an extension: Graviton 3, Apple's M2, Cortex-A710 and later).
pub static NEON_I8MM: Tier = generic_tier!(
    is_aarch64_feature_detected, "neon-i8mm", Neon<true, true>, generic_rows!(Neon<true, true>, "neon" "dotprod" "i8mm"),
    "neon" "dotprod" "i8mm"
);

/// With byte dot products (Armv8.2 and later: Cortex-A55 and A76, Graviton 2, all of Apple's M).
pub static NEON_DOTPROD: Tier = generic_tier!(
    is_aarch64_feature_detected, "neon-dotprod", Neon<true>, generic_rows!(Neon<true>, "neon" "dotprod"),
    "neon" "dotprod"
);

/// What every 64-bit Arm processor has.
pub static NEON: Tier =
    generic_tier!(is_aarch64_feature_detected, "neon", Neon<false>, generic_rows!(Neon<false>, "neon"), "neon");
