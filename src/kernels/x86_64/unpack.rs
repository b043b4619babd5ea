//! Panels: 16 rows of a format, unpacked so that a row is a lane. Where codes share bytes, the bytes of as many rows as a
//! register has lanes are transposed first and unpacked then, which halves the work.
//!
//! # Safety
//! As in `blocks.rs`.
#![allow(clippy::missing_safety_doc, clippy::needless_range_loop)]
use super::blocks::{Block32, Block256, Bytes, bits_set, halves, load128};
use crate::kernels::simd::Factors256;
use std::arch::x86_64::*;

/// How a vector machine unpacks 16 rows: in the formats of this folder by its own registers.
macro_rules! unpacking {
    ($V:ty) => {
        #[inline(always)]
        fn prefetch(p: *const u8) {
            // SAFETY: a prefetch reads nothing that the program sees, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn codes_256<W: Format256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
            with_vector_format!(W::TYPE, K => unsafe { unpack::codes_256::<$V, K>(blocks, bias, out) },
                unsafe { expanded::codes_256::<Self, W>(blocks, bias, out) })
        }
        #[inline(always)]
        unsafe fn factors_256<W: Format256>(blocks: [*const u8; 16], out: &mut Factors256) {
            with_vector_format!(W::TYPE, K => unsafe { unpack::factors_256::<$V, K>(blocks, out) },
                unsafe { expanded::factors_256::<W>(blocks, out) })
        }
        #[inline(always)]
        unsafe fn codes_32<W: Format32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
            with_format_32!(W::TYPE, K => unsafe { unpack::codes_32::<$V, K>(blocks, n, bias, out) })
        }
        #[inline(always)]
        unsafe fn factors_32<W: Format32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
            with_format_32!(W::TYPE, K => unsafe { unpack::factors_32::<K>(blocks, d, m) })
        }
    };
}
pub(super) use unpacking;

/// A register with a lane of 32 bits for each of some rows.
pub trait Rows: Copy {
    const COUNT: usize;
    /// 16 bytes of rows 0, 4, 8 and so on.
    unsafe fn load(rows: &[*const u8], at: usize) -> Self;
    /// A word of each row.
    unsafe fn load_words(words: &[u32; 16]) -> Self;
    unsafe fn store(self, p: *mut u8);
    /// The f16 numbers in the lower halves of lanes, as f32.
    unsafe fn store_halves(self, p: *mut f32);
    unsafe fn splat(byte: u8) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn add_bytes(self, other: Self) -> Self;
    /// `(lanes moved so that bit `from` of a byte becomes bit `to`) & mask` in every byte; the mask holds only bits that
    /// come from the same byte.
    unsafe fn bits(self, from: i32, to: i32, mask: u8) -> Self;
    /// The upper halves of lanes, as lanes.
    unsafe fn upper_halves(self) -> Self;
    /// The upper byte of each half lane, as a signed half lane.
    unsafe fn upper_bytes(self) -> Self;
    /// The bytes of every four lanes in another order.
    unsafe fn shuffle(self, order: __m128i) -> Self;
    /// The values that bytes below 16 stand for.
    unsafe fn look_up(self, values: [i8; 16]) -> Self;
    /// 16 in byte `i` if bit `i % 8` of `bits`' bytes is set in the byte that `order` puts there.
    unsafe fn sixteen_where(self, order: __m128i, bits: u64) -> Self;
    /// Of every four lanes, the first two and the last two interleaved with those of another register.
    unsafe fn interleave(self, other: Self) -> [Self; 2];
    /// The same with halves of the four lanes.
    unsafe fn interleave_pairs(self, other: Self) -> [Self; 2];
}

