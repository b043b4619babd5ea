//! NVFP4: 64 four-bit floats (E2M1) with a scale (E4M3 without a sign) per 16.
//!
//! ```text
//!  0      4            36
//!  | d[4] | qs[32]     |     x = d / 2 * VALUES[q]
//! ```
//! `qs`: eight bytes per 16 elements, low nibbles first. VALUES are those of MXFP4, twice the E2M1 numbers. A float for
//! each 16 elements leaves little to sum in integers, so these blocks are multiplied as plain numbers.
use super::field;

#[inline(always)]
pub fn expand_nvfp4(block: &[u8; 36]) -> [f32; 64] {
    let mut out = [0.0; 64];
    let qs: &[u8; 32] = field(block, 4);
    for (s, (out, qs)) in out.as_chunks_mut::<16>().0.iter_mut().zip(qs.as_chunks::<8>().0).enumerate() {
        let d = ue4m3_half_to_f32(block[s]);
        for i in 0..8 {
            out[i] = d * value(qs[i] & 15);
            out[i + 8] = d * value(qs[i] >> 4);
        }
    }
    out
}

/// `MXFP4_VALUES[q]`, from a table in one number: loops over it vectorise.
#[inline(always)]
fn value(q: u8) -> f32 {
    let q = u32::from(q);
    let magnitude = (0xC864_3210u32 >> (4 * (q & 7)) & 15) as i32;
    (if q < 8 { magnitude } else { -magnitude }) as f32
}

/// Half of an E4M3 number whose sign is not looked at: four bits of exponent (bias 7), three of mantissa. As in gguf-py,
/// 0x7f (NaN) is 0.
#[inline(always)]
fn ue4m3_half_to_f32(e: u8) -> f32 {
    let bits = u32::from(e & 0x7f);
    match e {
        0x7f => 0.0,
        // A subnormal is an integer multiple of 2^-9.
        _ if bits < 8 => bits as f32 / 1024.0,
        _ => f32::from_bits((bits << 20) + ((127 - 7 - 1) << 23)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_mxfp4() {
        assert!((0..16).all(|q| value(q) == f32::from(crate::quant::MXFP4_VALUES[usize::from(q)])));
    }
}
