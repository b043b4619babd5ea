//! Q3_K: 256 three-bit codes; a six-bit scale per 16.
//!
//! ```text
//!  0           32          96           108  110
//!  | hmask[32] | qs[64]    | scales[12] | d  |     x = d * (scale - 32) * (q - 4)
//! ```
//! `d`: f16. `qs`: the low two bits, as in Q2_K. The third bit of element `i` is bit `i / 32` of `hmask[i % 32]`.
//! `scales`: see [`scales`].
use super::{Expanded256, f16_at, field, q2_k::two_bit_codes};

#[inline(always)]
pub fn expand_q3_k(block: &[u8; 110]) -> Expanded256 {
    let hmask: &[u8; 32] = field(block, 0);
    let mut codes = two_bit_codes(field(block, 32));
    for (bit, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, mask) in codes.iter_mut().zip(hmask) {
            *code += ((mask >> bit & 1) << 2) as i8 - 4;
        }
    }
    let scales = scales(field(block, 96)).map(|s| i16::from(s) - 32);
    Expanded256 { codes, scales, mins: [0; 16], d: f16_at(block, 108), dmin: 0.0 }
}

/// Sixteen six-bit numbers `a..=p` in twelve bytes, high bits left (lower case: low four bits, upper case: high two):
///
/// ```text
///  0: iiiiaaaa  1: jjjjbbbb  ...  7: pppphhhh
///  8: MMIIEEAA  9: NNJJFFBB  10: OOKKGGCC  11: PPLLHHDD
/// ```
#[inline]
fn scales(bytes: &[u8; 12]) -> [u8; 16] {
    std::array::from_fn(|s| {
        let low = bytes[s % 8] >> (4 * (s / 8)) & 15;
        let high = bytes[8 + s % 4] >> (2 * (s / 4)) & 3;
        low | high << 4
    })
}
