//! x86-64 instruction sets.
mod avx2;
mod avx512;

use super::{
    formats::{with_format_32, with_format_256},
    generic::{attention, batch, float, panel, vector},
    tier::{Panels, Tier},
};
use crate::{
    gguf::TensorType,
    quant::{Act32x8, Act256},
};
use avx2::{Avx2, Avx2Vnni};
use avx512::Avx512;

/// All of them, best first.
pub static TIERS: [&Tier; 4] = [&AVX512_VNNI, &AVX512, &AVX2_VNNI, &AVX2];

/// The [`Tier`] that runs the generic kernels on a vector machine: compiles them with the features (all that the machine
/// uses, and what else the compiler may use), and detects the same ones.
macro_rules! tier {
    ($name:literal, $Machine:ty, $($feature:tt)+) => {{
        // SAFETY (of all these): the caller's promises are the kernel's, and its features are enabled.
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
        $(#[target_feature(enable = $feature)])+
        #[allow(clippy::too_many_arguments)]
        unsafe fn rows_float(ty: TensorType, weights: *const u8, rows: usize, cols: usize, x: *const f32, tokens: usize,
            scratch: *mut f32, out: *mut f32, stride: usize) {
            unsafe { float::rows::<$Machine>(ty, weights, rows, cols, x, tokens, scratch, out, stride) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn group_256(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
            tiles: &[(*const panel::Tile256, usize)], scratch: *mut u8, out: *mut f32) {
            with_format_256!(ty, W => unsafe { panel::group_256::<$Machine, W>(rows, blocks, tiles, scratch, out) })
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn group_32(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
            tiles: &[(*const panel::Tile32, usize)], scratch: *mut u8, out: *mut f32) {
            with_format_32!(ty, W => unsafe { panel::group_32::<$Machine, W>(rows, blocks, tiles, scratch, out) })
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
            unsafe { vector::rms_norm::<$Machine>(x, weight, eps, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
            unsafe { vector::swiglu::<$Machine>(gate, up, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn quantize_256(row: &[f32], out: &mut [Act256]) {
            unsafe { vector::quantize_256::<$Machine>(row, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn quantize_32(row: &[f32], out: &mut [Act32x8]) {
            unsafe { vector::quantize_32::<$Machine>(row, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn attend(heads: &attention::Heads, rows: &[attention::QueryRow], scratch: *mut f32) {
            unsafe { attention::attend::<$Machine>(heads, rows, scratch) }
        }
        Tier {
            name: $name,
            detected: || $(is_x86_feature_detected!($feature))&&+,
            rows_256,
            rows_32,
            rows_float,
            panels: Some(Panels { group_256, group_32 }),
            rms_norm,
            swiglu,
            quantize_256,
            quantize_32,
            attend,
            append: attention::append,
        }
    }};
}

/// AVX-512 with VNNI, VBMI and GFNI (Ice Lake, Zen 4 and later).
pub static AVX512_VNNI: Tier = tier!(
    "avx512-vnni", Avx512,
    "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx512vbmi" "gfni" "avx2" "fma" "f16c" "bmi2" "popcnt"
);

/// AVX-512 with VNNI alone (Cascade Lake, Cooper Lake).
pub static AVX512: Tier = tier!(
    "avx512", Avx512,
    "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx2" "fma" "f16c" "bmi2" "popcnt"
);

/// AVX2 with AVX-VNNI (Alder Lake and the processors for PCs after it).
pub static AVX2_VNNI: Tier = tier!("avx2-vnni", Avx2Vnni, "avxvnni" "avx2" "fma" "f16c");

/// AVX2 (Haswell, Zen and later).
pub static AVX2: Tier = tier!("avx2", Avx2, "avx2" "fma" "f16c");
