//! Rows and activations for the tests of this module and of every kernel tier.
use crate::gguf::TensorType;
use proptest::collection::vec;
use proptest::prelude::*;

/// The types with blocks of 32 elements.
pub const TYPES_32: [TensorType; 7] = {
    use TensorType::*;
    [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4]
};
/// The types with super-blocks of 256 elements.
pub const TYPES_256: [TensorType; 15] = {
    use TensorType::*;
    [Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_XS, TQ1_0, TQ2_0]
};
/// The types that are multiplied as plain numbers.
pub const TYPES_PLAIN: [TensorType; 5] = {
    use TensorType::*;
    [F32, F16, BF16, NVFP4, Q1_0]
};

/// Where the f16 numbers of a block lie.
fn f16_offsets(ty: TensorType) -> &'static [usize] {
    use TensorType::*;
    match ty {
        Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
        Q4_0 | Q5_0 | Q8_0 | IQ1_S | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_NL | IQ4_XS | Q1_0 => &[0],
        TQ1_0 => &[52],
        TQ2_0 => &[64],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
        _ => &[],
    }
}

/// Any bytes at all: random, or one byte throughout (which makes codes, scales and minima saturate together).
pub fn any_row(ty: TensorType, blocks: usize) -> impl Strategy<Value = Vec<u8>> {
    let len = blocks * ty.block_bytes();
    let saturated = prop::sample::select(vec![0x00, 0x08, 0x7f, 0x80, 0x88, 0xf7, 0xff]);
    prop_oneof![vec(any::<u8>(), len), saturated.prop_map(move |byte: u8| vec![byte; len])]
}

/// Random codes, with scales and minima (or, in plain types, numbers) of magnitude at most 1.
pub fn ordinary_row(ty: TensorType, blocks: usize) -> impl Strategy<Value = Vec<u8>> {
    let numbers = vec(-1.0f32..=1.0, blocks * 2);
    (vec(any::<u8>(), blocks * ty.block_bytes()), numbers).prop_map(move |(mut row, numbers)| {
        set_numbers(ty, &mut row, &numbers);
        row
    })
}

/// One byte throughout, as in [`any_row`], with scales and minima of 1: all codes are the same, or nearly so.
pub fn saturated_row(ty: TensorType, blocks: usize, byte: u8) -> Vec<u8> {
    let mut row = vec![byte; blocks * ty.block_bytes()];
    set_numbers(ty, &mut row, &vec![1.0; blocks * 2]);
    row
}

/// Writes the scales and minima of a row (in plain types, its numbers): two of `numbers` are for each block.
fn set_numbers(ty: TensorType, row: &mut [u8], numbers: &[f32]) {
    for (block, numbers) in row.chunks_exact_mut(ty.block_bytes()).zip(numbers.chunks_exact(2)) {
        match ty {
            TensorType::F32 => block.copy_from_slice(&numbers[0].to_le_bytes()),
            TensorType::F16 => block.copy_from_slice(&half::f16::from_f32(numbers[0]).to_le_bytes()),
            TensorType::BF16 => block.copy_from_slice(&half::bf16::from_f32(numbers[0]).to_le_bytes()),
            TensorType::MXFP4 => block[0] = 110 + block[0] % 32,
            TensorType::NVFP4 => block[..4].iter_mut().for_each(|scale| *scale &= 0x3f),
            TensorType::IQ1_M => {
                // Four bits of the scale in each of the last words.
                let d = half::f16::from_f32(numbers[0]).to_bits();
                for (i, word) in block[48..].as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    word[1] = word[1] & 15 | ((d >> (4 * i) & 15) << 4) as u8;
                }
            }
            _ => {
                for (&at, &number) in f16_offsets(ty).iter().zip(numbers) {
                    block[at..at + 2].copy_from_slice(&half::f16::from_f32(number).to_le_bytes());
                }
            }
        }
    }
}

/// Activations of ordinary size.
pub fn activations(n: usize) -> impl Strategy<Value = Vec<f32>> {
    vec(-8.0f32..8.0, n)
}

/// Any numbers: of all magnitudes, zeros, subnormals, infinities and NaNs.
pub fn any_activations(n: usize) -> impl Strategy<Value = Vec<f32>> {
    let finite = prop::num::f32::POSITIVE | prop::num::f32::NEGATIVE;
    let tiny = finite | prop::num::f32::ZERO | prop::num::f32::SUBNORMAL;
    prop_oneof![
        vec(prop::num::f32::ZERO | prop::num::f32::SUBNORMAL, n),
        vec(finite | prop::num::f32::NORMAL, n),
        vec(tiny, n),
        vec(prop::num::f32::ANY, n),
        Just(vec![0.0; n]),
    ]
}