impl Rows for __m256i {
    const COUNT: usize = 8;
    #[inline(always)]
    unsafe fn load(rows: &[*const u8], at: usize) -> Self {
        unsafe { _mm256_set_m128i(load128(rows[4].add(at)), load128(rows[0].add(at))) }
    }
    #[inline(always)]
    unsafe fn load_words(words: &[u32; 16]) -> Self {
        unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        unsafe { _mm256_storeu_si256(p.cast(), self) }
    }
    #[inline(always)]
    unsafe fn store_halves(self, p: *mut f32) {
        unsafe {
            let words = _mm256_and_si256(self, _mm256_set1_epi32(0xffff));
            let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(_mm256_packus_epi32(words, words));
            _mm256_storeu_ps(p, _mm256_cvtph_ps(_mm256_castsi256_si128(packed)));
        }
    }
    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        unsafe { _mm256_set1_epi8(byte as i8) }
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        unsafe { _mm256_or_si256(self, other) }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, other: Self) -> Self {
        unsafe { _mm256_add_epi8(self, other) }
    }
    #[inline(always)]
    unsafe fn bits(self, from: i32, to: i32, mask: u8) -> Self {
        unsafe {
            let moved = if from >= to {
                _mm256_srl_epi16(self, _mm_cvtsi32_si128(from - to))
            } else {
                _mm256_sll_epi16(self, _mm_cvtsi32_si128(to - from))
            };
            _mm256_and_si256(moved, Self::splat(mask))
        }
    }
    #[inline(always)]
    unsafe fn upper_halves(self) -> Self {
        unsafe { _mm256_srli_epi32::<16>(self) }
    }
    #[inline(always)]
    unsafe fn upper_bytes(self) -> Self {
        unsafe { _mm256_srai_epi16::<8>(self) }
    }
    #[inline(always)]
    unsafe fn shuffle(self, order: __m128i) -> Self {
        unsafe { _mm256_shuffle_epi8(self, _mm256_broadcastsi128_si256(order)) }
    }
    #[inline(always)]
    unsafe fn look_up(self, values: [i8; 16]) -> Self {
        unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load128(values.as_ptr().cast())), self) }
    }
    #[inline(always)]
    unsafe fn sixteen_where(self, order: __m128i, bits: u64) -> Self {
        unsafe { _mm256_and_si256(bits_set(self, _mm256_broadcastsi128_si256(order), bits), Self::splat(16)) }
    }
    #[inline(always)]
    unsafe fn interleave(self, other: Self) -> [Self; 2] {
        unsafe { [_mm256_unpacklo_epi32(self, other), _mm256_unpackhi_epi32(self, other)] }
    }
    #[inline(always)]
    unsafe fn interleave_pairs(self, other: Self) -> [Self; 2] {
        unsafe { [_mm256_unpacklo_epi64(self, other), _mm256_unpackhi_epi64(self, other)] }
    }
}

impl Rows for __m512i {
    const COUNT: usize = 16;
    #[inline(always)]
    unsafe fn load(rows: &[*const u8], at: usize) -> Self {
        unsafe {
            let [low, high] = [<__m256i as Rows>::load(rows, at), <__m256i as Rows>::load(&rows[8..], at)];
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }
    #[inline(always)]
    unsafe fn load_words(words: &[u32; 16]) -> Self {
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        unsafe { _mm512_storeu_si512(p.cast(), self) }
    }
    #[inline(always)]
    unsafe fn store_halves(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(self))) }
    }
    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        unsafe { _mm512_set1_epi8(byte as i8) }
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        unsafe { _mm512_or_si512(self, other) }
    }
    #[inline(always)]
    unsafe fn add_bytes(self, other: Self) -> Self {
        unsafe { _mm512_add_epi8(self, other) }
    }
    #[inline(always)]
    unsafe fn bits(self, from: i32, to: i32, mask: u8) -> Self {
        unsafe {
            let moved = if from >= to {
                _mm512_srl_epi16(self, _mm_cvtsi32_si128(from - to))
            } else {
                _mm512_sll_epi16(self, _mm_cvtsi32_si128(to - from))
            };
            _mm512_and_si512(moved, Self::splat(mask))
        }
    }
    #[inline(always)]
    unsafe fn upper_halves(self) -> Self {
        unsafe { _mm512_srli_epi32::<16>(self) }
    }
    #[inline(always)]
    unsafe fn upper_bytes(self) -> Self {
        unsafe { _mm512_srai_epi16::<8>(self) }
    }
    #[inline(always)]
    unsafe fn shuffle(self, order: __m128i) -> Self {
        unsafe { _mm512_shuffle_epi8(self, _mm512_broadcast_i32x4(order)) }
    }
    #[inline(always)]
    unsafe fn look_up(self, values: [i8; 16]) -> Self {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load128(values.as_ptr().cast())), self) }
    }
    #[inline(always)]
    unsafe fn sixteen_where(self, order: __m128i, bits: u64) -> Self {
        unsafe {
            let set = _mm512_test_epi8_mask(self.shuffle(order), _mm512_set1_epi64(bits as i64));
            _mm512_maskz_mov_epi8(set, Self::splat(16))
        }
    }
    #[inline(always)]
    unsafe fn interleave(self, other: Self) -> [Self; 2] {
        unsafe { [_mm512_unpacklo_epi32(self, other), _mm512_unpackhi_epi32(self, other)] }
    }
    #[inline(always)]
    unsafe fn interleave_pairs(self, other: Self) -> [Self; 2] {
        unsafe { [_mm512_unpacklo_epi64(self, other), _mm512_unpackhi_epi64(self, other)] }
    }
}

