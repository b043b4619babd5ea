//! The vector machine that the kernels are written for: 16 lanes of 32 bits, or 64 bytes.
//!
//! An instruction set implements [`Simd`] once, with one 512-bit register, two of 256 or four of 128 bits; the kernels in
//! `generic/` are then compiled for it inside a function that enables its features. Every operation is exact or rounds
//! as IEEE 754 says, so all implementations give the same bits.
#![allow(clippy::missing_safety_doc)] // the contract of all of them is the same: see the trait

use super::{
    formats::{Format32, Format256},
    generic::{float::Plain, panel::TILE},
};
use crate::gguf::TensorType;

/// What multiplies the codes of a super-block of each of 16 rows; lane `r` is row `r`.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Factors256 {
    /// `[j]`: scales of the 16 columns from 32 j (low word) and of those from 32 j + 16.
    pub scales: [[i32; 16]; 8],
    /// The minima in the same way, in formats that have them.
    pub mins: [[i32; 16]; 8],
    pub d: [f32; 16],
    pub dmin: [f32; 16],
}

/// # Safety
/// All methods may be called only where the instruction set they use is enabled, and pointers must be valid for the
/// lanes that are read or written. No alignment is required.
pub trait Simd: Copy + 'static {
    /// 16 × f32.
    type F: Copy;
    /// 16 × i32 (or 32 × i16 in [`Simd::dot_words`]).
    type I: Copy;
    /// 64 × u8 or i8.
    type B: Copy;
    /// What stored weight codes are xor-ed with before [`Simd::dot_bytes`] sees them: 0x80 where that instruction takes
    /// unsigned weights, so that signed code `c` appears as `c + 128`; 0 where it takes signed ones.
    const FLIP: u8;
    /// How many vectors the processor's registers hold: 32, 8, or 2 where loops are all there is. Inner loops choose their
    /// tiles by it, which changes no result: a tile is rows × tokens of sums that are independent of each other.
    const REGISTERS: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn from_f16(p: *const u16) -> Self::F;
    unsafe fn from_bf16(p: *const u16) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a * p[i] + c`, rounded once. For sums that fill the registers: none keeps the number.
    #[inline(always)]
    unsafe fn fma_number(a: Self::F, p: *const f32, i: usize, c: Self::F) -> Self::F {
        unsafe { Self::fma(a, Self::splat(*p.add(i)), c) }
    }
    /// `if a > b { a } else { b }` (so `b` if either is NaN).
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { x } else { y }`.
    unsafe fn if_less(a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `2^n` for lanes that hold integers in -126..=127; anything finite for others.
    unsafe fn exp2i(n: Self::F) -> Self::F;
    /// The fixed tree: lane i + lane i+8, then +4, +2, +1.
    unsafe fn sum(a: Self::F) -> f32;
    /// Lane `i`: [`Simd::sum`] of vector `i`.
    #[inline(always)]
    unsafe fn sum_each(v: &[Self::F; 16]) -> Self::F {
        let mut sums = [0.0; 16];
        for (sum, &x) in sums.iter_mut().zip(v) {
            *sum = unsafe { Self::sum(x) };
        }
        unsafe { Self::load(sums.as_ptr()) }
    }
    /// By [`Simd::max`] over the same tree.
    unsafe fn max_lane(a: Self::F) -> f32;

    unsafe fn isplat(x: i32) -> Self::I;
    unsafe fn iload(p: *const i32) -> Self::I;
    unsafe fn istore(p: *mut i32, x: Self::I);
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I;
    /// Low 32 bits of the product.
    unsafe fn imul(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn isum(a: Self::I) -> i32;
    unsafe fn to_float(a: Self::I) -> Self::F;
    /// Rounds to nearest even; the lanes are within the range of i32.
    unsafe fn to_int(a: Self::F) -> Self::I;
    /// The low byte of each lane.
    unsafe fn store_bytes(p: *mut i8, x: Self::I);
    /// Lower words of `low`, upper words of `high`.
    unsafe fn blend_words(low: Self::I, high: Self::I) -> Self::I;
    /// Adds, per lane, the products of the two signed words.
    unsafe fn dot_words(acc: Self::I, a: Self::I, b: Self::I) -> Self::I;

    /// Asks for a line of memory, at any address, that will be needed soon.
    fn prefetch(_p: *const u8) {}

    unsafe fn bload(p: *const u8) -> Self::B;
    /// Four bytes repeated 16 times.
    unsafe fn bsplat(p: *const i32) -> Self::B;
    /// From this many tokens on, unpacking pays in formats with small codes: where kernels for fewer are bound by what they
    /// compute, not by reading.
    const TILED_FROM: usize = TILE + 1;
    /// The same in formats with codes of eight bits.
    const WIDE_TILED_FROM: usize = TILE;
    /// Adds, per lane, the products of four weight codes (see [`Simd::FLIP`]) with four signed bytes.
    unsafe fn dot_bytes(acc: Self::I, weights: Self::B, activations: Self::B) -> Self::I;
    /// [`Simd::dot_bytes`] with four bytes of each of some tokens.
    unsafe fn dot_each<const T: usize>(acc: &mut [Self::I; T], weights: Self::B, activations: *const i32) {
        for (t, acc) in acc.iter_mut().enumerate() {
            *acc = unsafe { Self::dot_bytes(*acc, weights, Self::bsplat(activations.add(t))) };
        }
    }
    /// Whether there is [`Simd::dot_four`].
    const FOURS: bool = false;
    /// Adds [`Simd::dot_bytes`] of four vectors with the same word of activations for two, three or four tokens each: `q[k]`
    /// begins with those of vector `k`.
    unsafe fn dot_four<const T: usize>(_acc: &mut [Self::I; T], _codes: *const [u8; 64], _q: *const [i32; 8]) {
        unreachable!("products of one vector at a time")
    }
    /// Whether products are of matrices: of two rows and two tokens at a time, over two words.
    const PAIRS: bool = false;
    /// Makes two words of a panel what [`Simd::pair_dot`] takes.
    unsafe fn pair_codes(_words: *mut [u8; 64]) {
        unreachable!("no products of pairs")
    }
    /// Adds the products of two words of a panel with two words of two tokens each, `words[k][t]`. Which lane of the sums is
    /// whose, [`Simd::unpair`] knows.
    unsafe fn pair_dot(_acc: [Self::I; 2], _codes: *const [u8; 64], _words: [*const i32; 2]) -> [Self::I; 2] {
        unreachable!("no products of pairs")
    }
    /// The sums of each token.
    unsafe fn unpair(_acc: [Self::I; 2]) -> [Self::I; 2] {
        unreachable!("no products of pairs")
    }
    /// `out[i]` gets word `i` of each of the 16 rows: a 16 × 16 transposition of 32-bit words.
    unsafe fn transpose(rows: [*const u8; 16], out: *mut [u8; 64]);
    /// `out[k * stride + r]` = number `k` of row `r`, of sixteen.
    #[inline(always)]
    unsafe fn turn<P: Plain>(rows: [*const u8; 16], out: *mut f32, stride: usize) {
        let (mut wide, mut columns) = ([[0.0f32; 16]; 16], [[0u8; 64]; 16]);
        unsafe {
            for r in 0..16 {
                Self::store(wide[r].as_mut_ptr(), P::load::<Self>(rows[r]));
            }
            Self::transpose(wide.each_ref().map(|row| row.as_ptr().cast()), columns.as_mut_ptr());
            for (k, column) in columns.iter().enumerate() {
                Self::store(out.add(k * stride), Self::load(column.as_ptr().cast()));
            }
        }
    }

    /// The codes of a super-block of each of 16 rows, `bias` added: `out[k]`, of 64, gets columns 4 k .. 4 k + 4.
    unsafe fn codes_256<W: Format256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
        unsafe { expanded::codes_256::<Self, W>(blocks, bias, out) }
    }
    /// Whether there are [`Simd::words_32`] and [`Simd::words_256`], the latter for some formats.
    const HAS_WORDS: bool = false;
    /// Whether there is [`Simd::words_256`] for a format.
    fn has_words_256(_ty: TensorType) -> bool {
        false
    }
    /// Two eighths of the codes of [`Simd::codes_256`], with their numbers: the pair `I` of four. Of each of them the first
    /// or the last four of its eight vectors.
    unsafe fn words_256<W: Format256, const I: usize, const HALF: usize>(
        _blocks: [*const u8; 16],
        _bias: u8,
    ) -> [(usize, [Self::B; 4]); 2] {
        unreachable!("rows are unpacked as a whole")
    }
    /// What multiplies those codes.
    unsafe fn factors_256<W: Format256>(blocks: [*const u8; 16], out: &mut Factors256) {
        unsafe { expanded::factors_256::<W>(blocks, out) }
    }
    /// The codes of `n` blocks of 32 of each of 16 rows, as [`Simd::codes_256`] gives them.
    unsafe fn codes_32<W: Format32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
        unsafe { expanded::codes_32::<Self, W>(blocks, n, bias, out) }
    }
    /// What [`Simd::codes_32`] gives of one block.
    unsafe fn words_32<W: Format32>(_blocks: [*const u8; 16], _bias: u8) -> [Self::B; 8] {
        unreachable!("rows are unpacked as a whole")
    }
    /// Scales and minima of a block of each of 16 rows.
    unsafe fn factors_32<W: Format32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
        unsafe { expanded::factors_32::<W>(blocks, d, m) }
    }

    /// Whether there are narrow sums: those of a few columns' products of unsigned codes with activations, known to fit 16
    /// bits, two to a lane: of the first and of the last two of each four columns. So one instruction can multiply both by
    /// a scale and add them to the sum of the block. Where one adds all four products to 32 bits, they have no use.
    const NARROW: bool = false;
    /// Adds to the narrow sums of two, three or four tokens what [`Simd::dot_four`] adds to whole ones; they are zero where
    /// they are `FRESH`. Codes are unsigned.
    unsafe fn narrow_four<const T: usize, const FRESH: bool>(
        _acc: &mut [Self::I; T],
        _codes: *const [u8; 64],
        _q: *const [i32; 8],
    ) {
        unreachable!("no narrow sums")
    }
    /// `sum + narrow * factor`.
    unsafe fn narrow_scale(_sum: Self::I, _narrow: Self::I, _factor: Self::I) -> Self::I {
        unreachable!("no narrow sums")
    }
    /// How scales are kept beside narrow sums: the lower words, and the upper ones, each twice.
    unsafe fn factors(_pairs: Self::I) -> [Self::I; 2] {
        unreachable!("no narrow sums")
    }
    /// Factors times steps, both as words.
    unsafe fn word_mul(_a: Self::I, _b: Self::I) -> Self::I {
        unreachable!("neither narrow nor short sums")
    }
    /// Whether sums of 32 bits that are known to fit 16 are best multiplied by a factor that fits them too, and added, by
    /// [`Simd::dot_words`]: where that is fewer instructions.
    const SHORT: bool = false;
    /// Of signed bytes, as unsigned ones.
    unsafe fn magnitudes(_q: Self::B) -> Self::B {
        unreachable!("no short sums")
    }
}

