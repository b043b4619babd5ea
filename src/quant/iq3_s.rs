//! IQ3_S: 256 codes, four at once from a grid of 512, signs apart; a four-bit scale per 32.
//!
//! ```text
//!  0    2        66      74          106         110
//!  | d  | qs[64] | qh[8] | signs[32] | scales[4] |     x = d * (2 scale + 1) * sign * q
//! ```
//! `d`: f16. `qs`, `qh`: low eight bits and the high bit of the indices into the grid. `signs`: a bit per element.
//! `scales`: nibbles, low first.
use super::{
    Expanded256, f16_at, field,
    grids::{IQ3_S, SIGNS, pair, signed},
};

#[inline(always)]
pub fn expand_iq3_s(block: &[u8; 110]) -> Expanded256 {
    let mut codes = [0; 256];
    let (qs, qh, signs): (&[u8; 64], &[u8; 8], &[u8; 32]) = (field(block, 2), field(block, 66), field(block, 74));
    for (i, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let four = |f: usize| IQ3_S[usize::from(qs[f]) | usize::from(qh[f / 8] >> (f % 8) & 1) << 8];
        *codes = signed(pair(four(2 * i), four(2 * i + 1)), SIGNS[usize::from(signs[i])]);
    }
    let nibbles = u32::from_le_bytes(*field(block, 106));
    let scales = std::array::from_fn(|i| 2 * (nibbles >> (4 * (i / 2)) & 15) as i16 + 1);
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 0), dmin: 0.0 }
}