/// Where vectors of 16 lanes lie, of which some, those of the rows at hand, are written.
#[derive(Clone, Copy)]
pub struct Lanes(*mut u8);

impl Lanes {
    /// Lanes from `first` on.
    #[inline(always)]
    unsafe fn of<T>(vectors: *mut T, first: usize) -> Self {
        const { assert!(size_of::<T>() == 64) };
        Self(unsafe { vectors.cast::<u8>().add(4 * first) })
    }
    #[inline(always)]
    unsafe fn from(self, first: usize) -> Self {
        Self(unsafe { self.0.add(4 * first) })
    }
    /// Writes lanes of vector `k`.
    #[inline(always)]
    pub unsafe fn store(self, k: usize, x: impl Rows) {
        unsafe { x.store(self.0.add(64 * k)) }
    }
}

/// [`Factors256`], of which the lanes of the rows at hand are written.
pub struct Factors {
    pub scales: Lanes,
    pub mins: Lanes,
    pub d: *mut f32,
    pub dmin: *mut f32,
}

impl Factors {
    #[inline(always)]
    unsafe fn of(all: &mut Factors256, first: usize) -> Self {
        unsafe {
            Self {
                scales: Lanes::of(all.scales.as_mut_ptr(), first),
                mins: Lanes::of(all.mins.as_mut_ptr(), first),
                d: all.d.as_mut_ptr().add(first),
                dmin: all.dmin.as_mut_ptr().add(first),
            }
        }
    }
    #[inline(always)]
    unsafe fn from(&self, first: usize) -> Self {
        unsafe {
            Self {
                scales: self.scales.from(first),
                mins: self.mins.from(first),
                d: self.d.add(first),
                dmin: self.dmin.add(first),
            }
        }
    }
}

/// [`Simd::codes_256`](crate::kernels::simd::Simd::codes_256).
#[inline(always)]
pub unsafe fn codes_256<V: Rows, W: Block256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
    unsafe {
        let bias = bias.wrapping_sub(W::BIAS.unwrap_or(0) as u8);
        for first in (0..16).step_by(V::COUNT) {
            W::codes_of_rows::<V>(&blocks[first..first + V::COUNT], bias, Lanes::of(out, first));
        }
    }
}

/// [`Simd::words_256`](crate::kernels::simd::Simd::words_256).
#[inline(always)]
pub unsafe fn words_256<V: Rows, W: Block256, const I: usize, const HALF: usize>(
    blocks: [*const u8; 16],
    bias: u8,
) -> [(usize, [V; 4]); 2] {
    unsafe { W::words_of_rows::<V, I, HALF>(&blocks, bias.wrapping_sub(W::BIAS.unwrap_or(0) as u8)) }
}

/// [`Simd::factors_256`](crate::kernels::simd::Simd::factors_256).
#[inline(always)]
pub unsafe fn factors_256<V: Rows, W: Block256>(blocks: [*const u8; 16], out: &mut Factors256) {
    unsafe {
        for first in (0..16).step_by(V::COUNT) {
            W::factors_of_rows::<V>(&blocks[first..first + V::COUNT], Factors::of(out, first));
        }
    }
}

/// [`Simd::codes_32`](crate::kernels::simd::Simd::codes_32).
#[inline(always)]
pub unsafe fn codes_32<V: Rows, W: Block32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
    unsafe {
        for first in (0..16).step_by(V::COUNT) {
            for j in 0..n {
                let codes = words_32::<V, W>(&blocks[first..first + V::COUNT], j * W::BYTES, bias);
                for k in 0..8 {
                    Lanes::of(out, first).store(8 * j + k, codes[k]);
                }
            }
        }
    }
}

/// Of some rows, the codes of the block `at` bytes from there, `bias` added.
#[inline(always)]
pub unsafe fn words_32<V: Rows, W: Block32>(rows: &[*const u8], at: usize, bias: u8) -> [V; 8] {
    unsafe {
        let stored = if W::SIGNED { 0 } else { W::BIAS };
        let bias = V::splat(bias.wrapping_sub(stored));
        let mut codes = W::codes_of_rows::<V>(rows, at);
        for codes in codes.iter_mut() {
            *codes = codes.add_bytes(bias);
        }
        codes
    }
}

