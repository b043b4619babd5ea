//! Q5_0 and Q5_1: as Q4_0 and Q4_1 with a fifth bit per code.
//!
//! ```text
//!          0    2    4         6         8              22    24
//!  Q5_0    | d  | qh           | qs[16]                 |           x = d * (q - 16)
//!  Q5_1    | d  | m  | qh                | qs[16]             |     x = d * q + m
//! ```
//! `d`, `m`: f16. `qs`: nibbles as in Q4_0. `qh`: u32, whose bit `i` is the fifth bit of element `i`.
use super::{Expanded32, NO_MIN, f16_at, field, nibbles};

#[inline(always)]
pub fn expand_q5_0(block: &[u8; 22]) -> Expanded32 {
    Expanded32 { codes: codes(field(block, 2), field(block, 6)).map(|q| q - 16), d: f16_at(block, 0), m: NO_MIN }
}

#[inline(always)]
pub fn expand_q5_1(block: &[u8; 24]) -> Expanded32 {
    Expanded32 { codes: codes(field(block, 4), field(block, 8)), d: f16_at(block, 0), m: f16_at(block, 2) }
}

#[inline(always)]
fn codes(qh: &[u8; 4], qs: &[u8; 16]) -> [i8; 32] {
    let qh = u32::from_le_bytes(*qh);
    let mut codes = nibbles(qs);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((qh >> i & 1) << 4) as i8;
    }
    codes
}
