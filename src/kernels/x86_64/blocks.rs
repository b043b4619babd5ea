//! Blocks of every format as 256-bit registers: codes as bytes, scales and minima as words.
//!
//! # Safety
//! As in `generic/`: AVX2 is enabled where this is inlined, and pointers are valid for a block.
#![allow(clippy::missing_safety_doc, clippy::needless_range_loop)]
use crate::{
    kernels::{formats::*, simd::Factors256},
    quant::{self, MXFP4_VALUES},
};
use std::arch::x86_64::*;

/// A super-block of 256 elements. Scales and minima come as words, those of the even 16s of elements in the lower half
/// and those of the odd ones in the upper half.
pub trait Block256: Format256 {
    /// How much larger the codes are than the values: then they are unsigned. `None`: signed bytes.
    const BIAS: Option<i32>;
    /// The 32 codes of the eighths 2 i and 2 i + 1.
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2];
    /// Scales and minima of two blocks; the scales again for formats without minima.
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2];
    /// Where the f16 numbers `d` and `dmin` are; the same place twice without minima.
    const D_AT: [usize; 2];
    /// A power of two that `d` is multiplied by.
    const D_FACTOR: f32 = 1.0;
    /// Codes take so long to unpack that they are kept for the next tokens.
    const COSTLY: bool = false;
    /// `d` of four blocks.
    #[inline(always)]
    unsafe fn d(p: [*const u8; 4]) -> __m128 {
        unsafe { _mm_mul_ps(halves(p.map(|p| p.add(Self::D_AT[0]))), _mm_set1_ps(Self::D_FACTOR)) }
    }
    /// `dmin` of four blocks, in formats with minima.
    #[inline(always)]
    unsafe fn dmin(p: [*const u8; 4]) -> __m128 {
        unsafe { halves(p.map(|p| p.add(Self::D_AT[1]))) }
    }
}

/// How the vector machines of both widths unpack 16 rows: by the registers of this file in the formats that have them.
macro_rules! unpacking {
    () => {
        #[inline(always)]
        fn prefetch(p: *const u8) {
            // SAFETY: a prefetch reads nothing that the program sees, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn codes_256<W: Format256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
            with_vector_format!(W::TYPE, K => unsafe { blocks::codes_256::<K>(blocks, bias, out) },
                unsafe { expanded::codes_256::<Self, W>(blocks, bias, out) })
        }
        #[inline(always)]
        unsafe fn factors_256<W: Format256>(blocks: [*const u8; 16], out: &mut Factors256) {
            with_vector_format!(W::TYPE, K => unsafe { blocks::factors_256::<K>(blocks, out) },
                unsafe { expanded::factors_256::<W>(blocks, out) })
        }
        #[inline(always)]
        unsafe fn codes_32<W: Format32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
            with_format_32!(W::TYPE, K => unsafe { blocks::codes_32::<K>(blocks, n, bias, out) })
        }
        #[inline(always)]
        unsafe fn factors_32<W: Format32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
            with_format_32!(W::TYPE, K => unsafe { blocks::factors_32::<K>(blocks, d, m) })
        }
    };
}
pub(super) use unpacking;

/// [`Simd::codes_256`](crate::kernels::simd::Simd::codes_256).
#[inline(always)]
pub unsafe fn codes_256<W: Block256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
    unsafe {
        let bias = _mm256_set1_epi8(bias.wrapping_sub(W::BIAS.unwrap_or(0) as u8) as i8);
        for i in 0..4 {
            for eight in 0..2 {
                let mut codes = [[_mm256_setzero_si256(); 8]; 2];
                for r in 0..8 {
                    [codes[0][r], codes[1][r]] = W::codes(blocks[8 * eight + r], i);
                }
                for half in 0..2 {
                    store_codes(&mut codes[half], bias, out.add(16 * i + 8 * half), eight);
                }
            }
        }
    }
}

/// 32 codes of eight rows: the lower or upper half of eight vectors of a panel.
#[inline(always)]
unsafe fn store_codes(rows: &mut [__m256i; 8], bias: __m256i, out: *mut [u8; 64], eight: usize) {
    unsafe {
        transpose8(rows);
        for k in 0..8 {
            _mm256_storeu_si256(out.add(k).cast::<__m256i>().add(eight), _mm256_add_epi8(rows[k], bias));
        }
    }
}