/// [`Simd::factors_32`](crate::kernels::simd::Simd::factors_32).
#[inline(always)]
pub unsafe fn factors_32<W: Block32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
    unsafe {
        for four in 0..4 {
            let p: [*const u8; 4] = blocks.as_chunks().0[four];
            _mm_storeu_ps(d.as_mut_ptr().add(4 * four), W::scales(p));
            if W::HAS_MIN {
                _mm_storeu_ps(m.as_mut_ptr().add(4 * four), halves(p.map(|p| p.add(2))));
            }
        }
    }
}

/// Codes that are made of bits of the bytes at their own place, in pieces of 32 bytes.
pub trait Bytewise: Block256 {
    /// Where the first piece is, and how many follow each other.
    const PIECES: (usize, usize);
    /// How far the two eighths lie apart that the same bytes hold most of.
    const APART: usize = 1;
    /// [`Block256::codes`].
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [B::V; 2];
}

/// Most pieces that a format has.
const MOST_PIECES: usize = 6;

/// The words at one place of the pieces of some rows: of four words, which all stay in registers.
#[derive(Clone, Copy)]
struct Words<'a, V> {
    pieces: &'a [[V; 4]; MOST_PIECES],
    first: usize,
    word: usize,
}

impl<V: Rows> Bytes for Words<'_, V> {
    type V = V;
    #[inline(always)]
    unsafe fn at(self, offset: usize) -> V {
        self.pieces[(offset - self.first) / 32][self.word]
    }
}

/// [`Block256::codes_of_rows`] where bytes may be transposed before they are unpacked.
#[inline(always)]
pub unsafe fn by_words<V: Rows, W: Bytewise>(rows: &[*const u8], bias: u8, out: Lanes) {
    unsafe {
        let bias = V::splat(bias);
        for half in 0..2 {
            // Twice, so that only what two eighths need has to stay in registers: what is not used is not computed.
            let pieces = half_pieces::<V, W>(rows, half);
            two_eighths::<V, W, 0>(&pieces, half, bias, out);
            two_eighths::<V, W, 1>(&pieces, half, bias, out);
            let pieces = half_pieces::<V, W>(rows, half);
            two_eighths::<V, W, 2>(&pieces, half, bias, out);
            two_eighths::<V, W, 3>(&pieces, half, bias, out);
        }
    }
}

/// Words of the first or the last 16 bytes of all pieces.
#[inline(always)]
unsafe fn half_pieces<V: Rows, W: Bytewise>(rows: &[*const u8], half: usize) -> [[V; 4]; MOST_PIECES] {
    unsafe {
        [
            half_piece::<V, W, 0>(rows, half),
            half_piece::<V, W, 1>(rows, half),
            half_piece::<V, W, 2>(rows, half),
            half_piece::<V, W, 3>(rows, half),
            half_piece::<V, W, 4>(rows, half),
            half_piece::<V, W, 5>(rows, half),
        ]
    }
}

/// Words of the first or the last 16 bytes of piece `I`, if there is one. Not a loop, which might not be unrolled.
#[inline(always)]
unsafe fn half_piece<V: Rows, W: Bytewise, const I: usize>(rows: &[*const u8], half: usize) -> [V; 4] {
    unsafe {
        let (first, n) = W::PIECES;
        if I < n { four_words(rows, first + 32 * I + 16 * half) } else { [V::splat(0); 4] }
    }
}

/// The codes of the eighths 2 I and 2 I + 1 that these words make.
#[inline(always)]
unsafe fn two_eighths<V: Rows, W: Bytewise, const I: usize>(
    pieces: &[[V; 4]; MOST_PIECES],
    half: usize,
    bias: V,
    out: Lanes,
) {
    unsafe {
        for word in 0..4 {
            let [low, high] = W::from_bytes(Words { pieces, first: W::PIECES.0, word }, I);
            let k = 16 * I + 4 * half + word;
            out.store(k, low.add_bytes(bias));
            out.store(k + 8, high.add_bytes(bias));
        }
    }
}

