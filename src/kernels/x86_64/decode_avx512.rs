//! Matrix times a few tokens on AVX-512 with VNNI, VBMI and GFNI: four rows at a time, straight from the file's layout.
//!
//! # Safety
//! As in `generic/`: the features are enabled where this is inlined, and pointers are valid for what is read or written.
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments, clippy::needless_range_loop)]
use super::{
    avx512::vpdpwssd,
    blocks::halves,
    decode::{ROWS, lead, prefetch},
};
use crate::{
    kernels::generic::ahead::FAR,
    quant::{self, Act32x8, Act256},
};
use std::arch::x86_64::*;

/// Four row sums, one after the other: adds up the 16 lanes of each of four vectors.
#[inline(always)]
unsafe fn sum_each(v: [__m512i; 4]) -> __m128i {
    unsafe {
        let u = sum_each_quarter(v);
        let halves = _mm256_add_epi32(_mm512_castsi512_si256(u), _mm512_extracti64x4_epi64::<1>(u));
        _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
    }
}

/// Word `r` of each 128-bit lane: the sum of that lane of vector `r`.
#[inline(always)]
unsafe fn sum_each_quarter(v: [__m512i; 4]) -> __m512i {
    unsafe {
        let a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        let b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    }
}

/// Adds a block of four rows, whose scales are `d`, to what each token has so far.
#[inline(always)]
unsafe fn add_block<const T: usize>(y: &mut [__m128; T], sums: &[[__m512i; 4]; T], d: __m128, tokens: [&Act256; T]) {
    unsafe {
        for t in 0..T {
            let x = _mm_mul_ps(_mm_cvtepi32_ps(sum_each(sums[t])), d);
            y[t] = _mm_fmadd_ps(x, _mm_set1_ps(tokens[t].d), y[t]);
        }
    }
}

/// Four rows of each token.
#[inline(always)]
unsafe fn store<const T: usize>(y: [__m128; T], out: *mut f32, stride: usize) {
    unsafe {
        for t in 0..T {
            _mm_storeu_ps(out.add(t * stride), y[t]);
        }
    }
}

#[inline(always)]
unsafe fn load128(p: *const u8) -> __m128i {
    unsafe { _mm_loadu_si128(p.cast()) }
}

/// Two runs of 32 bytes.
#[inline(always)]
unsafe fn load_halves(low: *const u8, high: *const u8) -> __m512i {
    unsafe {
        let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.cast()));
        _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.cast()))
    }
}

#[inline(always)]
unsafe fn constant<T, const N: usize>(array: [T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == 64) };
    unsafe { _mm512_loadu_si512(array.as_ptr().cast()) }
}

