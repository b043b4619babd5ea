//! Blocks of every format as 256-bit registers: codes as bytes, scales and minima as words.
//!
//! # Safety
//! As in `generic/`: AVX2 is enabled where this is inlined, and pointers are valid for a block.
#![allow(clippy::missing_safety_doc, clippy::needless_range_loop)]
use super::unpack::{self, Bytewise, Factors, Lanes, Rows, four_words};
use crate::{
    kernels::formats::*,
    quant::{self, MXFP4_VALUES},
};
use std::arch::x86_64::*;

/// Bytes of a block: 32 of one row, or the four at the same place of each of some rows.
pub trait Bytes: Copy {
    type V: Rows;
    unsafe fn at(self, offset: usize) -> Self::V;
}

/// One row.
#[derive(Clone, Copy)]
struct Row(*const u8);

impl Bytes for Row {
    type V = __m256i;
    #[inline(always)]
    unsafe fn at(self, offset: usize) -> __m256i {
        unsafe { load256(self.0.add(offset)) }
    }
}

/// A super-block of 256 elements. Scales and minima come as words, those of the even 16s of elements in the lower half
/// and those of the odd ones in the upper half.
pub trait Block256: Format256 + Sized {
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

    /// The codes of some rows, `bias` added: lanes of vector `k` get columns 4 k .. 4 k + 4.
    #[inline(always)]
    unsafe fn codes_of_rows<V: Rows>(rows: &[*const u8], bias: u8, out: Lanes) {
        unsafe { unpack::by_rows::<Self>(rows, bias, out) }
    }
    /// Whether there is [`Block256::words_of_rows`].
    const BYTEWISE: bool = false;
    /// [`Simd::words_256`](crate::kernels::simd::Simd::words_256).
    #[inline(always)]
    unsafe fn words_of_rows<V: Rows, const I: usize, const HALF: usize>(
        _rows: &[*const u8],
        _bias: u8,
    ) -> [(usize, [V; 4]); 2] {
        unreachable!("rows of this format are unpacked as a whole")
    }
    /// What multiplies them.
    #[inline(always)]
    unsafe fn factors_of_rows<V: Rows>(rows: &[*const u8], out: Factors) {
        unsafe { unpack::factors_by_rows::<Self>(rows, out) }
    }
}

/// The codes of a format whose [`Bytewise::from_bytes`] says how they are made.
macro_rules! codes_by_bytes {
    () => {
        #[inline(always)]
        unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
            unsafe { Self::from_bytes(Row(p), i) }
        }
        #[inline(always)]
        unsafe fn codes_of_rows<V: Rows>(rows: &[*const u8], bias: u8, out: Lanes) {
            unsafe { unpack::by_words::<V, Self>(rows, bias, out) }
        }
        const BYTEWISE: bool = true;
        #[inline(always)]
        unsafe fn words_of_rows<V: Rows, const I: usize, const HALF: usize>(
            rows: &[*const u8],
            bias: u8,
        ) -> [(usize, [V; 4]); 2] {
            unsafe { unpack::words_of_rows::<V, Self, I, HALF>(rows, bias) }
        }
    };
}

