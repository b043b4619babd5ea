//! AVX2 with FMA and F16C: two 256-bit registers per vector, with or without AVX-VNNI.
use super::unpack;
use crate::kernels::{
    formats::{Format32, Format256, with_format_32, with_vector_format},
    generic::{float::Plain, panel::TILE},
    simd::{Factors256, Simd, expanded},
};
use std::{
    arch::{asm, x86_64::*},
    marker::PhantomData,
};

/// The 256-bit vector machine; `D` says how integers are multiplied.
#[derive(Clone, Copy)]
pub struct Ymm<D>(PhantomData<D>);

/// Without VNNI.
pub type Avx2 = Ymm<SignTrick>;
/// With AVX-VNNI.
pub type Avx2Vnni = Ymm<Vnni>;

/// The integer dot products of one register, as [`Simd::dot_bytes`] and [`Simd::dot_words`] define them.
///
/// # Safety
/// As for [`Simd`].
pub trait Dot: Copy + 'static {
    /// [`Simd::FLIP`].
    const FLIP: u8;
    unsafe fn bytes(acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i;
    unsafe fn words(acc: __m256i, a: __m256i, b: __m256i) -> __m256i;

    /// [`Simd::NARROW`] and [`Simd::FOURS`].
    const NARROW: bool;
    /// [`Simd::TILED_FROM`].
    const TILED_FROM: usize;
    /// [`Simd::WIDE_TILED_FROM`].
    const WIDE_TILED_FROM: usize;
}

/// `vpmaddubsw` of `|w|` and `a` with the sign of `w`.
///
/// It takes unsigned times signed bytes and saturates the sum of two products to 16 bits. It never does so here:
/// `|w| <= 128` (as an unsigned byte, so -128 is no exception) and `|a| <= 127` (the quantisation emits no -128, and so
/// negation does not wrap either) bound that sum by 2 * 128 * 127 = 32512.
#[derive(Clone, Copy)]
pub struct SignTrick;

impl Dot for SignTrick {
    const FLIP: u8 = 0;
    const NARROW: bool = true;
    const TILED_FROM: usize = 4;
    const WIDE_TILED_FROM: usize = 4;

    #[inline(always)]
    unsafe fn bytes(acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights));
            Self::words(acc, pairs, _mm256_set1_epi16(1))
        }
    }
    #[inline(always)]
    unsafe fn words(acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)) }
    }
}

/// Adds the products of four words of a panel with four words of some tokens to the tokens' sums; `$instructions` says how.
///
/// Not by intrinsics: LLVM turns the sums into trees, for which there are not enough registers, and then most
/// instructions move what did not fit to and from the stack.
macro_rules! four_words {
    ($instructions:ident [$($scratch:ident)+], $acc:expr, $codes:expr, $q:expr, [$($t:literal $low:ident $high:ident),+]) => {{
        let [$([$low, $high]),+] = $acc;
        // SAFETY: reads what the caller promised and changes registers; the caller has AVX2 enabled.
        unsafe { asm!(
            $instructions!(word "0"), $($instructions!(first "0" $t $low $high),)+
            $instructions!(word "1"), $($instructions!(token "1" $t $low $high),)+
            $instructions!(word "2"), $($instructions!(token "2" $t $low $high),)+
            $instructions!(word "3"), $($instructions!(token "3" $t $low $high),)+
            codes = in(reg) $codes, tokens = in(reg) $q,
            $($low = inout(ymm_reg) *$low, $high = inout(ymm_reg) *$high,)+
            $($scratch = out(ymm_reg) _,)+
            options(pure, readonly, nostack, preserves_flags)
        ) }
    }};
}

/// [`four_words`] for two, three or four tokens.
macro_rules! four_words_each {
    ($instructions:ident $scratch:tt, $acc:expr, $codes:expr, $q:expr) => {
        match $acc.as_mut_slice() {
            [a, b] => four_words!($instructions $scratch, [a, b], $codes, $q, ["0" a0 a1, "1" b0 b1]),
            [a, b, c] => four_words!($instructions $scratch, [a, b, c], $codes, $q, ["0" a0 a1, "1" b0 b1, "2" c0 c1]),
            [a, b, c, d] => four_words!($instructions $scratch, [a, b, c, d], $codes, $q,
                ["0" a0 a1, "1" b0 b1, "2" c0 c1, "3" d0 d1]),
            other => unreachable!("the registers do not hold the sums of {} tokens", other.len()),
        }
    };
}