/// [`Simd::factors_256`](crate::kernels::simd::Simd::factors_256).
#[inline(always)]
pub unsafe fn factors_256<W: Block256>(blocks: [*const u8; 16], out: &mut Factors256) {
    unsafe {
        for eight in 0..2 {
            let (mut scales, mut mins) = ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
            for r in (0..8).step_by(2) {
                let pair = W::scales([blocks[8 * eight + r], blocks[8 * eight + r + 1]]);
                for i in 0..2 {
                    [scales[r + i], mins[r + i]] = pair[i];
                }
            }
            store_words(&mut scales, &mut out.scales, eight);
            if !W::SIGNED {
                store_words(&mut mins, &mut out.mins, eight);
            }
        }
        for four in 0..4 {
            let p: [*const u8; 4] = std::array::from_fn(|i| blocks[4 * four + i]);
            _mm_storeu_ps(out.d.as_mut_ptr().add(4 * four), W::d(p));
            _mm_storeu_ps(out.dmin.as_mut_ptr().add(4 * four), W::dmin(p));
        }
    }
}

/// Words of eight rows, in the order of [`Block256::scales`]; as pairs in natural order.
#[inline(always)]
unsafe fn store_words(rows: &mut [__m256i; 8], out: &mut [[i32; 16]; 8], eight: usize) {
    unsafe {
        let pairs = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        for row in rows.iter_mut() {
            let quarters = _mm256_permute4x64_epi64::<0b11_01_10_00>(*row);
            *row = _mm256_shuffle_epi8(quarters, _mm256_broadcastsi128_si256(pairs));
        }
        transpose8(rows);
        for j in 0..8 {
            _mm256_storeu_si256(out[j].as_mut_ptr().cast::<__m256i>().add(eight), rows[j]);
        }
    }
}

/// [`Simd::codes_32`](crate::kernels::simd::Simd::codes_32).
#[inline(always)]
pub unsafe fn codes_32<W: Block32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
    unsafe {
        let stored = if W::SIGNED { 0 } else { W::BIAS };
        let bias = _mm256_set1_epi8(bias.wrapping_sub(stored) as i8);
        for j in 0..n {
            for eight in 0..2 {
                let mut codes = [_mm256_setzero_si256(); 8];
                for r in 0..8 {
                    codes[r] = W::codes(blocks[8 * eight + r].add(j * W::BYTES));
                }
                store_codes(&mut codes, bias, out.add(8 * j), eight);
            }
        }
    }
}

/// [`Simd::factors_32`](crate::kernels::simd::Simd::factors_32).
#[inline(always)]
pub unsafe fn factors_32<W: Block32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
    unsafe {
        for four in 0..4 {
            let p: [*const u8; 4] = std::array::from_fn(|i| blocks[4 * four + i]);
            _mm_storeu_ps(d.as_mut_ptr().add(4 * four), W::scales(p));
            if W::HAS_MIN {
                _mm_storeu_ps(m.as_mut_ptr().add(4 * four), halves(p.map(|p| p.add(2))));
            }
        }
    }
}

/// Transposes 8 × 8 words of 32 bits: pairs, then quads, then 128-bit lanes.
#[inline(always)]
pub unsafe fn transpose8(v: &mut [__m256i; 8]) {
    unsafe {
        let mut t = [_mm256_setzero_si256(); 8];
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
        }
        for i in 0..2 {
            let b = 4 * i;
            v[b] = _mm256_unpacklo_epi64(t[b], t[b + 2]);
            v[b + 1] = _mm256_unpackhi_epi64(t[b], t[b + 2]);
            v[b + 2] = _mm256_unpacklo_epi64(t[b + 1], t[b + 3]);
            v[b + 3] = _mm256_unpackhi_epi64(t[b + 1], t[b + 3]);
        }
        // Now lane L of v[4 i + c] holds column 4 L + c of rows 4 i .. 4 i + 3.
        for c in 0..4 {
            t[c] = _mm256_permute2x128_si256::<0x20>(v[c], v[4 + c]);
            t[4 + c] = _mm256_permute2x128_si256::<0x31>(v[c], v[4 + c]);
        }
        *v = t;
    }
}

