//! IQ1_M: 256 codes -1, 0 or 1, eight at once from a grid of 2048 with a delta each; a three-bit scale per 16.
//!
//! ```text
//!  0        32       48           56
//!  | qs[32] | qh[16] | scales u16[4] |     x = d * (2 scale + 1) * (q + delta)
//! ```
//! `qs`: low eight bits of the indices into the grid. `qh`, a nibble per eight, low first: the high three bits, then
//! whether the delta is -1/8 instead of 1/8. `scales`: four scales in the low twelve bits of each number, lowest first;
//! the high four bits of all are the f16 `d`, lowest first. Our codes are eight times `q + delta`.
use super::{Expanded256, f16_to_f32, field, iq1_s::with_delta};

#[inline(always)]
pub fn expand_iq1_m(block: &[u8; 56]) -> Expanded256 {
    let mut codes = [0; 256];
    let (qs, qh): (&[u8; 32], &[u8; 16]) = (field(block, 0), field(block, 32));
    for (i, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = qh[i / 2] >> (4 * (i % 2));
        *codes = with_delta(usize::from(qs[i]) | usize::from(high & 7) << 8, high & 8 != 0);
    }
    let words: [u16; 4] = std::array::from_fn(|i| u16::from_le_bytes(*field(block, 48 + 2 * i)));
    let d = words[0] >> 12 | words[1] >> 12 << 4 | words[2] >> 12 << 8 | words[3] >> 12 << 12;
    let scales = std::array::from_fn(|i| 2 * (words[i / 4] >> (3 * (i % 4)) & 7) as i16 + 1);
    Expanded256 { codes, scales, mins: [0; 16], d: f16_to_f32(d) / 8.0, dmin: 0.0 }
}