/// Sums of two products as words: codes are unsigned.
macro_rules! narrow {
    (first $($token:tt)+) => {
        narrow!(token $($token)+)
    };
    (word $k:literal) => {
        concat!(
            "vmovdqu {w0}, ymmword ptr [{codes} + 64*", $k, "]\n",
            "vmovdqu {w1}, ymmword ptr [{codes} + 64*", $k, " + 32]"
        )
    };
    (token $k:literal $t:literal $low:ident $high:ident) => {
        concat!(
            "vpbroadcastd {q}, dword ptr [{tokens} + 32*", $k, " + 4*", $t, "]\n",
            "vpmaddubsw {p}, {w0}, {q}\n",
            "vpaddw {", stringify!($low), "}, {", stringify!($low), "}, {p}\n",
            "vpmaddubsw {q}, {w1}, {q}\n",
            "vpaddw {", stringify!($high), "}, {", stringify!($high), "}, {q}"
        )
    };
}

/// The same for sums that are zero.
macro_rules! narrow_fresh {
    (first $k:literal $t:literal $low:ident $high:ident) => {
        concat!(
            "vpbroadcastd {q}, dword ptr [{tokens} + 32*", $k, " + 4*", $t, "]\n",
            "vpmaddubsw {", stringify!($low), "}, {w0}, {q}\n",
            "vpmaddubsw {", stringify!($high), "}, {w1}, {q}"
        )
    };
    ($($other:tt)+) => {
        narrow!($($other)+)
    };
}

/// [`SignTrick`].
macro_rules! signed {
    (first $($token:tt)+) => {
        signed!(token $($token)+)
    };
    (word "0") => {
        concat!("vpcmpeqw {ones}, {ones}, {ones}\n vpsrlw {ones}, {ones}, 15\n", signed!(load "0"))
    };
    (word $k:literal) => {
        signed!(load $k)
    };
    (load $k:literal) => {
        concat!(narrow!(word $k), "\n vpabsb {m0}, {w0}\n vpabsb {m1}, {w1}")
    };
    (token $k:literal $t:literal $low:ident $high:ident) => {
        concat!(
            "vpbroadcastd {q}, dword ptr [{tokens} + 32*", $k, " + 4*", $t, "]\n",
            "vpsignb {p}, {q}, {w0}\n",
            "vpsignb {q}, {q}, {w1}\n",
            "vpmaddubsw {p}, {m0}, {p}\n",
            "vpmaddubsw {q}, {m1}, {q}\n",
            "vpmaddwd {p}, {p}, {ones}\n",
            "vpmaddwd {q}, {q}, {ones}\n",
            "vpaddd {", stringify!($low), "}, {", stringify!($low), "}, {p}\n",
            "vpaddd {", stringify!($high), "}, {", stringify!($high), "}, {q}"
        )
    };
}

/// [`Simd::dot_four`]. (Assembly needs a function that has the feature; the compiler inlines it.)
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn signed_four<const T: usize>(acc: &mut [I; T], codes: *const [u8; 64], q: *const [i32; 8]) {
    four_words_each!(signed [w0 w1 m0 m1 q p ones], acc, codes, q)
}

/// [`Simd::narrow_four`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn narrow_four<const T: usize, const FRESH: bool>(acc: &mut [I; T], codes: *const [u8; 64], q: *const [i32; 8]) {
    if FRESH {
        four_words_each!(narrow_fresh [w0 w1 q p], acc, codes, q)
    } else {
        four_words_each!(narrow [w0 w1 q p], acc, codes, q)
    }
}