/// Q4_K, or Q5_K when `HIGH`: `out[t * stride + r]` for rows 0..4.
///
/// In a block's 128 bytes of nibbles, byte `32 k + i` holds element `i` of the sub-blocks 2 k (low) and 2 k + 1 (high). So
/// a vector of 64 bytes gives two vectors of codes, of the sub-blocks 0 and 2 and of 1 and 3; the activations are loaded
/// in that order. Sums of four products fit 16 bits (4 * 31 * 127), so they are packed in pairs and multiplied by
/// scales as words.
#[inline(always)]
unsafe fn q45_k<const HIGH: bool, const T: usize>(
    weights: *const u8,
    row_bytes: usize,
    tokens: [*const Act256; T],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let (bytes, codes_at) = if HIGH { (176, 48) } else { (144, 16) };
        let nibble = _mm512_set1_epi8(15);
        // As a matrix of bits for `gf2p8affine`: moves the high nibble of each byte down.
        let shift_right_4 = _mm512_set1_epi64(0x1020_4080_0000_0000);
        // The 12 bytes of scales and minima follow d and dmin; see quant/q4_k.rs.
        let shifts = _mm512_set4_epi32(4, 0, 0, 0);
        let low_bits = _mm512_set4_epi32(0x0f0f_0f0f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x3f3f_3f3f);
        let high_bits = _mm512_set4_epi32(0x3030_3030, 0x3030_3030, 0, 0);
        // Decoded heads hold, per row: scales 0..4, minima 0..4, scales 4..8, minima 4..8. Each minimum as two words.
        let mins = |at: i8| {
            let m = at;
            _mm512_broadcast_i32x4(_mm_setr_epi8(
                m,
                -1,
                m,
                -1,
                m + 1,
                -1,
                m + 1,
                -1,
                m + 2,
                -1,
                m + 2,
                -1,
                m + 3,
                -1,
                m + 3,
                -1,
            ))
        };
        let (mins_low, mins_high) = (mins(4), mins(12));
        // Words of scales beside packed sums: per 128-bit lane four of the low and four of the high sub-block.
        let scales = |first: usize, row: usize| {
            let mut index = [0u8; 64];
            for lane in 0..4 {
                for k in 0..8 {
                    let sub = first + 2 * (lane / 2) + k / 4;
                    index[16 * lane + 2 * k] = (16 * row + if sub < 4 { sub } else { sub + 4 }) as u8;
                }
            }
            constant(index)
        };
        let scales_low: [__m512i; 4] = std::array::from_fn(|row| scales(0, row));
        let scales_high: [__m512i; 4] = std::array::from_fn(|row| scales(4, row));
        let even_bytes = 0x5555_5555_5555_5555u64;
        // The same places for the activations' steps, which are words already.
        let steps = |first: usize| {
            let mut index = [0u8; 64];
            for lane in 0..4 {
                for k in 0..8 {
                    let sub = first + 2 * (lane / 2) + k / 4;
                    (index[16 * lane + 2 * k], index[16 * lane + 2 * k + 1]) = (2 * sub as u8, 2 * sub as u8 + 1);
                }
            }
            constant(index)
        };
        let (steps_low, steps_high) = (steps(0), steps(4));
        let rows_words = _mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12));
        let split_halves = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        let bit = |low: i8, high: i8| {
            constant::<i8, 64>(std::array::from_fn(|i| 1i8.rotate_left(if i < 32 { low } else { high } as u32)))
        };
        let bits = [bit(0, 2), bit(1, 3), bit(4, 6), bit(5, 7)];
        let sixteen = _mm512_set1_epi8(16);

        let mut y = [_mm_setzero_ps(); T];
        let ahead = weights.wrapping_add(lead(row_bytes));
        for b in 0..row_bytes / bytes {
            let p: [*const u8; 4] = std::array::from_fn(|r| weights.add(r * row_bytes + b * bytes));
            let heads = _mm512_castsi128_si512(load128(p[0]));
            let heads = _mm512_inserti32x4::<1>(heads, load128(p[1]));
            let heads = _mm512_inserti32x4::<2>(heads, load128(p[2]));
            let heads = _mm512_inserti32x4::<3>(heads, load128(p[3]));
            let a = _mm512_srlv_epi32(_mm512_shuffle_epi32::<0b11_11_10_01>(heads), shifts);
            let c = _mm512_srli_epi32::<2>(_mm512_shuffle_epi32::<0b10_01_01_01>(heads));
            // (a & low_bits) | (c & high_bits)
            let decoded = _mm512_ternarylogic_epi32::<0xF8>(_mm512_and_si512(a, low_bits), c, high_bits);
            let d_words = _mm512_castsi512_si128(_mm512_permutexvar_epi32(rows_words, heads));
            let d = _mm256_cvtph_ps(_mm_shuffle_epi8(d_words, split_halves));
            let (d, dmin) = (_mm256_castps256_ps128(d), _mm256_extractf128_ps::<1>(d));
            let (min_words_low, min_words_high) =
                (_mm512_shuffle_epi8(decoded, mins_low), _mm512_shuffle_epi8(decoded, mins_high));

            let mut sums = [[_mm512_setzero_si512(); 4]; T];
            let token_steps: [[__m512i; 2]; T] = std::array::from_fn(|t| {
                let all = _mm512_broadcast_i32x4(_mm_loadu_si128((*tokens[t].add(b)).steps.as_ptr().cast()));
                [_mm512_shuffle_epi8(all, steps_low), _mm512_shuffle_epi8(all, steps_high)]
            });
            for r in 0..4 {
                prefetch::<FAR>(ahead, b * ROWS + r, bytes);
                let zero = _mm512_setzero_si512();
                let (q0, q1) =
                    (_mm512_loadu_si512(p[r].add(codes_at).cast()), _mm512_loadu_si512(p[r].add(codes_at + 64).cast()));
                let mut codes = [
                    _mm512_and_si512(q0, nibble),
                    _mm512_gf2p8affine_epi64_epi8::<0>(q0, shift_right_4),
                    _mm512_and_si512(q1, nibble),
                    _mm512_gf2p8affine_epi64_epi8::<0>(q1, shift_right_4),
                ];
                if HIGH {
                    let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(p[r].add(16).cast()));
                    for i in 0..4 {
                        let set = _mm512_test_epi8_mask(high, bits[i]);
                        codes[i] = _mm512_mask_add_epi8(codes[i], set, codes[i], sixteen);
                    }
                }
                let scale_low = _mm512_maskz_permutexvar_epi8(even_bytes, scales_low[r], decoded);
                let scale_high = _mm512_maskz_permutexvar_epi8(even_bytes, scales_high[r], decoded);
                for t in 0..T {
                    let q = (*tokens[t].add(b)).q.as_ptr().cast::<u8>();
                    let dot = |codes, first: usize| {
                        _mm512_dpbusd_epi32(zero, codes, load_halves(q.add(32 * first), q.add(32 * first + 64)))
                    };
                    let low = _mm512_packs_epi32(dot(codes[0], 0), dot(codes[1], 1));
                    let high = _mm512_packs_epi32(dot(codes[2], 4), dot(codes[3], 5));
                    let sum = _mm512_madd_epi16(low, _mm512_mullo_epi16(scale_low, token_steps[t][0]));
                    sums[t][r] = vpdpwssd(sum, high, _mm512_mullo_epi16(scale_high, token_steps[t][1]));
                }
            }
            for t in 0..T {
                let a = &*tokens[t].add(b);
                let half = |i: usize| _mm512_broadcast_i32x4(_mm_loadu_si128(a.sums16.as_ptr().add(8 * i).cast()));
                let low = vpdpwssd(_mm512_madd_epi16(min_words_low, half(0)), min_words_high, half(1));
                let low = _mm512_add_epi32(low, _mm512_shuffle_epi32::<0x4e>(low));
                let low = _mm512_add_epi32(low, _mm512_shuffle_epi32::<0xb1>(low));
                let low = _mm_cvtepi32_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi32(rows_words, low)));
                let x = _mm_mul_ps(_mm_cvtepi32_ps(sum_each(sums[t])), d);
                let x = _mm_fnmadd_ps(low, dmin, x);
                y[t] = _mm_fmadd_ps(x, _mm_set1_ps(a.d), y[t]);
            }
        }
        store(y, out, stride);
    }
}