/// A block of 32 elements.
pub trait Block32: Format32 {
    /// Codes are signed bytes; otherwise they are [`Format32::BIAS`] larger than their values.
    const SIGNED: bool = Self::LARGEST > 127;
    /// Where the codes are: bytes, or where no code needs so many bits, 16 times two nibbles.
    const CODES_AT: usize;
    const NIBBLES: bool = true;
    /// Where a word with the fifth bits of codes is.
    const FIFTH_BITS_AT: Option<usize> = None;
    /// Codes of nibbles.
    #[inline(always)]
    unsafe fn of_nibbles<V: Rows>(nibbles: V) -> V {
        nibbles
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8) -> __m256i {
        unsafe {
            if !Self::NIBBLES {
                return load256(p.add(Self::CODES_AT));
            }
            let codes = Self::of_nibbles(nibbles(p.add(Self::CODES_AT)));
            match Self::FIFTH_BITS_AT {
                None => codes,
                Some(at) => _mm256_or_si256(codes, fifth_bits(p.add(at))),
            }
        }
    }
    /// The codes of two rows, a row in each half: columns 0 .. 16, and columns 16 .. 32.
    #[inline(always)]
    unsafe fn two_rows(p: [*const u8; 2]) -> [__m256i; 2] {
        unsafe {
            let bytes = _mm256_set_m128i(load128(p[1].add(Self::CODES_AT)), load128(p[0].add(Self::CODES_AT)));
            let mut codes = [Self::of_nibbles(bytes.bits(0, 0, 15)), Self::of_nibbles(bytes.bits(4, 0, 15))];
            if let Some(at) = Self::FIFTH_BITS_AT {
                let words = p.map(|p| word(p.add(at)) as i32);
                let words = _mm256_set_m128i(_mm_set1_epi32(words[1]), _mm_set1_epi32(words[0]));
                for half in 0..2 {
                    // Bytes 0 and 1, or 2 and 3, of the words: a bit for each column.
                    let order = _mm_set_epi64x(0x0101_0101_0101_0101, 0);
                    let order = _mm_add_epi8(order, _mm_set1_epi8(2 * half as i8));
                    codes[half] = codes[half].or(words.sixteen_where(order, EACH_BIT));
                }
            }
            codes
        }
    }
    /// The codes of some rows, `at` bytes from there: lanes of vector `k` hold columns 4 k .. 4 k + 4.
    #[inline(always)]
    unsafe fn codes_of_rows<V: Rows>(rows: &[*const u8], at: usize) -> [V; 8] {
        unsafe {
            if !Self::NIBBLES {
                return unpack::eight_words(rows, at + Self::CODES_AT);
            }
            let mut codes = [V::splat(0); 8];
            let words: [V; 4] = four_words(rows, at + Self::CODES_AT);
            for k in 0..4 {
                codes[k] = Self::of_nibbles(words[k].bits(0, 0, 15));
                codes[4 + k] = Self::of_nibbles(words[k].bits(4, 0, 15));
            }
            if let Some(fifth) = Self::FIFTH_BITS_AT {
                let mut words = [0; 16];
                for r in 0..V::COUNT {
                    words[r] = word(rows[r].add(at + fifth));
                }
                let fifth = V::load_words(&words);
                for k in 0..8 {
                    codes[k] = codes[k].or(four_fifth_bits(fifth, k));
                }
            }
            codes
        }
    }
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

/// The same of some rows.
#[inline(always)]
unsafe fn six_bit_factors<V: Rows>(rows: &[*const u8], out: Factors) {
    unsafe {
        let [d, a, b, c] = four_words::<V>(rows, 0);
        let (scales, mins) = (
            [a.bits(0, 0, 0x3f), c.bits(0, 0, 15).or(a.bits(6, 4, 0x30))],
            [b.bits(0, 0, 0x3f), c.bits(4, 0, 15).or(b.bits(6, 4, 0x30))],
        );
        for j in 0..8 {
            out.scales.store(j, byte_twice(scales[j / 4], j % 4));
            out.mins.store(j, byte_twice(mins[j / 4], j % 4));
        }
        d.store_halves(out.d);
        d.upper_halves().store_halves(out.dmin);
    }
}

/// Byte `at` of each lane, as two equal words.
#[inline(always)]
unsafe fn byte_twice<V: Rows>(lanes: V, at: usize) -> V {
    unsafe {
        let first = _mm_setr_epi8(0, -128, 0, -128, 4, -128, 4, -128, 8, -128, 8, -128, 12, -128, 12, -128);
        lanes.shuffle(_mm_add_epi32(first, _mm_set1_epi32(at as i32 * 0x1_0001)))
    }
}

/// The signed bytes `at` and `at + 1` of each lane, as words.
#[inline(always)]
unsafe fn signed_bytes<V: Rows>(lanes: V, at: usize) -> V {
    unsafe {
        let first = _mm_setr_epi8(-128, 0, -128, 1, -128, 4, -128, 5, -128, 8, -128, 9, -128, 12, -128, 13);
        lanes.shuffle(_mm_add_epi32(first, _mm_set1_epi32(at as i32 * 0x100_0100))).upper_bytes()
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
    codes_by_bytes!();
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { six_bit_pairs(p) }
    }
    #[inline(always)]
    unsafe fn factors_of_rows<V: Rows>(rows: &[*const u8], out: Factors) {
        unsafe { six_bit_factors::<V>(rows, out) }
    }
}

impl Bytewise for Q4K {
    const PIECES: (usize, usize) = (16, 4);
    #[inline(always)]
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2] {
        unsafe {
            let bytes = block.at(16 + 32 * i);
            [bytes.bits(0, 0, 15), bytes.bits(4, 0, 15)]
        }
    }
}

