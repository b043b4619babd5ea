//! Q1_0: 128 signs with a scale.
//!
//! ```text
//!  0    2            18
//!  | d  | bits[16]   |     x = d if its bit is set, otherwise -d
//! ```
//! `d`: f16. `bits`: lowest first. Source: ggml's `block_q1_0` (gguf-py 0.19 knows the size only). Half a super-block to a
//! scale fits neither class of integer sums, so these blocks are multiplied as plain numbers.
use super::{f16_at, field};

#[inline(always)]
pub fn expand_q1_0(block: &[u8; 18]) -> [f32; 128] {
    let (d, bits): (f32, &[u8; 16]) = (f16_at(block, 0), field(block, 2));
    let mut out = [0.0; 128];
    for (out, &bits) in out.as_chunks_mut::<8>().0.iter_mut().zip(bits) {
        for (i, out) in out.iter_mut().enumerate() {
            // The bit, inverted, as the sign of a float.
            let sign = !u32::from(bits) << (31 - i) & 0x8000_0000;
            *out = f32::from_bits(d.to_bits() ^ sign);
        }
    }
    out
}