#[inline(always)]
pub unsafe fn q4_k<const T: usize>(
    weights: *const u8,
    row_bytes: usize,
    tokens: [*const Act256; T],
    out: *mut f32,
    stride: usize,
) {
    unsafe { q45_k::<false, T>(weights, row_bytes, tokens, out, stride) }
}

#[inline(always)]
pub unsafe fn q5_k<const T: usize>(
    weights: *const u8,
    row_bytes: usize,
    tokens: [*const Act256; T],
    out: *mut f32,
    stride: usize,
) {
    unsafe { q45_k::<true, T>(weights, row_bytes, tokens, out, stride) }
}

/// Q6_K: the low four bits of 64 elements in 64 bytes, their high two bits two to a shift of the same 32 bytes.
#[inline(always)]
pub unsafe fn q6_k<const T: usize>(
    weights: *const u8,
    row_bytes: usize,
    tokens: [*const Act256; T],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let (nibble, two_bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let by_half =
            |low: i16, high: i16| constant::<i16, 32>(std::array::from_fn(|i| if i < 16 { low } else { high }));
        let (left, right) = (by_half(4, 2), by_half(0, 2));
        // Words of scales beside packed sums: lane `i` of half `n` has four of scale 8 n + i, then four of 8 n + 4 + i.
        let places = |n: i16| {
            constant::<i16, 32>(std::array::from_fn(|i| 8 * n + (i / 8) as i16 + if i % 8 >= 4 { 4 } else { 0 }))
        };
        let places = [places(0), places(1)];
        // Steps of the same elements: two scales to a step.
        let steps = |n: usize| {
            constant::<u8, 64>(std::array::from_fn(|i| {
                let (lane, word) = (i / 16, i % 16 / 2);
                let sub = (8 * n + lane + if word >= 4 { 4 } else { 0 }) / 2;
                (2 * sub + i % 2) as u8
            }))
        };
        let steps = [steps(0), steps(1)];
        let mut y = [_mm_setzero_ps(); T];
        let ahead = weights.wrapping_add(lead(row_bytes));
        for b in 0..row_bytes / 210 {
            let p: [*const u8; 4] = std::array::from_fn(|r| weights.add(r * row_bytes + b * 210));
            let d = halves(p.map(|p| p.add(208)));
            let mut sums = [[_mm512_setzero_si512(); 4]; T];
            let token_steps: [[__m512i; 2]; T] = std::array::from_fn(|t| {
                let all = _mm512_broadcast_i32x4(_mm_loadu_si128((*tokens[t].add(b)).steps.as_ptr().cast()));
                steps.map(|index| _mm512_shuffle_epi8(all, index))
            });
            for r in 0..4 {
                prefetch::<FAR>(ahead, b * ROWS + r, 210);
                let low = [_mm512_loadu_si512(p[r].cast()), _mm512_loadu_si512(p[r].add(64).cast())];
                let high = [128, 160].map(|at| _mm512_broadcast_i64x4(_mm256_loadu_si256(p[r].add(at).cast())));
                let scales = _mm256_cvtepi8_epi16(load128(p[r].add(192)));
                // codes = nibbles | (high bits & 0x30)
                let join = |nibbles, high| _mm512_ternarylogic_epi32::<0xF8>(nibbles, high, two_bits);
                let codes: [[__m512i; 2]; 2] = std::array::from_fn(|n| {
                    let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(low[n]), nibble);
                    [
                        join(_mm512_and_si512(low[n], nibble), _mm512_sllv_epi16(high[n], left)),
                        join(upper, _mm512_srlv_epi16(high[n], right)),
                    ]
                });
                let words = places.map(|index| _mm512_permutexvar_epi16(index, _mm512_castsi256_si512(scales)));
                for t in 0..T {
                    let a = &*tokens[t].add(b);
                    let q = a.q.as_ptr().cast::<__m512i>();
                    let dot = |codes, i: usize| {
                        _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_loadu_si512(q.add(i)))
                    };
                    let first = _mm512_packs_epi32(dot(codes[0][0], 0), dot(codes[0][1], 1));
                    let second = _mm512_packs_epi32(dot(codes[1][0], 2), dot(codes[1][1], 3));
                    let sum = _mm512_madd_epi16(first, _mm512_mullo_epi16(words[0], token_steps[t][0]));
                    let sum = vpdpwssd(sum, second, _mm512_mullo_epi16(words[1], token_steps[t][1]));
                    // Codes are 32 too large.
                    let excess = _mm256_madd_epi16(scales, _mm256_loadu_si256(a.sums16.as_ptr().cast()));
                    sums[t][r] = _mm512_sub_epi32(sum, _mm512_zextsi256_si512(_mm256_slli_epi32::<5>(excess)));
                }
            }
            add_block(&mut y, &sums, d, tokens.map(|blocks| &*blocks.add(b)));
        }
        store(y, out, stride);
    }
}

