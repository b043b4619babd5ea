//! 64-bit Arm instruction sets.
mod neon;
#[cfg(test)]
mod tests;

use super::{
    formats::{with_format_32, with_format_256},
    generic::{attention, batch, float, panel, vector},
    tier::{Panels, Tier},
};
use crate::{
    gguf::TensorType,
    quant::{Act32x8, Act256},
};
use neon::Neon;

/// Compiles the generic kernels for a vector machine, inside functions that enable its features.
macro_rules! tier {
    ($(#[$meta:meta])* $tier:ident = $name:literal: $module:ident, $simd:ty, $features:literal) => {
        $(#[$meta])*
        pub static $tier: Tier = Tier {
            name: $name,
            rows_256: $module::rows_256,
            rows_32: $module::rows_32,
            rows_float: $module::rows_float,
            panels: Some(Panels { group_256: $module::group_256, group_32: $module::group_32 }),
            rms_norm: $module::rms_norm,
            swiglu: $module::swiglu,
            quantize_256: $module::quantize_256,
            quantize_32: $module::quantize_32,
            attend: $module::attend,
            append: attention::append,
        };

        // In all of them, the caller's promise is the kernel's.
        #[allow(clippy::too_many_arguments)]
        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub unsafe fn rows_256(ty: TensorType, weights: *const u8, row_bytes: usize, rows: usize,
                tokens: &[*const Act256], out: *mut f32, stride: usize) {
                with_format_256!(ty, W => unsafe {
                    batch::rows_256::<$simd, W>(weights, row_bytes, rows, tokens, out, stride)
                })
            }
            #[target_feature(enable = $features)]
            pub unsafe fn rows_32(ty: TensorType, weights: *const u8, row_bytes: usize, rows: usize,
                tokens: &[*const Act32x8], out: *mut f32, stride: usize) {
                with_format_32!(ty, W => unsafe {
                    batch::rows_32::<$simd, W>(weights, row_bytes, rows, tokens, out, stride)
                })
            }
            #[target_feature(enable = $features)]
            pub unsafe fn rows_float(ty: TensorType, weights: *const u8, rows: usize, cols: usize, x: *const f32,
                tokens: usize, scratch: *mut f32, out: *mut f32, stride: usize) {
                unsafe { float::rows::<$simd>(ty, weights, rows, cols, x, tokens, scratch, out, stride) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn group_256(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
                tiles: &[(*const panel::Tile256, usize)], scratch: *mut u8, out: *mut f32) {
                with_format_256!(ty, W => unsafe {
                    panel::group_256::<$simd, W>(rows, blocks, tiles, scratch, out)
                })
            }
            #[target_feature(enable = $features)]
            pub unsafe fn group_32(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
                tiles: &[(*const panel::Tile32, usize)], scratch: *mut u8, out: *mut f32) {
                with_format_32!(ty, W => unsafe {
                    panel::group_32::<$simd, W>(rows, blocks, tiles, scratch, out)
                })
            }
            #[target_feature(enable = $features)]
            pub unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                unsafe { vector::rms_norm::<$simd>(x, weight, eps, out) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
                unsafe { vector::swiglu::<$simd>(gate, up, out) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn quantize_256(row: &[f32], out: &mut [Act256]) {
                unsafe { vector::quantize_256::<$simd>(row, out) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn quantize_32(row: &[f32], out: &mut [Act32x8]) {
                unsafe { vector::quantize_32::<$simd>(row, out) }
            }
            #[target_feature(enable = $features)]
            pub unsafe fn attend(heads: &attention::Heads, rows: &[attention::QueryRow], scratch: *mut f32) {
                unsafe { attention::attend::<$simd>(heads, rows, scratch) }
            }
        }
    };
}

tier! {
    /// What every 64-bit Arm processor has.
    NEON = "neon": plain, Neon<false>, "neon"
}
tier! {
    /// With byte dot products (Armv8.2 and later: Cortex-A55 and A76, Graviton 2, all of Apple's M).
    NEON_DOTPROD = "neon-dotprod": dotprod, Neon<true>, "neon,dotprod"
}
