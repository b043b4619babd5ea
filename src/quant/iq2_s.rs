//! IQ2_S: 256 codes, eight at once from a grid of 1024, signs apart; a four-bit scale per 16.
//!
//! ```text
//!  0    2        34          66      74          82
//!  | d  | qs[32] | signs[32] | qh[8] | scales[8] |     x = d / 8 * (2 scale + 1) * sign * q
//! ```
//! `d`: f16. `qs`, `qh`: low eight and high two bits of the indices into the grid. `signs`: a bit per element.
//! `scales`: nibbles, low first.
use super::{
    Expanded256, f16_at, field,
    grids::{IQ2_S, SIGNS, signed},
    iq2_xs::odd_scales,
};

#[inline(always)]
pub fn expand_iq2_s(block: &[u8; 82]) -> Expanded256 {
    let mut codes = [0; 256];
    let (qs, signs, qh): (&[u8; 32], &[u8; 32], &[u8; 8]) = (field(block, 2), field(block, 34), field(block, 66));
    for (i, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = usize::from(qh[i / 4] >> (2 * (i % 4)) & 3);
        *codes = signed(IQ2_S[usize::from(qs[i]) | high << 8], SIGNS[usize::from(signs[i])]);
    }
    let d = f16_at(block, 0) / 8.0;
    Expanded256 { codes, scales: odd_scales(field(block, 74)), mins: [0; 16], d, dmin: 0.0 }
}