/// IQ4_XS: a vector of 64 bytes holds the first halves (low nibbles) and the last halves of four sub-blocks. Both meet the
/// same scale, so their products are added up first; see quant/iq4.rs.
#[inline(always)]
pub unsafe fn iq4_xs<const T: usize>(
    weights: *const u8,
    row_bytes: usize,
    tokens: [*const Act256; T],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let bytes = 136;
        let nibble = _mm512_set1_epi8(15);
        // A quarter of a vector belongs to one sub-block.
        let places = [0, 4].map(|first| constant::<i32, 16>(std::array::from_fn(|i| first + i as i32 / 4)));
        let spread = |x: __m256i, z: usize| _mm512_permutexvar_epi32(places[z], _mm512_castsi256_si512(x));
        let (low_at, high_at) =
            (_mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28), _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let mut y = [_mm_setzero_ps(); T];
        let ahead = weights.wrapping_add(lead(row_bytes));
        for b in 0..row_bytes / bytes {
            let p: [*const u8; 4] = std::array::from_fn(|r| weights.add(r * row_bytes + b * bytes));
            let d = halves(p);
            let mut sums = [[_mm512_setzero_si512(); 4]; T];
            for r in 0..4 {
                prefetch::<FAR>(ahead, b * ROWS + r, bytes);
                let codes = [8, 72].map(|at| {
                    let both = _mm512_loadu_si512(p[r].add(at).cast());
                    let upper = _mm512_srli_epi16::<4>(both);
                    [both, upper].map(|x| look_up(_mm512_and_si512(x, nibble), quant::IQ4_VALUES))
                });
                let low = _mm256_set1_epi32(p[r].add(4).cast::<i32>().read_unaligned());
                let high = _mm256_set1_epi32(i32::from(p[r].add(2).cast::<u16>().read_unaligned()));
                let low = _mm256_and_si256(_mm256_srlv_epi32(low, low_at), _mm256_set1_epi32(15));
                let high = _mm256_and_si256(_mm256_srlv_epi32(high, high_at), _mm256_set1_epi32(3));
                let scales = _mm256_or_si256(low, _mm256_slli_epi32::<4>(high));
                let scales = _mm256_sub_epi32(scales, _mm256_set1_epi32(32));
                let pairs = _mm256_blend_epi16::<0xaa>(scales, _mm256_slli_epi32::<16>(scales));
                let scales = [0, 1].map(|z| spread(scales, z));
                for t in 0..T {
                    let a = &*tokens[t].add(b);
                    let steps = _mm256_cvtepi16_epi32(_mm_loadu_si128(a.steps.as_ptr().cast()));
                    let mut sum = _mm512_setzero_si512();
                    for z in 0..2 {
                        let q = a.q.as_ptr().add(128 * z);
                        let (q0, q1) = (_mm512_loadu_si512(q.cast()), _mm512_loadu_si512(q.add(64).cast()));
                        let first = _mm512_shuffle_i32x4::<0b10_00_10_00>(q0, q1);
                        let last = _mm512_shuffle_i32x4::<0b11_01_11_01>(q0, q1);
                        let dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[z][0], first);
                        let dot = _mm512_dpbusd_epi32(dot, codes[z][1], last);
                        let factor = _mm512_madd_epi16(scales[z], spread(steps, z));
                        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(dot, factor));
                    }
                    // Codes are 128 too large.
                    let excess = _mm256_madd_epi16(pairs, _mm256_loadu_si256(a.sums16.as_ptr().cast()));
                    sums[t][r] = _mm512_sub_epi32(sum, _mm512_zextsi256_si512(_mm256_slli_epi32::<7>(excess)));
                }
            }
            add_block(&mut y, &sums, d, tokens.map(|blocks| &*blocks.add(b)));
        }
        store(y, out, stride);
    }
}

