//! Blocks of the formats whose codes come from grids, as registers: see quant/grids.rs, and for the layout of each its own
//! file there.
//!
//! Entries are looked up one by one: the instruction that looks up eight is no faster where it is good, and many times
//! slower on other processors.
//!
//! # Safety
//! As in `blocks.rs`.
#![allow(clippy::missing_safety_doc)]
use super::blocks::{Block256, each_twice, load64, load128, load256, set_bits, word};
use crate::{
    kernels::formats::*,
    quant::grids::{self, EVEN_SIGNS},
};
use std::arch::x86_64::*;

macro_rules! grid_blocks {
    ($($name:ident $codes:ident $scales:ident d times $factor:literal;)*) => {$(
        impl Block256 for $name {
            const BIAS: Option<i32> = Some(Self::LARGEST as i32);
            const D_AT: [usize; 2] = [0; 2];
            const D_FACTOR: f32 = $factor;
            const COSTLY: bool = true;
            #[inline(always)]
            unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
                unsafe { [$codes(p, 2 * i), $codes(p, 2 * i + 1)] }
            }
            #[inline(always)]
            unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
                unsafe { [[odd($scales(p[0])); 2], [odd($scales(p[1])); 2]] }
            }
        }
    )*};
}
grid_blocks! {
    Iq1S iq1_s iq1_s_scales d times 0.125;
    Iq2Xxs iq2_xxs iq2_xxs_scales d times 0.125;
    Iq2Xs iq2_xs iq2_xs_scales d times 0.125;
    Iq2S iq2_s iq2_s_scales d times 0.125;
    Iq3Xxs iq3_xxs iq3_xxs_scales d times 0.25;
    Iq3S iq3_s iq3_s_scales d times 1.0;
}

/// `2 s + 1` of words.
#[inline(always)]
unsafe fn odd(s: __m256i) -> __m256i {
    unsafe { _mm256_add_epi16(_mm256_add_epi16(s, s), _mm256_set1_epi16(1)) }
}

/// Entries of eight codes.
#[inline(always)]
unsafe fn eights(entry: impl Fn(usize) -> u64) -> __m256i {
    unsafe { _mm256_setr_epi64x(entry(0) as i64, entry(1) as i64, entry(2) as i64, entry(3) as i64) }
}

/// Entries of four codes.
#[inline(always)]
unsafe fn fours(entry: impl Fn(usize) -> u32) -> __m256i {
    let e = |k| entry(k) as i32;
    unsafe { _mm256_setr_epi32(e(0), e(1), e(2), e(3), e(4), e(5), e(6), e(7)) }
}

/// Codes with the signs of a mask, and larger by what makes them unsigned.
#[inline(always)]
unsafe fn signed<W: Block256>(codes: __m256i, negative: __m256i) -> __m256i {
    unsafe {
        // -x = (x ^ -1) - -1.
        let rest = _mm256_sub_epi8(negative, _mm256_set1_epi8(W::LARGEST as i8));
        _mm256_sub_epi8(_mm256_xor_si256(codes, negative), rest)
    }
}

/// The masks of four times seven bits.
#[inline(always)]
unsafe fn even_signs(signs: u32) -> __m256i {
    unsafe { eights(|k| EVEN_SIGNS[(signs >> (7 * k) & 127) as usize]) }
}

/// Byte `at` of a block, for an index.
#[inline(always)]
unsafe fn byte(p: *const u8, at: usize) -> usize {
    unsafe { usize::from(*p.add(at)) }
}

#[inline(always)]
unsafe fn word16(p: *const u8) -> usize {
    unsafe { usize::from(p.cast::<u16>().read_unaligned()) }
}

#[inline(always)]
unsafe fn iq1_s(p: *const u8, j: usize) -> __m256i {
    unsafe {
        let high = word16(p.add(34 + 2 * j));
        let codes = eights(|k| grids::IQ1[byte(p, 2 + 4 * j + k) | (high >> (3 * k) & 7) << 8]);
        let delta = if high >> 15 == 1 { -1 } else { 1 };
        _mm256_add_epi8(codes, _mm256_set1_epi8(delta + Iq1S::LARGEST as i8))
    }
}

