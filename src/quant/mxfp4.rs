//! MXFP4: 32 four-bit floats (E2M1) with a power of two as scale (E8M0).
//!
//! ```text
//!  0    1                 17
//!  | e  | qs[16]          |     x = 2^(e - 128) * VALUES[q]
//! ```
//! `e`: u8. `qs`: nibbles as in Q4_0. Source of the number formats: OCP Microscaling Formats (MX) 1.0, section 5.
use super::{Expanded32, NO_MIN, field, nibbles};

/// Twice the E2M1 numbers, which makes them integers; the scale is halved instead.
pub const MXFP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

#[inline(always)]
pub fn expand_mxfp4(block: &[u8; 17]) -> Expanded32 {
    Expanded32 {
        codes: nibbles(field(block, 1)).map(|q| MXFP4_VALUES[q as usize]),
        d: e8m0_half_to_f32(block[0]),
        m: NO_MIN,
    }
}

/// Half of an E8M0 number: 2^(e - 128). As in ggml, 255 is 2^127, although E8M0 calls it NaN.
#[inline(always)]
pub fn e8m0_half_to_f32(e: u8) -> f32 {
    match e {
        // 2^-128 and 2^-127 are subnormal.
        0 | 1 => f32::from_bits(0x0020_0000 << e),
        _ => f32::from_bits(u32::from(e - 1) << 23),
    }
}
