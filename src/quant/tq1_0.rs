//! TQ1_0: 256 codes -1, 0 or 1, five to a byte.
//!
//! ```text
//!  0        48      52   54
//!  | qs[48] | qh[4] | d  |     x = d * (q - 1)
//! ```
//! `d`: f16. A byte is its five digits of base three as a fraction of 256: digit `n` of byte `b` is the integer part of
//! `3 * (3^n b mod 256) / 256`. The first digits of 32 bytes of `qs` are the first 32 codes, the second digits the next;
//! then the 16 bytes left; then four digits each of `qh`.
use super::{Expanded256, f16_at, field};

#[inline(always)]
pub fn expand_tq1_0(block: &[u8; 54]) -> Expanded256 {
    let mut codes = [0; 256];
    let (wide, rest) = codes.split_at_mut(160);
    let (narrow, last) = rest.split_at_mut(80);
    digits(wide, field::<32>(block, 0));
    digits(narrow, field::<16>(block, 32));
    digits(last, field::<4>(block, 48));
    Expanded256 { codes, scales: [1; 16], mins: [0; 16], d: f16_at(block, 52), dmin: 0.0 }
}

/// The first digits of all bytes, less one, then the second digits, for as many as there are codes.
#[inline(always)]
fn digits<const N: usize>(codes: &mut [i8], bytes: &[u8; N]) {
    let mut left = *bytes;
    for codes in codes.as_chunks_mut::<N>().0 {
        *codes = left.map(|b| ((u16::from(b) * 3) >> 8) as i8 - 1);
        left = left.map(|b| b.wrapping_mul(3));
    }
}