#[inline(always)]
unsafe fn iq1_s_scales(p: *const u8) -> __m256i {
    unsafe {
        let scales = _mm_and_si128(_mm_srli_epi16::<12>(load128(p.add(34))), _mm_set1_epi16(7));
        _mm256_broadcastsi128_si256(scales)
    }
}

#[inline(always)]
unsafe fn iq2_xxs(p: *const u8, j: usize) -> __m256i {
    unsafe {
        let codes = eights(|k| grids::IQ2_XXS[byte(p, 2 + 8 * j + k)]);
        signed::<Iq2Xxs>(codes, even_signs(word(p.add(6 + 8 * j))))
    }
}

/// The highest four bits of each 64.
#[inline(always)]
unsafe fn iq2_xxs_scales(p: *const u8) -> __m256i {
    unsafe {
        let first = _mm256_castsi256_ps(_mm256_srli_epi64::<60>(load256(p.add(2))));
        let second = _mm256_castsi256_ps(_mm256_srli_epi64::<60>(load256(p.add(34))));
        let halves = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(first, second));
        each_twice(_mm256_permute4x64_epi64::<0b11_01_10_00>(halves))
    }
}

#[inline(always)]
unsafe fn iq2_xs(p: *const u8, j: usize) -> __m256i {
    unsafe {
        let q = |k: usize| word16(p.add(2 + 8 * j + 2 * k));
        signed::<Iq2Xs>(eights(|k| grids::IQ2_XS[q(k) & 511]), eights(|k| EVEN_SIGNS[q(k) >> 9]))
    }
}

#[inline(always)]
unsafe fn iq2_xs_scales(p: *const u8) -> __m256i {
    unsafe { nibble_scales(p.add(66)) }
}

#[inline(always)]
unsafe fn iq2_s(p: *const u8, j: usize) -> __m256i {
    unsafe {
        let high = byte(p, 66 + j);
        let codes = eights(|k| grids::IQ2_S[byte(p, 2 + 4 * j + k) | high << (8 - 2 * k) & 0x300]);
        signed::<Iq2S>(codes, set_bits(word(p.add(34 + 4 * j))))
    }
}

#[inline(always)]
unsafe fn iq2_s_scales(p: *const u8) -> __m256i {
    unsafe { nibble_scales(p.add(74)) }
}

/// Sixteen nibbles: those of the even 16s of elements are the low ones.
#[inline(always)]
unsafe fn nibble_scales(p: *const u8) -> __m256i {
    unsafe {
        let bytes = load64(p);
        let both = _mm_unpacklo_epi64(bytes, _mm_srli_epi16::<4>(bytes));
        _mm256_cvtepu8_epi16(_mm_and_si128(both, _mm_set1_epi8(15)))
    }
}

#[inline(always)]
unsafe fn iq3_xxs(p: *const u8, j: usize) -> __m256i {
    unsafe {
        let codes = fours(|k| grids::IQ3_XXS[byte(p, 2 + 8 * j + k)]);
        signed::<Iq3Xxs>(codes, even_signs(word(p.add(66 + 4 * j))))
    }
}

#[inline(always)]
unsafe fn iq3_xxs_scales(p: *const u8) -> __m256i {
    unsafe { each_twice(_mm256_srli_epi32::<28>(load256(p.add(66)))) }
}

#[inline(always)]
unsafe fn iq3_s(p: *const u8, j: usize) -> __m256i {
    unsafe {
        let high = byte(p, 66 + j);
        let codes = fours(|k| grids::IQ3_S[byte(p, 2 + 8 * j + k) | high << (8 - k) & 0x100]);
        signed::<Iq3S>(codes, set_bits(word(p.add(74 + 4 * j))))
    }
}

#[inline(always)]
unsafe fn iq3_s_scales(p: *const u8) -> __m256i {
    unsafe {
        let all = _mm256_set1_epi32(word(p.add(106)) as i32);
        let scales = _mm256_srlv_epi32(all, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
        each_twice(_mm256_and_si256(scales, _mm256_set1_epi32(15)))
    }
}
