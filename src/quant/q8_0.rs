//! Q8_0: 32 signed bytes with one scale.
//!
//! ```text
//!  0    2                 34
//!  | d  | qs[32]          |     x = d * q
//! ```
//! `d`: f16. `qs`: i8, in order.
use super::{Expanded32, NO_MIN, f16_at, field};

#[inline(always)]
pub fn expand_q8_0(block: &[u8; 34]) -> Expanded32 {
    Expanded32 { codes: field::<32>(block, 2).map(u8::cast_signed), d: f16_at(block, 0), m: NO_MIN }
}
