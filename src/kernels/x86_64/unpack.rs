//! Panels: 16 rows of a format, unpacked so that a row is a lane. Where codes share bytes, the bytes of eight rows are
//! transposed first and unpacked then, which halves the work.
//!
//! # Safety
//! As in `blocks.rs`.
#![allow(clippy::missing_safety_doc, clippy::needless_range_loop)]
use super::blocks::{Block32, Block256, Bytes, halves, load128};
use crate::kernels::simd::Factors256;
use std::arch::x86_64::*;

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
            with_vector_format!(W::TYPE, K => unsafe { unpack::codes_256::<K>(blocks, bias, out) },
                unsafe { expanded::codes_256::<Self, W>(blocks, bias, out) })
        }
        #[inline(always)]
        unsafe fn factors_256<W: Format256>(blocks: [*const u8; 16], out: &mut Factors256) {
            with_vector_format!(W::TYPE, K => unsafe { unpack::factors_256::<K>(blocks, out) },
                unsafe { expanded::factors_256::<W>(blocks, out) })
        }
        #[inline(always)]
        unsafe fn codes_32<W: Format32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
            with_format_32!(W::TYPE, K => unsafe { unpack::codes_32::<K>(blocks, n, bias, out) })
        }
        #[inline(always)]
        unsafe fn factors_32<W: Format32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
            with_format_32!(W::TYPE, K => unsafe { unpack::factors_32::<K>(blocks, d, m) })
        }
    };
}
pub(super) use unpacking;

/// The rows of eight lanes.
pub type Eight = [*const u8; 8];

/// Where vectors of 16 lanes lie, of which eight are written.
#[derive(Clone, Copy)]
pub struct Lanes(*mut __m256i);

impl Lanes {
    /// The lower or upper half of the vectors.
    #[inline(always)]
    unsafe fn of<T>(vectors: *mut T, half: usize) -> Self {
        const { assert!(size_of::<T>() == 64) };
        Self(unsafe { vectors.cast::<__m256i>().add(half) })
    }
    /// Writes lanes of vector `k`.
    #[inline(always)]
    pub unsafe fn store(self, k: usize, x: __m256i) {
        unsafe { _mm256_storeu_si256(self.0.add(2 * k), x) }
    }
}

/// What multiplies the codes of a super-block of eight rows, as [`Factors256`] says.
pub struct Factors {
    pub scales: [__m256i; 8],
    pub mins: [__m256i; 8],
    pub d: __m256,
    pub dmin: __m256,
}

/// [`Simd::codes_256`](crate::kernels::simd::Simd::codes_256).
#[inline(always)]
pub unsafe fn codes_256<W: Block256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
    unsafe {
        let bias = _mm256_set1_epi8(bias.wrapping_sub(W::BIAS.unwrap_or(0) as u8) as i8);
        for half in 0..2 {
            W::eight_codes(&blocks.as_chunks().0[half], bias, Lanes::of(out, half));
        }
    }
}

/// [`Simd::factors_256`](crate::kernels::simd::Simd::factors_256).
#[inline(always)]
pub unsafe fn factors_256<W: Block256>(blocks: [*const u8; 16], out: &mut Factors256) {
    unsafe {
        for half in 0..2 {
            let Factors { scales, mins, d, dmin } = W::eight_factors(&blocks.as_chunks().0[half]);
            for j in 0..8 {
                Lanes::of(out.scales.as_mut_ptr(), half).store(j, scales[j]);
                if !W::SIGNED {
                    Lanes::of(out.mins.as_mut_ptr(), half).store(j, mins[j]);
                }
            }
            _mm256_storeu_ps(out.d.as_mut_ptr().add(8 * half), d);
            _mm256_storeu_ps(out.dmin.as_mut_ptr().add(8 * half), dmin);
        }
    }
}

/// [`Simd::codes_32`](crate::kernels::simd::Simd::codes_32).
#[inline(always)]
pub unsafe fn codes_32<W: Block32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
    unsafe {
        let stored = if W::SIGNED { 0 } else { W::BIAS };
        let bias = _mm256_set1_epi8(bias.wrapping_sub(stored) as i8);
        for half in 0..2 {
            let rows: &Eight = &blocks.as_chunks().0[half];
            for j in 0..n {
                let codes = W::eight_codes(rows, j * W::BYTES);
                for k in 0..8 {
                    Lanes::of(out, half).store(8 * j + k, _mm256_add_epi8(codes[k], bias));
                }
            }
        }
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
    /// [`Block256::codes`].
    unsafe fn from_bytes<B: Bytes>(block: B, i: usize) -> [__m256i; 2];
}

