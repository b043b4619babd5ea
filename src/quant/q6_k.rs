//! Q6_K: 256 six-bit codes; a signed eight-bit scale per 16.
//!
//! ```text
//!  0              128          192          208  210
//!  | ql[2][64]    | qh[2][32]  | scales[16] | d  |     x = d * scale * (q - 32)
//! ```
//! `d`: f16. `scales`: i8. Each half of the block has its own `ql` and `qh`. With `g` the 32-element group inside the
//! half (0..4) and `l` the element inside the group, the low four bits are the low (`g < 2`) or high nibble of
//! `ql[32 * (g % 2) + l]`; the high two are bits `2g` of `qh[l]`.
use super::{Expanded256, f16_at, field};

#[inline(always)]
pub fn expand_q6_k(block: &[u8; 210]) -> Expanded256 {
    let mut codes = [0; 256];
    for (group, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, g) = (group / 4, group % 4);
        let ql: &[u8; 32] = field(block, 64 * half + 32 * (g % 2));
        let qh: &[u8; 32] = field(block, 128 + 32 * half);
        for l in 0..32 {
            let low = ql[l] >> (4 * (g / 2)) & 15;
            let high = qh[l] >> (2 * g) & 3;
            codes[l] = (low | high << 4) as i8 - 32;
        }
    }
    let scales = field::<16>(block, 192).map(|s| i16::from(s.cast_signed()));
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 208), dmin: 0.0 }
}
