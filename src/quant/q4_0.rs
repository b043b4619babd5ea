//! Q4_0 and Q4_1: 32 four-bit codes with one scale (and one minimum).
//!
//! ```text
//!          0    2    4                    18    20
//!  Q4_0    | d  | qs[16]                  |           x = d * (q - 8)
//!  Q4_1    | d  | m  | qs[16]                   |     x = d * q + m
//! ```
//! `d`, `m`: f16. Byte `i` of `qs` holds element `i` in its low nibble and element `i + 16` in its high one.
use super::{Expanded32, NO_MIN, f16_at, field, nibbles};

#[inline(always)]
pub fn expand_q4_0(block: &[u8; 18]) -> Expanded32 {
    Expanded32 { codes: nibbles(field(block, 2)).map(|q| q - 8), d: f16_at(block, 0), m: NO_MIN }
}

#[inline(always)]
pub fn expand_q4_1(block: &[u8; 20]) -> Expanded32 {
    Expanded32 { codes: nibbles(field(block, 4)), d: f16_at(block, 0), m: f16_at(block, 2) }
}
