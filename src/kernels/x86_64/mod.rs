//! x86-64 instruction sets.
pub mod avx512;
mod decode;

use super::{
    formats::{with_count, with_format_32, with_format_256},
    generic::{
        attention, batch, float,
        panel::{self, TILE},
        vector,
    },
    tier::{Panels, Tier},
};
use crate::{
    avx512_kernel,
    gguf::TensorType,
    quant::{Act32x8, Act256},
};
use avx512::Avx512;
use decode::{ROWS, by_four_rows};

/// AVX-512 with VNNI, VBMI and GFNI (Ice Lake, Zen 4 and later).
pub static AVX512: Tier = Tier {
    name: "avx512-vnni",
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
};

avx512_kernel! {
    fn rows_256(ty: TensorType, weights: *const u8, row_bytes: usize, rows: usize, tokens: &[*const Act256],
        out: *mut f32, stride: usize) {
        macro_rules! special {
            ($($kernel:tt)*) => {
                by_four_rows!(weights, row_bytes, rows, tokens, out, stride, Act256,
                    |T, w, group, o| decode::$($kernel)*::<T>(w, row_bytes, group, o, stride))
            };
        }
        let done = match ty {
            TensorType::Q4_K => special!(q4_k),
            TensorType::Q5_K => special!(q5_k),
            TensorType::Q6_K => special!(q6_k),
            _ => 0,
        };
        let (weights, out) = (weights.add(done * row_bytes), out.add(done));
        with_format_256!(ty, W => batch::rows_256::<Avx512, W>(weights, row_bytes, rows - done, tokens, out, stride))
    }
}
avx512_kernel! {
    fn rows_32(ty: TensorType, weights: *const u8, row_bytes: usize, rows: usize, tokens: &[*const Act32x8],
        out: *mut f32, stride: usize) {
        macro_rules! special {
            ($W:ident) => {
                by_four_rows!(weights, row_bytes, rows, tokens, out, stride, Act32x8,
                    |T, w, group, o| decode::blocks_32::<decode::$W, T>(w, row_bytes, group, o, stride))
            };
        }
        let done = match ty {
            TensorType::Q4_0 => special!(Q40),
            TensorType::Q4_1 => special!(Q41),
            TensorType::Q5_0 => special!(Q50),
            TensorType::Q5_1 => special!(Q51),
            TensorType::Q8_0 => special!(Q80),
            TensorType::IQ4_NL => special!(Iq4Nl),
            _ => special!(Mxfp4),
        };
        let (weights, out) = (weights.add(done * row_bytes), out.add(done));
        with_format_32!(ty, W => batch::rows_32::<Avx512, W>(weights, row_bytes, rows - done, tokens, out, stride))
    }
}
avx512_kernel! {
    fn rows_float(ty: TensorType, weights: *const u8, rows: usize, cols: usize, x: *const f32, tokens: usize,
        scratch: *mut f32, out: *mut f32, stride: usize) {
        float::rows::<Avx512>(ty, weights, rows, cols, x, tokens, scratch, out, stride)
    }
}
avx512_kernel! {
    fn group_256(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
        tiles: &[(*const panel::Tile256, usize)], scratch: *mut u8, out: *mut f32) {
        with_format_256!(ty, W => panel::group_256::<Avx512, W>(rows, blocks, tiles, scratch, out))
    }
}
avx512_kernel! {
    fn group_32(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
        tiles: &[(*const panel::Tile32, usize)], scratch: *mut u8, out: *mut f32) {
        with_format_32!(ty, W => panel::group_32::<Avx512, W>(rows, blocks, tiles, scratch, out))
    }
}
avx512_kernel! {
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) { vector::rms_norm::<Avx512>(x, weight, eps, out) }
}
avx512_kernel! {
    fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) { vector::swiglu::<Avx512>(gate, up, out) }
}
avx512_kernel! {
    fn quantize_256(row: &[f32], out: &mut [Act256]) { vector::quantize_256::<Avx512>(row, out) }
}
avx512_kernel! {
    fn quantize_32(row: &[f32], out: &mut [Act32x8]) { vector::quantize_32::<Avx512>(row, out) }
}
avx512_kernel! {
    fn attend(heads: &attention::Heads, rows: &[attention::QueryRow], scratch: *mut f32) {
        attention::attend::<Avx512>(heads, rows, scratch)
    }
}