/// A block of 32 elements.
pub trait Block32: Format32 {
    /// Codes are signed bytes; otherwise they are [`Format32::BIAS`] larger than their values.
    const SIGNED: bool = Self::LARGEST > 127;
    unsafe fn codes(p: *const u8) -> __m256i;
    /// The scales of four blocks.
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 4]) -> __m128 {
        unsafe { halves(p) }
    }
}

#[inline(always)]
pub unsafe fn load64(p: *const u8) -> __m128i {
    unsafe { _mm_loadl_epi64(p.cast()) }
}

#[inline(always)]
pub unsafe fn load128(p: *const u8) -> __m128i {
    unsafe { _mm_loadu_si128(p.cast()) }
}

#[inline(always)]
pub unsafe fn load256(p: *const u8) -> __m256i {
    unsafe { _mm256_loadu_si256(p.cast()) }
}

#[inline(always)]
pub unsafe fn word(p: *const u8) -> u32 {
    unsafe { p.cast::<u32>().read_unaligned() }
}

/// Four f16 numbers as f32.
#[inline(always)]
pub unsafe fn halves(p: [*const u8; 4]) -> __m128 {
    unsafe {
        let half = |p: *const u8| u64::from(p.cast::<u16>().read_unaligned());
        let packed = half(p[0]) | half(p[1]) << 16 | half(p[2]) << 32 | half(p[3]) << 48;
        _mm_cvtph_ps(_mm_cvtsi64_si128(packed as i64))
    }
}

/// `(x moved so that bit `from` becomes bit `to`) & mask` in every byte; the mask holds only bits that come from the same
/// byte.
#[inline(always)]
unsafe fn bits(x: __m256i, from: i32, to: i32, mask: u8) -> __m256i {
    unsafe {
        let moved = if from >= to {
            _mm256_srl_epi16(x, _mm_cvtsi32_si128(from - to))
        } else {
            _mm256_sll_epi16(x, _mm_cvtsi32_si128(to - from))
        };
        _mm256_and_si256(moved, _mm256_set1_epi8(mask as i8))
    }
}

/// Bytes 0, 2, 4 … then 1, 3, 5 ….
#[inline(always)]
unsafe fn even_then_odd(x: __m128i) -> __m128i {
    unsafe { _mm_shuffle_epi8(x, _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15)) }
}

/// Scales and minima of two blocks of Q4_K or Q5_K, whose first 16 bytes are d, dmin and the twelve bytes that
/// quant/q4_k.rs describes: words `a`, `b` and `c`.
#[inline(always)]
unsafe fn six_bit_pairs(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
    unsafe {
        let heads = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load128(p[0])), load128(p[1]));
        // Low bits: a, b, c, c >> 4. High bits of the last two: a >> 2, b >> 2.
        let low = _mm256_srlv_epi32(
            _mm256_shuffle_epi32::<0b11_11_10_01>(heads),
            _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0, 0, 4)),
        );
        let high = _mm256_srli_epi32::<2>(_mm256_shuffle_epi32::<0b10_01_00_00>(heads));
        let low_bits = _mm256_broadcastsi128_si256(_mm_setr_epi32(0x3f3f_3f3f, 0x3f3f_3f3f, 0x0f0f_0f0f, 0x0f0f_0f0f));
        let high_bits = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0, 0x3030_3030, 0x3030_3030));
        // Bytes: scales 0..4, minima 0..4, scales 4..8, minima 4..8.
        let bytes = _mm256_or_si256(_mm256_and_si256(low, low_bits), _mm256_and_si256(high, high_bits));
        let scales =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 8, -1, 9, -1, 10, -1, 11, -1));
        let mins =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(4, -1, 5, -1, 6, -1, 7, -1, 12, -1, 13, -1, 14, -1, 15, -1));
        let first = _mm256_permute2x128_si256::<0x00>(bytes, bytes);
        let second = _mm256_permute2x128_si256::<0x11>(bytes, bytes);
        [
            [_mm256_shuffle_epi8(first, scales), _mm256_shuffle_epi8(first, mins)],
            [_mm256_shuffle_epi8(second, scales), _mm256_shuffle_epi8(second, mins)],
        ]
    }
}

