//! Matrix times a few tokens on AVX2: four rows at a time, straight from the file's layout. They lie `apart` rows from each
//! other, and so do their results.
//!
//! # Safety
//! As in `generic/`: the features are enabled where this is inlined, and pointers are valid for what is read or written.
#![allow(clippy::missing_safety_doc, clippy::needless_range_loop)]
use super::{
    blocks::{Block32, Block256, halves},
    decode::{ROWS, prefetch},
};
use crate::{
    kernels::generic::panel::TILE,
    quant::{Act32x8, Act256},
};
use std::arch::{asm, x86_64::*};

/// Four row sums, one after the other: adds up the eight lanes of each of four vectors.
#[inline(always)]
unsafe fn sum_each(v: [__m256i; 4]) -> __m128i {
    unsafe {
        let a = _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
        let b = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
        let c = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        _mm_add_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256::<1>(c))
    }
}

/// By how many bytes reads are asked for early (measured on Zen 3: from 256 to 1024 within 5 %).
const AHEAD: usize = 512;

/// `out[r * apart]` = lane `r`.
#[inline(always)]
unsafe fn store_apart(y: __m128, out: *mut f32, apart: usize) {
    unsafe {
        let mut lanes = [0.0; ROWS];
        _mm_storeu_ps(lanes.as_mut_ptr(), y);
        for (r, lane) in lanes.into_iter().enumerate() {
            *out.add(r * apart) = lane;
        }
    }
}

/// Sums of two products as words. They never saturate: unsigned codes are at most 124 (IQ3_XXS), the magnitude of signed
/// ones is at most 128, that of activations at most 127, and 2 * 128 * 127 = 32512.
#[inline(always)]
unsafe fn products(codes: __m256i, q: __m256i, signed: bool) -> __m256i {
    unsafe {
        if signed {
            _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(q, codes))
        } else {
            _mm256_maddubs_epi16(codes, q)
        }
    }
}

/// Byte indices that repeat word `j` of each half.
static WORDS: [[u8; 32]; 8] = {
    let mut indices = [[0; 32]; 8];
    let mut i = 0;
    while i < 8 * 32 {
        indices[i / 32][i % 32] = (2 * (i / 32) + i % 2) as u8;
        i += 1;
    }
    indices
};

