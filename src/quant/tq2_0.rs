//! TQ2_0: 256 two-bit codes with one scale.
//!
//! ```text
//!  0        64   66
//!  | qs[64] | d  |     x = d * (q - 1)
//! ```
//! `d`: f16. `qs`: as in Q2_K.
use super::{Expanded256, f16_at, field, q2_k::two_bit_codes};

#[inline(always)]
pub fn expand_tq2_0(block: &[u8; 66]) -> Expanded256 {
    let codes = two_bit_codes(field(block, 0)).map(|q| q - 1);
    Expanded256 { codes, scales: [1; 16], mins: [0; 16], d: f16_at(block, 64), dmin: 0.0 }
}