/// Runs a function of one block on two.
macro_rules! each {
    ($p:expr, $one:expr) => {
        [$one($p[0]), $one($p[1])]
    };
}

impl Block256 for Q4K {
    const BIAS: Option<i32> = Some(0);
    const D_AT: [usize; 2] = [0, 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe {
            let bytes = load256(p.add(16 + 32 * i));
            [bits(bytes, 0, 0, 15), bits(bytes, 4, 0, 15)]
        }
    }
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { six_bit_pairs(p) }
    }
}

impl Block256 for Q5K {
    const BIAS: Option<i32> = Some(0);
    const D_AT: [usize; 2] = [0, 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe {
            let (bytes, fifth) = (load256(p.add(48 + 32 * i)), load256(p.add(16)));
            let j = 2 * i as i32;
            [
                _mm256_or_si256(bits(bytes, 0, 0, 15), bits(fifth, j, 4, 16)),
                _mm256_or_si256(bits(bytes, 4, 0, 15), bits(fifth, j + 1, 4, 16)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { six_bit_pairs(p) }
    }
}

impl Block256 for Q6K {
    const BIAS: Option<i32> = Some(32);
    const D_AT: [usize; 2] = [208; 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe {
            let (half, g) = (i / 2, 2 * (i as i32 % 2));
            let low = p.add(64 * half);
            let high = load256(p.add(128 + 32 * half));
            [
                _mm256_or_si256(bits(load256(low), 2 * g, 0, 15), bits(high, 2 * g, 4, 0x30)),
                _mm256_or_si256(bits(load256(low.add(32)), 2 * g, 0, 15), bits(high, 2 * g + 2, 4, 0x30)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, q6_k_scales) }
    }
}

impl Block256 for Q2K {
    const BIAS: Option<i32> = Some(0);
    const D_AT: [usize; 2] = [80, 82];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe { two_bits(p.add(16), i) }
    }
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, q2_k_scales) }
    }
}

impl Block256 for Tq20 {
    const BIAS: Option<i32> = Some(1);
    const D_AT: [usize; 2] = [64; 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe { two_bits(p, i) }
    }
    #[inline(always)]
    unsafe fn scales(_: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { [[_mm256_set1_epi16(1); 2]; 2] }
    }
}

/// The two-bit codes of the eighths 2 i and 2 i + 1; see quant/q2_k.rs.
#[inline(always)]
unsafe fn two_bits(p: *const u8, i: usize) -> [__m256i; 2] {
    unsafe {
        let (bytes, at) = (load256(p.add(32 * (i / 2))), 4 * (i as i32 % 2));
        [bits(bytes, at, 0, 3), bits(bytes, at + 2, 0, 3)]
    }
}

impl Block256 for Q3K {
    const BIAS: Option<i32> = Some(4);
    const D_AT: [usize; 2] = [108; 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe {
            let (bytes, at) = (load256(p.add(32 + 32 * (i / 2))), 4 * (i as i32 % 2));
            let (third, j) = (load256(p), 2 * i as i32);
            [
                _mm256_or_si256(bits(bytes, at, 0, 3), bits(third, j, 2, 4)),
                _mm256_or_si256(bits(bytes, at + 2, 0, 3), bits(third, j + 1, 2, 4)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, q3_k_scales) }
    }
}

impl Block256 for Iq4Xs {
    const BIAS: Option<i32> = None;
    const D_AT: [usize; 2] = [0; 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe {
            let first = p.add(8 + 32 * i);
            [look_up(nibbles(first), quant::IQ4_VALUES), look_up(nibbles(first.add(16)), quant::IQ4_VALUES)]
        }
    }
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, iq4_xs_scales) }
    }
}

#[inline(always)]
unsafe fn q6_k_scales(p: *const u8) -> [__m256i; 2] {
    unsafe { [_mm256_cvtepi8_epi16(even_then_odd(load128(p.add(192)))); 2] }
}

#[inline(always)]
unsafe fn q2_k_scales(p: *const u8) -> [__m256i; 2] {
    unsafe {
        let bytes = even_then_odd(load128(p));
        let (scales, mins) = (bytes, _mm_srli_epi16::<4>(bytes));
        let nibble = _mm_set1_epi8(15);
        [_mm256_cvtepu8_epi16(_mm_and_si128(scales, nibble)), _mm256_cvtepu8_epi16(_mm_and_si128(mins, nibble))]
    }
}

