//! IQ3_XXS: 256 codes, four at once from a grid of 256, signs apart; a four-bit scale per 32.
//!
//! ```text
//!  0    2        66            98
//!  | d  | qs[64] | signs u32[8] |     x = d / 4 * (2 scale + 1) * sign * q
//! ```
//! `d`: f16. `qs`: indices into the grid. `signs`: per 32, signs and scale as in IQ2_XXS.
use super::{
    Expanded256, f16_at, field,
    grids::{EVEN_SIGNS, IQ3_XXS, pair, signed},
};

#[inline(always)]
pub fn expand_iq3_xxs(block: &[u8; 98]) -> Expanded256 {
    let (mut codes, mut scales) = ([0; 256], [0; 16]);
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let indices: &[u8; 8] = field(block, 2 + 8 * j);
        let signs = u32::from_le_bytes(*field(block, 66 + 4 * j));
        for (i, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let [first, second] = [2 * i, 2 * i + 1].map(|i| IQ3_XXS[usize::from(indices[i])]);
            *codes = signed(pair(first, second), EVEN_SIGNS[(signs >> (7 * i) & 127) as usize]);
        }
        let scale = 2 * (signs >> 28) as i16 + 1;
        (scales[2 * j], scales[2 * j + 1]) = (scale, scale);
    }
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 0) / 4.0, dmin: 0.0 }
}