/// [`Simd::fma_number`]. By intrinsics, LLVM loads the numbers of all sums first and moves sums to the stack for them.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn fma_number(a: F, p: *const f32, i: usize, c: F) -> F {
    let [mut low, mut high] = c;
    // SAFETY: reads what the caller promised and changes registers; the caller has AVX2 and FMA enabled.
    unsafe {
        asm!(
            "vbroadcastss {x}, dword ptr [{p} + 4*{i}]",
            "vfmadd231ps {low}, {a0}, {x}",
            "vfmadd231ps {high}, {a1}, {x}",
            p = in(reg) p, i = in(reg) i, a0 = in(ymm_reg) a[0], a1 = in(ymm_reg) a[1], x = out(ymm_reg) _,
            low = inout(ymm_reg) low, high = inout(ymm_reg) high,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    [low, high]
}

/// `vpdpbusd` and `vpdpwssd` in their VEX encoding.
#[derive(Clone, Copy)]
pub struct Vnni;

impl Dot for Vnni {
    const FLIP: u8 = 0x80;
    const NARROW: bool = false;
    const TILED_FROM: usize = 5;
    const WIDE_TILED_FROM: usize = TILE;

    #[inline(always)]
    unsafe fn bytes(acc: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(acc, weights, activations) }
    }
    #[inline(always)]
    unsafe fn words(acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_dpwssd_avx_epi32(acc, a, b) }
    }
}

type F = [__m256; 2];
type I = [__m256i; 2];

