//! NVFP4: 64 four-bit floats (E2M1) with a scale (E4M3 without a sign) per 16.
//!
//! ```text
//!  0      4            36
//!  | d[4] | qs[32]     |     x = d / 2 * VALUES[q]
//! ```
//! `qs`: eight bytes per 16 elements, low nibbles first. VALUES are those of MXFP4, twice the E2M1 numbers. A float for
//! each 16 elements leaves little to sum in integers, so these blocks are multiplied as plain numbers.
use super::{MXFP4_VALUES, field};

#[inline(always)]
pub fn expand_nvfp4(block: &[u8; 36]) -> [f32; 64] {
    let (mut codes, qs): (_, &[u8; 32]) = ([0; 64], field(block, 4));
    for (codes, qs) in codes.as_chunks_mut::<16>().0.iter_mut().zip(qs.as_chunks::<8>().0) {
        for i in 0..8 {
            codes[i] = MXFP4_VALUES[usize::from(qs[i] & 15)];
            codes[i + 8] = MXFP4_VALUES[usize::from(qs[i] >> 4)];
        }
    }
    let mut out = [0.0; 64];
    for (s, (out, codes)) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0).enumerate() {
        let d = ue4m3_half_to_f32(block[s]);
        *out = codes.map(|code| d * f32::from(code));
    }
    out
}

/// Half of an E4M3 number whose sign is not looked at: four bits of exponent (bias 7), three of mantissa. As in gguf-py,
/// 0x7f (NaN) is 0.
#[inline(always)]
fn ue4m3_half_to_f32(e: u8) -> f32 {
    let bits = u32::from(e & 0x7f);
    let normal = f32::from_bits((bits << 20) + ((127 - 7 - 1) << 23));
    // A subnormal is an integer multiple of 2^-9.
    let subnormal = bits as f32 / 1024.0;
    match e {
        0x7f => 0.0,
        _ if bits < 8 => subnormal,
        _ => normal,
    }
}
