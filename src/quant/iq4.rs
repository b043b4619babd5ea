//! IQ4_NL and IQ4_XS: four-bit codes that index a table of sixteen unevenly spaced values.
//!
//! ```text
//!           0    2                18
//!  IQ4_NL   | d  | qs[16]         |                              x = d * VALUES[q]
//!
//!           0    2          4             8              136
//!  IQ4_XS   | d  | scales_h | scales_l[4] | qs[8][16]    |       x = d * (scale - 32) * VALUES[q]
//! ```
//! `d`: f16. `qs`: nibbles as in Q4_0, in IQ4_XS for each of the eight sub-blocks of 32. The six-bit scale of sub-block
//! `j` has its low four bits in nibble `j` of `scales_l` (low nibble first), its high two in bits `2j` of the u16
//! `scales_h`.
use super::{Expanded32, Expanded256, NO_MIN, f16_at, field, nibbles};

pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

#[inline(always)]
pub fn expand_iq4_nl(block: &[u8; 18]) -> Expanded32 {
    Expanded32 { codes: values(field(block, 2)), d: f16_at(block, 0), m: NO_MIN }
}

#[inline(always)]
pub fn expand_iq4_xs(block: &[u8; 136]) -> Expanded256 {
    let mut codes = [0; 256];
    for (codes, qs) in codes.as_chunks_mut().0.iter_mut().zip(block[8..].as_chunks().0) {
        *codes = values(qs);
    }
    let scales_h = u16::from_le_bytes(*field(block, 2));
    let scales_l = u32::from_le_bytes(*field(block, 4));
    let scale = |j: usize| (scales_l >> (4 * j) & 15) as i16 | ((scales_h >> (2 * j) & 3) << 4) as i16;
    let scales = std::array::from_fn(|i| scale(i / 2) - 32);
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 0), dmin: 0.0 }
}

#[inline(always)]
fn values(qs: &[u8; 16]) -> [i8; 32] {
    nibbles(qs).map(|q| IQ4_VALUES[q as usize])
}