/// [`Block256::words_of_rows`] of such formats. What is not used of the pieces is not computed.
#[inline(always)]
pub unsafe fn words_of_rows<V: Rows, W: Bytewise, const I: usize, const HALF: usize>(
    rows: &[*const u8],
    bias: u8,
) -> [(usize, [V; 4]); 2] {
    unsafe {
        let pieces = half_pieces::<V, W>(rows, HALF);
        let first = const { 2 * W::APART * (I / W::APART) + I % W::APART };
        let second = const { 2 * W::APART * (I / W::APART) + I % W::APART + W::APART };
        let mut codes = [[V::splat(0); 4]; 2];
        for word in 0..4 {
            let words = Words { pieces: &pieces, first: W::PIECES.0, word };
            codes[0][word] = W::from_bytes(words, first / 2)[first % 2].add_bytes(V::splat(bias));
            codes[1][word] = W::from_bytes(words, second / 2)[second % 2].add_bytes(V::splat(bias));
        }
        [(first, codes[0]), (second, codes[1])]
    }
}

/// [`Block256::codes_of_rows`] where each row is unpacked for itself.
#[inline(always)]
pub unsafe fn by_rows<W: Block256>(rows: &[*const u8], bias: u8, out: Lanes) {
    unsafe {
        for first in (0..rows.len()).step_by(8) {
            let out = out.from(first);
            for i in 0..4 {
                let mut codes = [[_mm256_setzero_si256(); 8]; 2];
                for r in 0..8 {
                    [codes[0][r], codes[1][r]] = W::codes(rows[first + r], i);
                }
                for half in 0..2 {
                    let words = transposed(codes[half]);
                    for k in 0..8 {
                        out.store(16 * i + 8 * half + k, words[k].add_bytes(Rows::splat(bias)));
                    }
                }
            }
        }
    }
}

/// [`Block256::factors_of_rows`] from [`Block256::scales`].
#[inline(always)]
pub unsafe fn factors_by_rows<W: Block256>(rows: &[*const u8], out: Factors) {
    unsafe {
        for first in (0..rows.len()).step_by(8) {
            let out = out.from(first);
            let (mut scales, mut mins) = ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
            for r in (0..8).step_by(2) {
                let pair = W::scales([rows[first + r], rows[first + r + 1]]);
                for i in 0..2 {
                    [scales[r + i], mins[r + i]] = pair[i];
                }
            }
            let (scales, mins) = (pairs(scales), pairs(mins));
            for j in 0..8 {
                out.scales.store(j, scales[j]);
                if !W::SIGNED {
                    out.mins.store(j, mins[j]);
                }
            }
        }
        d_by_rows::<W>(rows, out);
    }
}

/// `d` and `dmin` of some rows.
#[inline(always)]
pub unsafe fn d_by_rows<W: Block256>(rows: &[*const u8], out: Factors) {
    unsafe {
        for (i, &four) in rows.as_chunks::<4>().0.iter().enumerate() {
            _mm_storeu_ps(out.d.add(4 * i), W::d(four));
            if !W::SIGNED {
                _mm_storeu_ps(out.dmin.add(4 * i), W::dmin(four));
            }
        }
    }
}

/// Words of eight rows, in the order of [`Block256::scales`]; as pairs in natural order.
#[inline(always)]
unsafe fn pairs(mut rows: [__m256i; 8]) -> [__m256i; 8] {
    unsafe {
        let pairs = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        for row in rows.iter_mut() {
            let quarters = _mm256_permute4x64_epi64::<0b11_01_10_00>(*row);
            *row = _mm256_shuffle_epi8(quarters, _mm256_broadcastsi128_si256(pairs));
        }
        transposed(rows)
    }
}

/// Four words of each row.
#[inline(always)]
pub unsafe fn four_words<V: Rows>(rows: &[*const u8], at: usize) -> [V; 4] {
    unsafe {
        // Every fourth row side by side, so that no shuffle has to cross the quarters of a register.
        let mut v = [V::splat(0); 4];
        for r in 0..4 {
            v[r] = V::load(&rows[r..], at);
        }
        let ([a, b], [c, d]) = (v[0].interleave(v[1]), v[2].interleave(v[3]));
        let ([first, second], [third, fourth]) = (a.interleave_pairs(c), b.interleave_pairs(d));
        [first, second, third, fourth]
    }
}

/// Eight words of each row.
#[inline(always)]
pub unsafe fn eight_words<V: Rows>(rows: &[*const u8], at: usize) -> [V; 8] {
    unsafe {
        let ([a, b, c, d], [e, f, g, h]) = (four_words(rows, at), four_words(rows, at + 16));
        [a, b, c, d, e, f, g, h]
    }
}

/// Transposes 8 × 8 words of 32 bits: pairs, then quads, then 128-bit lanes.
#[inline(always)]
pub unsafe fn transposed(mut v: [__m256i; 8]) -> [__m256i; 8] {
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
        t
    }
}