/// How a format with blocks of 32 becomes unsigned codes.
pub trait Codes32 {
    const BYTES: usize;
    /// How much larger the codes are than the values.
    const BIAS: i32;
    const HAS_MIN: bool;
    /// The 64 codes of two blocks, natural order.
    unsafe fn codes(blocks: [*const u8; 2]) -> __m512i;
    /// The scales of four blocks.
    #[inline(always)]
    unsafe fn scales(blocks: [*const u8; 4]) -> __m128 {
        unsafe { halves(blocks) }
    }
}

/// The nibbles of two runs of 16 bytes: low ones first, then high ones.
#[inline(always)]
unsafe fn nibbles(runs: [*const u8; 2]) -> __m512i {
    unsafe {
        let pair = |p| _mm256_broadcastsi128_si256(load128(p));
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(pair(runs[0])), pair(runs[1]));
        let shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
        _mm512_and_si512(_mm512_srlv_epi64(both, shifts), _mm512_set1_epi8(15))
    }
}

/// The fifth bits of 32 codes each, from two words.
#[inline(always)]
unsafe fn add_fifth_bits(codes: __m512i, words: [*const u8; 2]) -> __m512i {
    unsafe {
        let word = |p: *const u8| u64::from(p.cast::<u32>().read_unaligned());
        let set = word(words[0]) | word(words[1]) << 32;
        _mm512_mask_add_epi8(codes, set, codes, _mm512_set1_epi8(16))
    }
}