/// See quant/q3_k.rs: four scales of each word.
#[inline(always)]
unsafe fn q3_k_scales(p: *const u8) -> [__m256i; 2] {
    unsafe {
        let (a, b, high) = (word(p.add(96)), word(p.add(100)), word(p.add(104)));
        let scale = |low: u32, s: u32| ((low & 0x0f0f_0f0f) | ((high >> (2 * s)) & 0x0303_0303) << 4) as i32;
        let bytes = _mm_setr_epi32(scale(a, 0), scale(b, 1), scale(a >> 4, 2), scale(b >> 4, 3));
        [_mm256_cvtepi8_epi16(even_then_odd(_mm_sub_epi8(bytes, _mm_set1_epi8(32)))); 2]
    }
}

#[inline(always)]
unsafe fn iq4_xs_scales(p: *const u8) -> [__m256i; 2] {
    unsafe {
        let high = _mm256_set1_epi32(i32::from(p.add(2).cast::<u16>().read_unaligned()));
        let low = _mm256_set1_epi32(word(p.add(4)) as i32);
        let high = _mm256_srlv_epi32(high, _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14));
        let low = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        let high = _mm256_slli_epi32::<4>(_mm256_and_si256(high, _mm256_set1_epi32(3)));
        let scales = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)), high);
        let scales = _mm256_sub_epi32(scales, _mm256_set1_epi32(32));
        [each_twice(scales); 2]
    }
}

/// Eight numbers as words in the lower half, and again in the upper one: scales of 32 elements each.
#[inline(always)]
pub unsafe fn each_twice(scales: __m256i) -> __m256i {
    unsafe { _mm256_permute4x64_epi64::<0b10_00_10_00>(_mm256_packs_epi32(scales, scales)) }
}

/// The nibbles of 16 bytes: first the low ones, then the high ones.
#[inline(always)]
unsafe fn nibbles(p: *const u8) -> __m256i {
    unsafe {
        let bytes = load128(p);
        let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(bytes), _mm_srli_epi16::<4>(bytes));
        _mm256_and_si256(both, _mm256_set1_epi8(15))
    }
}

#[inline(always)]
unsafe fn look_up(nibbles: __m256i, values: [i8; 16]) -> __m256i {
    unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(values.as_ptr().cast())), nibbles) }
}

/// 16 in every byte whose bit of the word is set.
#[inline(always)]
unsafe fn fifth_bits(p: *const u8) -> __m256i {
    unsafe { _mm256_and_si256(set_bits(word(p)), _mm256_set1_epi8(16)) }
}

/// 0xff in every byte whose bit of the word is set.
#[inline(always)]
pub unsafe fn set_bits(word: u32) -> __m256i {
    unsafe {
        // Byte `i` gets the byte of the word that holds its bit, and keeps that bit.
        let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
        let mine = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word as i32), spread), bit);
        _mm256_cmpeq_epi8(mine, bit)
    }
}

macro_rules! blocks_32 {
    ($($name:ident |$p:ident| $codes:expr $(, $scales:item)?;)*) => {$(
        impl Block32 for $name {
            #[inline(always)]
            unsafe fn codes($p: *const u8) -> __m256i {
                unsafe { $codes }
            }
            $($scales)?
        }
    )*};
}
blocks_32! {
    Q40 |p| nibbles(p.add(2));
    Q41 |p| nibbles(p.add(4));
    Q50 |p| _mm256_or_si256(nibbles(p.add(6)), fifth_bits(p.add(2)));
    Q51 |p| _mm256_or_si256(nibbles(p.add(8)), fifth_bits(p.add(4)));
    Q80 |p| load256(p.add(2));
    Iq4Nl |p| look_up(nibbles(p.add(2)), quant::IQ4_VALUES);
    Mxfp4 |p| look_up(nibbles(p.add(1)), MXFP4_VALUES.map(|value| value + 12)),
        #[inline(always)]
        unsafe fn scales(p: [*const u8; 4]) -> __m128 {
            unsafe {
                let d = p.map(|p| quant::e8m0_half_to_f32(*p));
                _mm_loadu_ps(d.as_ptr())
            }
        };
}
