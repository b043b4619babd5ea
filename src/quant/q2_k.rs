//! Q2_K: 256 two-bit codes; a four-bit scale and a four-bit minimum per 16.
//!
//! ```text
//!  0            16          80   82     84
//!  | scales[16] | qs[64]    | d  | dmin |     x = d * scale * q - dmin * min
//! ```
//! `d`, `dmin`: f16. Byte `s` of `scales`: scale (low nibble) and minimum (high) of elements `16s..16s + 16`.
//! `qs`: see [`two_bit_codes`].
use super::{Expanded256, f16_at, field};

#[inline(always)]
pub fn expand_q2_k(block: &[u8; 84]) -> Expanded256 {
    let scales: &[u8; 16] = field(block, 0);
    Expanded256 {
        codes: two_bit_codes(field(block, 16)),
        scales: scales.map(|s| i16::from(s & 15)),
        mins: scales.map(|s| i16::from(s >> 4)),
        d: f16_at(block, 80),
        dmin: f16_at(block, 82),
    }
}

/// Each 32 bytes hold 128 codes: the lowest two bits of all bytes are the first 32, the next two bits the next 32.
#[inline(always)]
pub(super) fn two_bit_codes(qs: &[u8; 64]) -> [i8; 256] {
    let mut codes = [0; 256];
    for (group, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let bytes: &[u8; 32] = field(qs, 32 * (group / 4));
        let shift = 2 * (group % 4);
        *codes = bytes.map(|b| (b >> shift & 3) as i8);
    }
    codes
}