/// `vpshufb`. Not the intrinsic: LLVM knows the indices and makes two shuffles of one.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn vpshufb(words: __m256i, indices: __m256i) -> __m256i {
    let out;
    // SAFETY: a pure register instruction; the caller has AVX2 enabled.
    unsafe {
        asm!("vpshufb {0}, {1}, {2}", out(ymm_reg) out, in(ymm_reg) words, in(ymm_reg) indices,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// `out[t * stride + r * apart]` for rows `r * apart` of super-blocks of 256, four of them, and up to [`TILE`] tokens.
#[inline(always)]
pub unsafe fn rows_256<W: Block256>(
    weights: *const u8,
    row_bytes: usize,
    apart: usize,
    tokens: &[*const Act256],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let mut y = [_mm_setzero_ps(); TILE];
        for b in 0..row_bytes / W::BYTES {
            let mut p = [weights; ROWS];
            let (mut scales, mut mins) = ([_mm256_setzero_si256(); ROWS], [_mm256_setzero_si256(); ROWS]);
            for r in 0..ROWS {
                let row = weights.add(r * apart * row_bytes);
                p[r] = row.add(b * W::BYTES);
                prefetch::<0>(row.wrapping_add(AHEAD), b, W::BYTES);
            }
            for r in [0, 2] {
                let pair = W::scales([p[r], p[r + 1]]);
                for i in 0..2 {
                    [scales[r + i], mins[r + i]] = pair[i];
                }
            }
            let (d, dmin) = (W::d(p), W::dmin(p));
            let mut kept = [[[_mm256_setzero_si256(); 2]; 4]; ROWS];
            if W::COSTLY {
                for r in 0..ROWS {
                    for i in 0..4 {
                        kept[r][i] = W::codes(p[r], i);
                    }
                }
            }
            let pairs = tokens.len() / 2;
            for t in 0..pairs {
                let a = [&*tokens[2 * t].add(b), &*tokens[2 * t + 1].add(b)];
                let first = block_sums::<W, 2, 2>([p[0], p[1]], [&kept[0], &kept[1]], [scales[0], scales[1]], a);
                let second = block_sums::<W, 2, 2>([p[2], p[3]], [&kept[2], &kept[3]], [scales[2], scales[3]], a);
                for i in 0..2 {
                    let sums = [first[0][i], first[1][i], second[0][i], second[1][i]];
                    y[2 * t + i] = add_block::<W>(y[2 * t + i], sums, mins, d, dmin, a[i]);
                }
            }
            if tokens.len() % 2 == 1 {
                let t = 2 * pairs;
                let a = &*tokens[t].add(b);
                let kept = [&kept[0], &kept[1], &kept[2], &kept[3]];
                let sums = block_sums::<W, ROWS, 1>(p, kept, scales, [a]);
                y[t] = add_block::<W>(y[t], [sums[0][0], sums[1][0], sums[2][0], sums[3][0]], mins, d, dmin, a);
            }
        }
        for t in 0..tokens.len() {
            store_apart(y[t], out.add(t * stride), apart);
        }
    }
}

/// `sum(scale * step * sum(code * q))` of blocks of `R` rows times `T` tokens, each in eight lanes. `kept`: the codes of
/// blocks that are costly to unpack.
///
/// No closure unpacks them: it would be compiled without this tier's features.
#[inline(always)]
unsafe fn block_sums<W: Block256, const R: usize, const T: usize>(
    blocks: [*const u8; R],
    kept: [&[[__m256i; 2]; 4]; R],
    scales: [__m256i; R],
    tokens: [&Act256; T],
) -> [[__m256i; T]; R] {
    unsafe {
        let (mut sums, mut factors) = ([[_mm256_setzero_si256(); T]; R], [[_mm256_setzero_si256(); T]; R]);
        for t in 0..T {
            let steps = _mm256_broadcastsi128_si256(_mm_loadu_si128(tokens[t].steps.as_ptr().cast()));
            for r in 0..R {
                factors[r][t] = _mm256_mullo_epi16(scales[r], steps);
            }
        }
        for i in 0..4 {
            let mut codes = [[_mm256_setzero_si256(); 2]; R];
            for r in 0..R {
                codes[r] = if W::COSTLY { kept[r][i] } else { W::codes(blocks[r], i) };
            }
            for half in 0..2 {
                let j = 2 * i + half;
                let word = _mm256_loadu_si256(WORDS[j].as_ptr().cast());
                for t in 0..T {
                    let q = _mm256_loadu_si256(tokens[t].q.as_ptr().add(32 * j).cast());
                    for r in 0..R {
                        let products = products(codes[r][half], q, W::BIAS.is_none());
                        let scaled = _mm256_madd_epi16(products, vpshufb(factors[r][t], word));
                        sums[r][t] = _mm256_add_epi32(sums[r][t], scaled);
                    }
                }
            }
        }
        sums
    }
}

/// The float steps of a block of four rows and one token.
#[inline(always)]
unsafe fn add_block<W: Block256>(
    y: __m128,
    sums: [__m256i; ROWS],
    mins: [__m256i; ROWS],
    d: __m128,
    dmin: __m128,
    a: &Act256,
) -> __m128 {
    unsafe {
        let mut sum = sum_each(sums);
        if let (true, Some(bias)) = (W::SIGNED, W::BIAS) {
            sum = _mm_sub_epi32(sum, _mm_mullo_epi32(low_sums(mins, a), _mm_set1_epi32(bias)));
        }
        let mut x = _mm_mul_ps(_mm_cvtepi32_ps(sum), d);
        if !W::SIGNED {
            x = _mm_fnmadd_ps(_mm_cvtepi32_ps(low_sums(mins, a)), dmin, x);
        }
        _mm_fmadd_ps(x, _mm_set1_ps(a.d), y)
    }
}

/// `sum(min * sum of 16)` of four rows, their minima (or scales) in the order of [`Block256::scales`].
#[inline(always)]
unsafe fn low_sums(mins: [__m256i; ROWS], a: &Act256) -> __m128i {
    unsafe {
        let even_then_odd = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
        let natural = _mm256_loadu_si256(a.sums16.as_ptr().cast());
        let sums = _mm256_shuffle_epi8(natural, _mm256_broadcastsi128_si256(even_then_odd));
        let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
        let mut products = [sums; ROWS];
        for r in 0..ROWS {
            products[r] = _mm256_madd_epi16(mins[r], sums);
        }
        sum_each(products)
    }
}

/// Are codes so small that words hold sums of eight products?
const fn in_words<W: Block32>() -> bool {
    W::NIBBLES && 8 * 127 * W::LARGEST <= i16::MAX as usize
}

/// Products of blocks of four rows, as [`Block32::two_rows`] gives the rows 0 and 2 and the rows 1 and 3.
#[inline(always)]
unsafe fn word_dots(codes: [__m256i; ROWS], q: *const i8) -> __m128i {
    unsafe {
        let (low, high) = (
            _mm256_broadcastsi128_si256(_mm_loadu_si128(q.cast())),
            _mm256_broadcastsi128_si256(_mm_loadu_si128(q.add(16).cast())),
        );
        // Words: sums of four products, then of eight.
        let even = _mm256_add_epi16(_mm256_maddubs_epi16(codes[0], low), _mm256_maddubs_epi16(codes[1], high));
        let odd = _mm256_add_epi16(_mm256_maddubs_epi16(codes[2], low), _mm256_maddubs_epi16(codes[3], high));
        let words = _mm256_add_epi16(_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd));
        // Two sums of a row beside each other.
        let sums = _mm256_castsi256_ps(_mm256_madd_epi16(words, _mm256_set1_epi16(1)));
        let (first, second) = (_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
        _mm_add_epi32(
            _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(first, second)),
            _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(first, second)),
        )
    }
}

