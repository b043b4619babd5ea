//! x86-64 instruction sets.
mod avx2;
mod avx512;
mod blocks;
mod decode;
mod decode_avx2;
mod decode_avx512;
mod grid_blocks;
mod unpack;

use super::{
    formats::{with_count, with_expanded_format, with_format_32, with_vector_format},
    generic::{
        attention, batch, float,
        panel::{self, TILE},
        vector,
    },
    tier::{Panels, Tier, generic_tier},
};
use crate::{
    gguf::TensorType,
    quant::{Act32x8, Act256},
};
use avx2::{Avx2, Avx2Vnni};
use avx512::Avx512;
use decode::{ROWS, by_four_rows, by_quarters};

/// All of them, best first.
pub static TIERS: [&Tier; 4] = [&AVX512_VNNI, &AVX512, &AVX2_VNNI, &AVX2];

/// AVX-512 with VNNI, VBMI and GFNI (Ice Lake, Zen 4 and later).
pub static AVX512_VNNI: Tier = generic_tier!(
    is_x86_feature_detected, "avx512-vnni", Avx512, (avx512_rows_256, avx512_rows_32),
    "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx512vbmi" "gfni" "avx2" "fma" "f16c" "bmi2" "popcnt"
);

/// AVX-512 with VNNI alone (Cascade Lake, Cooper Lake).
pub static AVX512: Tier = generic_tier!(
    is_x86_feature_detected, "avx512", Avx512, (avx2_rows_256, avx2_rows_32),
    "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni" "avx2" "fma" "f16c" "bmi2" "popcnt"
);

/// AVX2 with AVX-VNNI (Alder Lake and the processors for PCs after it).
pub static AVX2_VNNI: Tier = generic_tier!(
    is_x86_feature_detected, "avx2-vnni", Avx2Vnni, (avx2_rows_256, avx2_rows_32), "avxvnni" "avx2" "fma" "f16c"
);

/// AVX2 (Haswell, Zen and later).
pub static AVX2: Tier = generic_tier!(
    is_x86_feature_detected, "avx2", Avx2, (avx2_rows_256, avx2_rows_32), "avx2" "fma" "f16c"
);

/// Tokens that the kernels of `decode_avx512.rs` take at a time; they are compiled for each number.
const AVX512_TOKENS: usize = 4;

/// As [`batch::rows_256`], four rows at a time in the formats that `decode_avx512.rs` has.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,avx2,fma,f16c,bmi2,popcnt")]
unsafe fn avx512_rows_256(
    ty: TensorType,
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act256],
    out: *mut f32,
    stride: usize,
) {
    macro_rules! special {
        ($kernel:ident) => {
            by_four_rows!(AVX512_TOKENS, weights, row_bytes, rows, tokens, out, stride, |w, group, o| {
                with_count!([1 2 3 4] group.len(), T => {
                    decode_avx512::$kernel::<T>(w, row_bytes, *group.as_ptr().cast::<[*const Act256; T]>(), o, stride)
                })
            })
        };
    }
    // SAFETY: the caller's promise is the kernel's.
    unsafe {
        let done = match ty {
            TensorType::Q4_K => special!(q4_k),
            TensorType::Q5_K => special!(q5_k),
            TensorType::Q6_K => special!(q6_k),
            TensorType::IQ4_XS => special!(iq4_xs),
            _ => 0,
        };
        avx2_rows_256(ty, weights.add(done * row_bytes), row_bytes, rows - done, tokens, out.add(done), stride)
    }
}

/// As [`batch::rows_32`], four rows at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,avx2,fma,f16c,bmi2,popcnt")]
unsafe fn avx512_rows_32(
    ty: TensorType,
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act32x8],
    out: *mut f32,
    stride: usize,
) {
    macro_rules! special {
        ($W:ident) => {
            by_four_rows!(AVX512_TOKENS, weights, row_bytes, rows, tokens, out, stride, |w, group, o| {
                with_count!([1 2 3 4] group.len(), T => {
                    let group = *group.as_ptr().cast::<[*const Act32x8; T]>();
                    decode_avx512::blocks_32::<decode_avx512::$W, T>(w, row_bytes, group, o, stride)
                })
            })
        };
    }
    // SAFETY: the caller's promise is the kernel's.
    unsafe {
        let done = match ty {
            TensorType::Q4_0 => special!(Q40),
            TensorType::Q4_1 => special!(Q41),
            TensorType::Q5_0 => special!(Q50),
            TensorType::Q5_1 => special!(Q51),
            TensorType::Q8_0 => special!(Q80),
            TensorType::IQ4_NL => special!(Iq4Nl),
            _ => special!(Mxfp4),
        };
        avx2_rows_32(ty, weights.add(done * row_bytes), row_bytes, rows - done, tokens, out.add(done), stride)
    }
}

/// As [`batch::rows_256`], four rows at a time, one of each quarter.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2_rows_256(
    ty: TensorType,
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act256],
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise is the kernel's.
    with_vector_format!(ty, W => unsafe {
        let done = by_quarters!(weights, row_bytes, rows, tokens, out, stride, |w, apart, group, o| {
            decode_avx2::rows_256::<W>(w, row_bytes, apart, group, o, stride)
        });
        let (weights, out) = (weights.add(done * row_bytes), out.add(done));
        batch::rest_256::<Avx2, W>(weights, row_bytes, rows - done, tokens, out, stride)
    }, with_expanded_format!(ty, W => unsafe {
        batch::rest_256::<Avx2, W>(weights, row_bytes, rows, tokens, out, stride)
    }))
}

/// As [`batch::rows_32`], four rows at a time, one of each quarter.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2_rows_32(
    ty: TensorType,
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act32x8],
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise is the kernel's.
    with_format_32!(ty, W => unsafe {
        let done = by_quarters!(weights, row_bytes, rows, tokens, out, stride, |w, apart, group, o| {
            decode_avx2::rows_32::<W>(w, row_bytes, apart, group, o, stride)
        });
        let (weights, out) = (weights.add(done * row_bytes), out.add(done));
        batch::rest_32::<Avx2, W>(weights, row_bytes, rows - done, tokens, out, stride)
    })
}

/// The lengths of narrow sums on the vector machines, for the tests of their classes.
#[cfg(test)]
pub fn narrow_runs<W: super::formats::Format256>() -> [usize; 3] {
    use panel::narrow_run_256;
    [narrow_run_256::<Avx512, W>(), narrow_run_256::<Avx2Vnni, W>(), narrow_run_256::<Avx2, W>()]
}