macro_rules! codes_32 {
    ($($name:ident $bytes:literal bias $bias:literal min $min:literal |$p:ident| $codes:expr $(, $scales:item)?;)*) => {$(
        pub struct $name;
        impl Codes32 for $name {
            const BYTES: usize = $bytes;
            const BIAS: i32 = $bias;
            const HAS_MIN: bool = $min;
            #[inline(always)]
            unsafe fn codes($p: [*const u8; 2]) -> __m512i {
                unsafe { $codes }
            }
            $($scales)?
        }
    )*};
}
codes_32! {
    Q40 18 bias 8 min false |p| nibbles(p.map(|p| p.add(2)));
    Q41 20 bias 0 min true |p| nibbles(p.map(|p| p.add(4)));
    Q50 22 bias 16 min false |p| add_fifth_bits(nibbles(p.map(|p| p.add(6))), p.map(|p| p.add(2)));
    Q51 24 bias 0 min true |p| add_fifth_bits(nibbles(p.map(|p| p.add(8))), p.map(|p| p.add(4)));
    Q80 34 bias 128 min false |p| _mm512_xor_si512(load_halves(p[0].add(2), p[1].add(2)), _mm512_set1_epi8(-128));
    Iq4Nl 18 bias 128 min false |p| look_up(nibbles(p.map(|p| p.add(2))), quant::IQ4_VALUES);
    Mxfp4 17 bias 128 min false |p| look_up(nibbles(p.map(|p| p.add(1))), quant::MXFP4_VALUES),
        #[inline(always)]
        unsafe fn scales(p: [*const u8; 4]) -> __m128 {
            unsafe {
                let d = p.map(|p| quant::e8m0_half_to_f32(*p));
                _mm_loadu_ps(d.as_ptr())
            }
        };
}

/// The values of nibbles, 128 larger so that they are unsigned.
#[inline(always)]
unsafe fn look_up(nibbles: __m512i, values: [i8; 16]) -> __m512i {
    unsafe {
        let table = values.map(|value| value ^ -128);
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(table.as_ptr().cast())), nibbles)
    }
}

/// Blocks of 32, two at a time; their float steps follow each other in order.
#[inline(always)]
pub unsafe fn blocks_32<W: Codes32, const T: usize>(
    weights: *const u8,
    row_bytes: usize,
    tokens: [*const Act32x8; T],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let blocks = row_bytes / W::BYTES;
        let mut y = [_mm_setzero_ps(); T];
        let ahead = weights.wrapping_add(lead(row_bytes));
        for pair in 0..blocks.div_ceil(2) {
            // A last block without a partner stands beside itself, with activations that are all zero.
            let second = if 2 * pair + 1 < blocks { W::BYTES } else { 0 };
            let p: [[*const u8; 2]; 4] = std::array::from_fn(|r| {
                let first = weights.add(r * row_bytes + 2 * pair * W::BYTES);
                [first, first.add(second)]
            });
            let codes: [__m512i; 4] = std::array::from_fn(|r| {
                prefetch::<FAR>(ahead, pair * ROWS + r, 2 * W::BYTES);
                W::codes(p[r])
            });
            let d: [__m128; 2] = std::array::from_fn(|j| W::scales(std::array::from_fn(|r| p[r][j])));
            let (g, at) = (pair / 4, 2 * (pair % 4));
            for t in 0..T {
                let a = &*tokens[t].add(g);
                let q = _mm512_loadu_si512(a.q.as_ptr().add(32 * at).cast());
                let dots = codes.map(|codes| _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, q));
                let quarters = sum_each_quarter(dots);
                let halves = _mm512_add_epi32(quarters, _mm512_shuffle_i32x4::<0b10_11_00_01>(quarters, quarters));
                let sums = [_mm512_castsi512_si128(halves), _mm512_extracti32x4_epi32::<2>(halves)];
                for j in 0..if second > 0 { 2 } else { 1 } {
                    let sum = _mm_sub_epi32(sums[j], _mm_set1_epi32(W::BIAS * a.sums[at + j]));
                    let x = _mm_mul_ps(_mm_cvtepi32_ps(sum), d[j]);
                    y[t] = _mm_fmadd_ps(x, _mm_set1_ps(a.d[at + j]), y[t]);
                    if W::HAS_MIN {
                        let low = _mm_set1_ps(a.sums[at + j] as f32 * a.d[at + j]);
                        y[t] = _mm_fmadd_ps(halves_of(&p, j), low, y[t]);
                    }
                }
            }
        }
        store(y, out, stride);
    }
}

/// The minima, which follow the scales.
#[inline(always)]
unsafe fn halves_of(p: &[[*const u8; 2]; 4], j: usize) -> __m128 {
    unsafe { halves(std::array::from_fn(|r| p[r][j].add(2))) }
}