/// The words at one place of the pieces of eight rows.
#[derive(Clone, Copy)]
struct Words<'a> {
    pieces: &'a [[__m256i; 8]],
    first: usize,
    word: usize,
}

impl Bytes for Words<'_> {
    #[inline(always)]
    unsafe fn at(self, offset: usize) -> __m256i {
        unsafe { self.pieces.get_unchecked((offset - self.first) / 32)[self.word] }
    }
}

/// [`Block256::eight_codes`] where bytes may be transposed before they are unpacked.
#[inline(always)]
pub unsafe fn by_words<W: Bytewise>(rows: &Eight, bias: __m256i, out: Lanes) {
    unsafe {
        let (first, n) = W::PIECES;
        let mut pieces = [[_mm256_setzero_si256(); 8]; 6];
        for i in 0..n {
            pieces[i] = eight_words(rows, first + 32 * i);
        }
        for i in 0..4 {
            for word in 0..8 {
                let [low, high] = W::from_bytes(Words { pieces: &pieces[..n], first, word }, i);
                out.store(16 * i + word, _mm256_add_epi8(low, bias));
                out.store(16 * i + 8 + word, _mm256_add_epi8(high, bias));
            }
        }
    }
}

/// [`Block256::eight_codes`] where each row is unpacked for itself.
#[inline(always)]
pub unsafe fn by_rows<W: Block256>(rows: &Eight, bias: __m256i, out: Lanes) {
    unsafe {
        for i in 0..4 {
            let mut codes = [[_mm256_setzero_si256(); 8]; 2];
            for r in 0..8 {
                [codes[0][r], codes[1][r]] = W::codes(rows[r], i);
            }
            for half in 0..2 {
                let words = transposed(codes[half]);
                for k in 0..8 {
                    out.store(16 * i + 8 * half + k, _mm256_add_epi8(words[k], bias));
                }
            }
        }
    }
}

/// [`Block256::eight_factors`] from [`Block256::scales`].
#[inline(always)]
pub unsafe fn factors_by_rows<W: Block256>(rows: &Eight) -> Factors {
    unsafe {
        let (mut scales, mut mins) = ([_mm256_setzero_si256(); 8], [_mm256_setzero_si256(); 8]);
        for r in (0..8).step_by(2) {
            let pair = W::scales([rows[r], rows[r + 1]]);
            for i in 0..2 {
                [scales[r + i], mins[r + i]] = pair[i];
            }
        }
        let [d, dmin] = W::eight_d(rows);
        Factors { scales: pairs(scales), mins: pairs(mins), d, dmin }
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

/// Four words of each of eight rows.
#[inline(always)]
pub unsafe fn four_words(rows: &Eight, at: usize) -> [__m256i; 4] {
    unsafe {
        // Rows r and r + 4 side by side, so that no shuffle has to cross the halves of a register.
        let mut v = [_mm256_setzero_si256(); 4];
        for r in 0..4 {
            let low = _mm256_castsi128_si256(load128(rows[r].add(at)));
            v[r] = _mm256_inserti128_si256::<1>(low, load128(rows[r + 4].add(at)));
        }
        let (a, b) = (_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
        let (c, d) = (_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
        [
            _mm256_unpacklo_epi64(a, c),
            _mm256_unpackhi_epi64(a, c),
            _mm256_unpacklo_epi64(b, d),
            _mm256_unpackhi_epi64(b, d),
        ]
    }
}

/// Eight words of each of eight rows.
#[inline(always)]
pub unsafe fn eight_words(rows: &Eight, at: usize) -> [__m256i; 8] {
    unsafe {
        let ([a, b, c, d], [e, f, g, h]) = (four_words(rows, at), four_words(rows, at + 16));
        [a, b, c, d, e, f, g, h]
    }
}

/// Transposes 8 × 8 words of 32 bits: pairs, then quads, then 128-bit lanes.
#[inline(always)]
unsafe fn transposed(mut v: [__m256i; 8]) -> [__m256i; 8] {
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
