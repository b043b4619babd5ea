//! Q5_K: as Q4_K with a fifth bit per code.
//!
//! ```text
//!  0    2      4            16       48              176
//!  | d  | dmin | scales[12] | qh[32] | qs[4][32]     |     x = d * scale * q - dmin * min
//! ```
//! `d`, `dmin`, `scales`, `qs`: as in Q4_K. The fifth bit of element `i` is bit `i / 32` of `qh[i % 32]`.
use super::q4_k::{four_bit_codes, scales_and_mins};
use super::{Expanded256, each_twice, f16_at, field};

#[inline(always)]
pub fn expand_q5_k(block: &[u8; 176]) -> Expanded256 {
    let qh: &[u8; 32] = field(block, 16);
    let mut codes = four_bit_codes(field(block, 48));
    for (bit, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, high) in codes.iter_mut().zip(qh) {
            *code |= ((high >> bit & 1) << 4) as i8;
        }
    }
    let (scales, mins) = scales_and_mins(field(block, 4));
    Expanded256 {
        codes,
        scales: each_twice(scales),
        mins: each_twice(mins),
        d: f16_at(block, 0),
        dmin: f16_at(block, 2),
    }
}
