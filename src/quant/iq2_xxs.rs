//! IQ2_XXS: 256 codes, eight at once from a grid of 256, signs apart; a four-bit scale per 32.
//!
//! ```text
//!  0    2                            66
//!  | d  | 8 of (grid[4], signs u32)  |     x = d / 8 * (2 scale + 1) * sign * q
//! ```
//! `d`: f16. Of each sub-block of 32: four indices into the grid, then a u32 with seven bits of signs for each eight
//! (the eighth makes the number of negative codes even), lowest first, and the scale in its high four bits.
use super::{
    Expanded256, f16_at, field,
    grids::{EVEN_SIGNS, IQ2_XXS, signed},
};

#[inline(always)]
pub fn expand_iq2_xxs(block: &[u8; 66]) -> Expanded256 {
    let (mut codes, mut scales) = ([0; 256], [0; 16]);
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let indices: &[u8; 4] = field(block, 2 + 8 * j);
        let signs = u32::from_le_bytes(*field(block, 6 + 8 * j));
        for (i, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mask = EVEN_SIGNS[(signs >> (7 * i) & 127) as usize];
            *codes = signed(IQ2_XXS[usize::from(indices[i])], mask);
        }
        let scale = 2 * (signs >> 28) as i16 + 1;
        (scales[2 * j], scales[2 * j + 1]) = (scale, scale);
    }
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 0) / 8.0, dmin: 0.0 }
}
