//! Q4_K: 256 four-bit codes; a six-bit scale and a six-bit minimum per 32.
//!
//! ```text
//!  0    2      4            16              144
//!  | d  | dmin | scales[12] | qs[4][32]     |     x = d * scale * q - dmin * min
//! ```
//! `d`, `dmin`: f16. `scales`: see [`scales_and_mins`]. `qs`: see [`four_bit_codes`].
use super::{Expanded256, each_twice, f16_at, field};

#[inline(always)]
pub fn expand_q4_k(block: &[u8; 144]) -> Expanded256 {
    let (scales, mins) = scales_and_mins(field(block, 4));
    Expanded256 {
        codes: four_bit_codes(field(block, 16)),
        scales: each_twice(scales),
        mins: each_twice(mins),
        d: f16_at(block, 0),
        dmin: f16_at(block, 2),
    }
}

/// Each 32 bytes hold 64 codes: all low nibbles, then all high ones.
#[inline(always)]
pub(super) fn four_bit_codes(qs: &[u8; 128]) -> [i8; 256] {
    let mut codes = [0; 256];
    for (group, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let bytes: &[u8; 32] = field(qs, 32 * (group / 2));
        let shift = 4 * (group % 2);
        *codes = bytes.map(|b| (b >> shift & 15) as i8);
    }
    codes
}

/// Eight six-bit scales `a..=h` and eight minima `a'..=h'` in twelve bytes, high bits left (upper case: the high two
/// bits of `e..=h`, kept above `a..=d`; lower case there: the low four):
///
/// ```text
///  0: EEaaaaaa      1: FFbbbbbb    2: GGcccccc    3: HHdddddd
///  4: E'E'a'...     5: F'F'b'...   6: G'G'c'...   7: H'H'd'...
///  8: e'e'e'e'eeee  9: f'...ffff  10: g'...gggg  11: h'...hhhh
/// ```
#[inline(always)]
pub(super) fn scales_and_mins(bytes: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (scale, min, low) = (bytes[j], bytes[j + 4], bytes[j + 8]);
        scales[j] = scale & 63;
        mins[j] = min & 63;
        scales[j + 4] = (low & 15) | (scale >> 6) << 4;
        mins[j + 4] = (low >> 4) | (min >> 6) << 4;
    }
    (scales, mins)
}