impl<D: Dot> Simd for Ymm<D> {
    type F = F;
    type I = I;
    type B = I;
    const FLIP: u8 = D::FLIP;
    const REGISTERS: usize = 8;
    const TILED_FROM: usize = D::TILED_FROM;
    const WIDE_TILED_FROM: usize = D::WIDE_TILED_FROM;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        unsafe {
            _mm256_storeu_ps(p, x[0]);
            _mm256_storeu_ps(p.add(8), x[1]);
        }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> F {
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))] }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> F {
        unsafe { [widen_bf16(p), widen_bf16(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn fma_number(a: F, p: *const f32, i: usize, c: F) -> F {
        unsafe { fma_number(a, p, i, c) }
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn if_less(a: F, b: F, x: F, y: F) -> F {
        unsafe {
            let less = [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])];
            [_mm256_blendv_ps(y[0], x[0], less[0]), _mm256_blendv_ps(y[1], x[1], less[1])]
        }
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }
    #[inline(always)]
    unsafe fn exp2i(n: F) -> F {
        unsafe {
            let biased = Self::iadd(Self::to_int(n), Self::isplat(127));
            biased.map(|x| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(x)))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        unsafe {
            let b = _mm256_add_ps(a[0], a[1]);
            let c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b));
            let d = _mm_add_ps(c, _mm_movehl_ps(c, c));
            _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(a: F) -> f32 {
        unsafe {
            let b = _mm256_max_ps(a[0], a[1]);
            let c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b));
            let d = _mm_max_ps(c, _mm_movehl_ps(c, c));
            _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)))
        }
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> I {
        unsafe { [_mm256_set1_epi32(x); 2] }
    }
    #[inline(always)]
    unsafe fn iload(p: *const i32) -> I {
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())] }
    }
    #[inline(always)]
    unsafe fn istore(p: *mut i32, x: I) {
        unsafe {
            _mm256_storeu_si256(p.cast(), x[0]);
            _mm256_storeu_si256(p.add(8).cast(), x[1]);
        }
    }
    #[inline(always)]
    unsafe fn iadd(a: I, b: I) -> I {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn imul(a: I, b: I) -> I {
        unsafe { [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn isum(a: I) -> i32 {
        unsafe {
            let b = _mm256_add_epi32(a[0], a[1]);
            let c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256::<1>(b));
            let d = _mm_add_epi32(c, _mm_shuffle_epi32::<0b01_00_11_10>(c));
            _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32::<0b10_11_00_01>(d)))
        }
    }
    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        unsafe { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
    }
    #[inline(always)]
    unsafe fn to_int(a: F) -> I {
        unsafe { [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])] }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut i8, x: I) {
        unsafe { _mm_storeu_si128(p.cast(), _mm_unpacklo_epi64(low_bytes(x[0]), low_bytes(x[1]))) }
    }
    #[inline(always)]
    unsafe fn blend_words(low: I, high: I) -> I {
        const UPPER: i32 = 0b1010_1010;
        unsafe { [_mm256_blend_epi16::<UPPER>(low[0], high[0]), _mm256_blend_epi16::<UPPER>(low[1], high[1])] }
    }
    #[inline(always)]
    unsafe fn dot_words(acc: I, a: I, b: I) -> I {
        unsafe { [D::words(acc[0], a[0], b[0]), D::words(acc[1], a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn bload(p: *const u8) -> I {
        unsafe { Self::iload(p.cast()) }
    }
    #[inline(always)]
    unsafe fn bsplat(p: *const i32) -> I {
        unsafe { Self::isplat(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: I, weights: I, activations: I) -> I {
        unsafe { [D::bytes(acc[0], weights[0], activations[0]), D::bytes(acc[1], weights[1], activations[1])] }
    }
    #[inline(always)]
    unsafe fn transpose(rows: [*const u8; 16], out: *mut [u8; 64]) {
        unsafe {
            // Words 8 j .. 8 j + 8 of rows 8 i .. 8 i + 8.
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let words = unpack::eight_words::<__m256i>(&rows[8 * i..], 32 * j);
                for (word, v) in words.into_iter().enumerate() {
                    _mm256_storeu_si256(out.add(8 * j + word).cast::<__m256i>().add(i), v);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn turn<P: Plain>(rows: [*const u8; 16], out: *mut f32, stride: usize) {
        unsafe {
            for i in [0, 8] {
                let mut halves = [[_mm256_setzero_si256(); 8]; 2];
                for r in 0..8 {
                    let [first, last] = P::load::<Self>(rows[i + r]);
                    (halves[0][r], halves[1][r]) = (_mm256_castps_si256(first), _mm256_castps_si256(last));
                }
                for (j, half) in halves.into_iter().enumerate() {
                    for (k, column) in unpack::transposed(half).into_iter().enumerate() {
                        _mm256_storeu_si256(out.add((8 * j + k) * stride + i).cast(), column);
                    }
                }
            }
        }
    }

    unpack::unpacking!(__m256i);

    const FOURS: bool = D::NARROW;
    #[inline(always)]
    unsafe fn dot_four<const T: usize>(acc: &mut [I; T], codes: *const [u8; 64], q: *const [i32; 8]) {
        unsafe { signed_four(acc, codes, q) }
    }
    const NARROW: bool = D::NARROW;
    #[inline(always)]
    unsafe fn narrow_four<const T: usize, const FRESH: bool>(
        acc: &mut [I; T],
        codes: *const [u8; 64],
        q: *const [i32; 8],
    ) {
        unsafe { narrow_four::<T, FRESH>(acc, codes, q) }
    }
    #[inline(always)]
    unsafe fn narrow_scale(sum: I, narrow: I, factor: I) -> I {
        unsafe { Self::dot_words(sum, narrow, factor) }
    }
    #[inline(always)]
    unsafe fn factors(pairs: I) -> [I; 2] {
        unsafe { [[lower_words(pairs[0]), lower_words(pairs[1])], [upper_words(pairs[0]), upper_words(pairs[1])]] }
    }
    #[inline(always)]
    unsafe fn word_mul(a: I, b: I) -> I {
        unsafe { [_mm256_mullo_epi16(a[0], b[0]), _mm256_mullo_epi16(a[1], b[1])] }
    }
}

/// The lower word of each lane, twice.
#[inline(always)]
unsafe fn lower_words(x: __m256i) -> __m256i {
    unsafe { _mm256_blend_epi16::<0b1010_1010>(x, _mm256_slli_epi32::<16>(x)) }
}

/// The upper word of each lane, twice.
#[inline(always)]
unsafe fn upper_words(x: __m256i) -> __m256i {
    unsafe { _mm256_blend_epi16::<0b0101_0101>(x, _mm256_srli_epi32::<16>(x)) }
}

#[inline(always)]
unsafe fn widen_bf16(p: *const u16) -> __m256 {
    unsafe {
        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    }
}

/// The low bytes of eight lanes, in the lower half.
#[inline(always)]
unsafe fn low_bytes(x: __m256i) -> __m128i {
    unsafe {
        // In each 128-bit half: bytes 0, 4, 8, 12 to the front.
        let front = _mm256_set1_epi64x(0x0c08_0400);
        let bytes = _mm256_shuffle_epi8(x, front);
        _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes))
    }
}