/// Unpacking by the formats' definitions, for what a tier has no instructions for.
pub mod expanded {
    #![allow(clippy::needless_range_loop)]
    use super::*;

    #[inline(always)]
    pub unsafe fn codes_256<S: Simd, W: Format256>(blocks: [*const u8; 16], bias: u8, out: *mut [u8; 64]) {
        unsafe {
            let mut codes = [[0u8; 256]; 16];
            for r in 0..16 {
                codes[r] = W::expand(blocks[r]).codes.map(|code| bias.wrapping_add(code as u8));
            }
            transpose_256::<S>(&codes, 4, out);
        }
    }

    #[inline(always)]
    pub unsafe fn factors_256<W: Format256>(blocks: [*const u8; 16], out: &mut Factors256) {
        for r in 0..16 {
            // Only what is used of it is computed.
            let e = unsafe { W::expand(blocks[r]) };
            let pair = |words: &[i16; 16], j: usize| i32::from(words[2 * j] as u16) | i32::from(words[2 * j + 1]) << 16;
            for j in 0..8 {
                (out.scales[j][r], out.mins[j][r]) = (pair(&e.scales, j), pair(&e.mins, j));
            }
            (out.d[r], out.dmin[r]) = (e.d, e.dmin);
        }
    }

    #[inline(always)]
    pub unsafe fn codes_32<S: Simd, W: Format32>(blocks: [*const u8; 16], n: usize, bias: u8, out: *mut [u8; 64]) {
        unsafe {
            let mut codes = [[0u8; 256]; 16];
            for r in 0..16 {
                for j in 0..n {
                    let e = W::expand(blocks[r].add(j * W::BYTES));
                    for (out, code) in codes[r][32 * j..32 * j + 32].iter_mut().zip(e.codes) {
                        *out = bias.wrapping_add(code as u8);
                    }
                }
            }
            transpose_256::<S>(&codes, n.div_ceil(2), out);
        }
    }

    #[inline(always)]
    pub unsafe fn factors_32<W: Format32>(blocks: [*const u8; 16], d: &mut [f32; 16], m: &mut [f32; 16]) {
        for r in 0..16 {
            let e = unsafe { W::expand(blocks[r]) };
            (d[r], m[r]) = (e.d, e.m);
        }
    }

    /// 64 columns at a time, as many times as asked for.
    #[inline(always)]
    unsafe fn transpose_256<S: Simd>(codes: &[[u8; 256]; 16], quarters: usize, out: *mut [u8; 64]) {
        for quarter in 0..quarters {
            let rows = std::array::from_fn(|r| codes[r][64 * quarter..].as_ptr());
            unsafe { S::transpose(rows, out.add(16 * quarter)) };
        }
    }
}