/// Products of blocks of four rows.
#[inline(always)]
unsafe fn dots<W: Block32>(codes: [__m256i; ROWS], q: *const i8) -> __m128i {
    unsafe {
        let q = _mm256_loadu_si256(q.cast());
        let mut dots = [_mm256_setzero_si256(); ROWS];
        for r in 0..ROWS {
            dots[r] = _mm256_madd_epi16(products(codes[r], q, W::SIGNED), _mm256_set1_epi16(1));
        }
        sum_each(dots)
    }
}

/// As [`rows_256`] for blocks of 32.
#[inline(always)]
pub unsafe fn rows_32<W: Block32>(
    weights: *const u8,
    row_bytes: usize,
    apart: usize,
    tokens: &[*const Act32x8],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        let mut y = [_mm_setzero_ps(); TILE];
        for b in 0..row_bytes / W::BYTES {
            let mut p = [weights; ROWS];
            for r in 0..ROWS {
                let row = weights.add(r * apart * row_bytes);
                p[r] = row.add(b * W::BYTES);
                prefetch::<0>(row.wrapping_add(AHEAD), b, W::BYTES);
            }
            let (g, j) = (b / 8, b % 8);
            let mut codes = [_mm256_setzero_si256(); ROWS];
            if const { in_words::<W>() } {
                [codes[0], codes[1]] = W::two_rows([p[0], p[2]]);
                [codes[2], codes[3]] = W::two_rows([p[1], p[3]]);
            } else {
                for r in 0..ROWS {
                    codes[r] = W::codes(p[r]);
                }
            }
            let d = W::scales(p);
            for t in 0..tokens.len() {
                let a = &*tokens[t].add(g);
                let q = a.q.as_ptr().add(32 * j);
                let dots = if const { in_words::<W>() } { word_dots(codes, q) } else { dots::<W>(codes, q) };
                let bias = if W::SIGNED { 0 } else { i32::from(W::BIAS) };
                let excess = _mm_set1_epi32(bias * a.sums[j]);
                let x = _mm_mul_ps(_mm_cvtepi32_ps(_mm_sub_epi32(dots, excess)), d);
                y[t] = _mm_fmadd_ps(x, _mm_set1_ps(a.d[j]), y[t]);
                if W::HAS_MIN {
                    let low = _mm_set1_ps(a.sums[j] as f32 * a.d[j]);
                    y[t] = _mm_fmadd_ps(halves(p.map(|p| p.add(2))), low, y[t]);
                }
            }
        }
        for t in 0..tokens.len() {
            store_apart(y[t], out.add(t * stride), apart);
        }
    }
}