impl Block256 for Q5K {
    const BIAS: Option<i32> = Some(0);
    const D_AT: [usize; 2] = [0, 2];
    codes_by_bytes!();
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { six_bit_pairs(p) }
    }
    #[inline(always)]
    unsafe fn factors_of_rows<V: Rows>(rows: &[*const u8], out: Factors) {
        unsafe { six_bit_factors::<V>(rows, out) }
    }
}

impl Bytewise for Q5K {
    const PIECES: (usize, usize) = (16, 5);
    #[inline(always)]
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2] {
        unsafe {
            let (bytes, fifth) = (block.at(48 + 32 * i), block.at(16));
            let j = 2 * i as i32;
            [bytes.bits(0, 0, 15).or(fifth.bits(j, 4, 16)), bytes.bits(4, 0, 15).or(fifth.bits(j + 1, 4, 16))]
        }
    }
}

impl Block256 for Q6K {
    const BIAS: Option<i32> = Some(32);
    const D_AT: [usize; 2] = [208; 2];
    codes_by_bytes!();
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, q6_k_scales) }
    }
    #[inline(always)]
    unsafe fn factors_of_rows<V: Rows>(rows: &[*const u8], out: Factors) {
        unsafe {
            let bytes = four_words::<V>(rows, 192);
            for j in 0..8 {
                out.scales.store(j, signed_bytes(bytes[j / 2], 2 * (j % 2)));
            }
            unpack::d_by_rows::<Self>(rows, out);
        }
    }
}

impl Bytewise for Q6K {
    const PIECES: (usize, usize) = (0, 6);
    const APART: usize = 2;
    #[inline(always)]
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2] {
        unsafe {
            let (half, g) = (i / 2, 2 * (i as i32 % 2));
            let (first, second, high) = (block.at(64 * half), block.at(64 * half + 32), block.at(128 + 32 * half));
            [
                first.bits(2 * g, 0, 15).or(high.bits(2 * g, 4, 0x30)),
                second.bits(2 * g, 0, 15).or(high.bits(2 * g + 2, 4, 0x30)),
            ]
        }
    }
}

impl Block256 for Q2K {
    const BIAS: Option<i32> = Some(0);
    const D_AT: [usize; 2] = [80, 82];
    codes_by_bytes!();
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, q2_k_scales) }
    }
}

impl Bytewise for Q2K {
    const PIECES: (usize, usize) = (16, 2);
    #[inline(always)]
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2] {
        unsafe { two_bits(block.at(16 + 32 * (i / 2)), i) }
    }
}

impl Block256 for Tq20 {
    const BIAS: Option<i32> = Some(1);
    const D_AT: [usize; 2] = [64; 2];
    codes_by_bytes!();
    #[inline(always)]
    unsafe fn scales(_: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { [[_mm256_set1_epi16(1); 2]; 2] }
    }
}

impl Bytewise for Tq20 {
    const PIECES: (usize, usize) = (0, 2);
    #[inline(always)]
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2] {
        unsafe { two_bits(block.at(32 * (i / 2)), i) }
    }
}

/// The two-bit codes of the eighths 2 i and 2 i + 1; see quant/q2_k.rs.
#[inline(always)]
unsafe fn two_bits<V: Rows>(bytes: V, i: usize) -> [V; 2] {
    unsafe {
        let at = 4 * (i as i32 % 2);
        [bytes.bits(at, 0, 3), bytes.bits(at + 2, 0, 3)]
    }
}

impl Block256 for Q3K {
    const BIAS: Option<i32> = Some(4);
    const D_AT: [usize; 2] = [108; 2];
    codes_by_bytes!();
    #[inline(always)]
    unsafe fn scales(p: [*const u8; 2]) -> [[__m256i; 2]; 2] {
        unsafe { each!(p, q3_k_scales) }
    }
}

