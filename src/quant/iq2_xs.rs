//! IQ2_XS: 256 codes, eight at once from a grid of 512, signs apart; a four-bit scale per 16.
//!
//! ```text
//!  0    2             66          74
//!  | d  | qs u16[32]  | scales[8] |     x = d / 8 * (2 scale + 1) * sign * q
//! ```
//! `d`: f16. `qs`: per eight, nine bits of index into the grid, seven of signs as in IQ2_XXS. `scales`: nibbles, low
//! first.
use super::{
    Expanded256, f16_at, field,
    grids::{EVEN_SIGNS, IQ2_XS, signed},
};

#[inline(always)]
pub fn expand_iq2_xs(block: &[u8; 74]) -> Expanded256 {
    let mut codes = [0; 256];
    let qs: &[u8; 64] = field(block, 2);
    for (codes, q) in codes.as_chunks_mut::<8>().0.iter_mut().zip(qs.as_chunks::<2>().0) {
        let q = usize::from(u16::from_le_bytes(*q));
        *codes = signed(IQ2_XS[q & 511], EVEN_SIGNS[q >> 9]);
    }
    let d = f16_at(block, 0) / 8.0;
    Expanded256 { codes, scales: odd_scales(field(block, 66)), mins: [0; 16], d, dmin: 0.0 }
}

/// `2 s + 1` of sixteen nibbles `s`.
#[inline(always)]
pub(super) fn odd_scales(nibbles: &[u8; 8]) -> [i16; 16] {
    std::array::from_fn(|i| 2 * i16::from(nibbles[i / 2] >> (4 * (i % 2)) & 15) + 1)
}
