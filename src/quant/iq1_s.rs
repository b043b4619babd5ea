//! IQ1_S: 256 codes -1, 0 or 1, eight at once from a grid of 2048; a three-bit scale and a delta per 32.
//!
//! ```text
//!  0    2        34         50
//!  | d  | qs[32] | qh u16[8] |     x = d * (2 scale + 1) * (q + delta)
//! ```
//! `d`: f16. `qs`: low eight bits of the indices into the grid. `qh`, per 32: the high three bits of its four indices,
//! lowest first, the scale in bits 12 to 14, and in bit 15 whether the delta is -1/8 instead of 1/8. Our codes are eight
//! times `q + delta`.
use super::{Expanded256, f16_at, field, grids::IQ1};

#[inline(always)]
pub fn expand_iq1_s(block: &[u8; 50]) -> Expanded256 {
    let (mut codes, mut scales) = ([0; 256], [0; 16]);
    for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let qs: &[u8; 4] = field(block, 2 + 4 * j);
        let qh = u16::from_le_bytes(*field(block, 34 + 2 * j));
        for (i, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *codes = with_delta(usize::from(qs[i]) | usize::from(qh >> (3 * i) & 7) << 8, qh >> 15 == 1);
        }
        let scale = 2 * (qh >> 12 & 7) as i16 + 1;
        (scales[2 * j], scales[2 * j + 1]) = (scale, scale);
    }
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 0) / 8.0, dmin: 0.0 }
}

/// Eight times (an entry of the grid, plus or minus an eighth).
#[inline(always)]
pub(super) fn with_delta(index: usize, negative: bool) -> [i8; 8] {
    let delta = if negative { -1 } else { 1 };
    IQ1[index].to_le_bytes().map(|code| code as i8 + delta)
}
