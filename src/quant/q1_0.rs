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
    std::array::from_fn(|i| {
        let set = u32::from(bits[i / 8] >> (i % 8) & 1);
        f32::from_bits(d.to_bits() ^ (1 - set) << 31)
    })
}