impl Bytewise for Q3K {
    const PIECES: (usize, usize) = (0, 3);
    #[inline(always)]
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2] {
        unsafe {
            let (bytes, at) = (block.at(32 + 32 * (i / 2)), 4 * (i as i32 % 2));
            let (third, j) = (block.at(0), 2 * i as i32);
            [bytes.bits(at, 0, 3).or(third.bits(j, 2, 4)), bytes.bits(at + 2, 0, 3).or(third.bits(j + 1, 2, 4))]
        }
    }
}

impl Block256 for Iq4Xs {
    const BIAS: Option<i32> = None;
    const D_AT: [usize; 2] = [0; 2];
    #[inline(always)]
    unsafe fn codes(p: *const u8, i: usize) -> [__m256i; 2] {
        unsafe {
            let first = p.add(8 + 32 * i);
            [nibbles(first).look_up(quant::IQ4_VALUES), nibbles(first.add(16)).look_up(quant::IQ4_VALUES)]
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

/// 16 in every byte whose bit of the word is set.
#[inline(always)]
unsafe fn fifth_bits(p: *const u8) -> __m256i {
    unsafe { _mm256_and_si256(set_bits(word(p)), _mm256_set1_epi8(16)) }
}

/// 0xff in every byte whose bit of the word is set.
#[inline(always)]
pub unsafe fn set_bits(word: u32) -> __m256i {
    unsafe {
        let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
        bits_set(_mm256_set1_epi32(word as i32), spread, EACH_BIT)
    }
}

/// 16 in every byte whose bit is set, of bits 4 `k` .. 4 `k` + 4 of each lane.
#[inline(always)]
unsafe fn four_fifth_bits<V: Rows>(lanes: V, k: usize) -> V {
    unsafe {
        let of_byte = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
        let order = _mm_add_epi8(of_byte, _mm_set1_epi8(k as i8 / 2));
        let bits = if k.is_multiple_of(2) {
            EACH_BIT << 32 | EACH_BIT & 0xffff_ffff
        } else {
            EACH_BIT >> 32 | EACH_BIT & !0xffff_ffff
        };
        lanes.sixteen_where(order, bits)
    }
}

/// Byte `i` is bit `i`.
const EACH_BIT: u64 = 0x8040_2010_0804_0201;

/// 0xff in byte `i` if the bits of byte `i % 8` of `bits` are set in the byte that `spread` puts there.
#[inline(always)]
pub unsafe fn bits_set(bytes: __m256i, spread: __m256i, bits: u64) -> __m256i {
    unsafe {
        let bits = _mm256_set1_epi64x(bits as i64);
        _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bytes, spread), bits), bits)
    }
}

macro_rules! blocks_32 {
    ($($name:ident codes at $at:literal $({ $($item:item)* })?;)*) => {$(
        impl Block32 for $name {
            const CODES_AT: usize = $at;
            $($($item)*)?
        }
    )*};
}
blocks_32! {
    Q40 codes at 2;
    Q41 codes at 4;
    Q50 codes at 6 {
        const FIFTH_BITS_AT: Option<usize> = Some(2);
    };
    Q51 codes at 8 {
        const FIFTH_BITS_AT: Option<usize> = Some(4);
    };
    Q80 codes at 2 {
        const NIBBLES: bool = false;
    };
    Iq4Nl codes at 2 {
        #[inline(always)]
        unsafe fn of_nibbles<V: Rows>(nibbles: V) -> V {
            unsafe { nibbles.look_up(quant::IQ4_VALUES) }
        }
    };
    Mxfp4 codes at 1 {
        #[inline(always)]
        unsafe fn of_nibbles<V: Rows>(nibbles: V) -> V {
            unsafe { nibbles.look_up(MXFP4_VALUES.map(|value| value + 12)) }
        }
        #[inline(always)]
        unsafe fn scales(p: [*const u8; 4]) -> __m128 {
            unsafe {
                let e = _mm_setr_epi32(i32::from(*p[0]), i32::from(*p[1]), i32::from(*p[2]), i32::from(*p[3]));
                // As in quant/mxfp4.rs: the first two are subnormal.
                let small = _mm_sllv_epi32(_mm_set1_epi32(0x0020_0000), e);
                let others = _mm_slli_epi32::<23>(_mm_sub_epi32(e, _mm_set1_epi32(1)));
                _mm_castsi128_ps(_mm_blendv_epi8(others, small, _mm_cmplt_epi32(e, _mm_set1_epi32(2))))
            }
        }
    };
}
