//! AVX-512 with VNNI: one 512-bit register per vector.
use super::{blocks::Block256, unpack};
use crate::{
    gguf::TensorType,
    kernels::{
        formats::{Format32, Format256, with_format_32, with_vector_format},
        simd::{Factors256, Simd, expanded},
    },
};
use std::arch::{asm, x86_64::*};

#[derive(Clone, Copy)]
pub struct Avx512;

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    const FLIP: u8 = 0x80;
    const REGISTERS: usize = 32;
    const TILED_FROM: usize = 3;
    const WIDE_TILED_FROM: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn if_less(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn exp2i(n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        unsafe {
            let b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b));
            let d = _mm_add_ps(c, _mm_movehl_ps(c, c));
            _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)))
        }
    }
    #[inline(always)]
    unsafe fn sum_each(v: &[__m512; 16]) -> __m512 {
        unsafe {
            // A level of the tree for two vectors at a time, whose results share a register from then on. Which of them
            // are put together decides where each ends up.
            let mut eights = [_mm512_setzero_ps(); 8];
            for i in 0..8 {
                let (a, b) = (v[i], v[i + 8]);
                let (low, high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                eights[i] = _mm512_add_ps(low, high);
            }
            let mut fours = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                let (a, b) = (eights[i], eights[i + 4]);
                let (low, high) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                fours[i] = _mm512_add_ps(low, high);
            }
            // Quarters now are of the vectors i, i + 8, i + 4 and i + 12.
            let mut twos = [_mm512_setzero_ps(); 2];
            for i in 0..2 {
                let (a, b) = (_mm512_castps_pd(fours[i]), _mm512_castps_pd(fours[i + 2]));
                let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
                twos[i] = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
            }
            let (low, high) = (
                _mm512_shuffle_ps::<0b10_00_10_00>(twos[0], twos[1]),
                _mm512_shuffle_ps::<0b11_01_11_01>(twos[0], twos[1]),
            );
            // Lanes of a quarter: the vectors 0, 2, 1 and 3 after its first.
            let order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
            _mm512_permutexvar_ps(order, _mm512_add_ps(low, high))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(a: __m512) -> f32 {
        unsafe {
            let b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b));
            let d = _mm_max_ps(c, _mm_movehl_ps(c, c));
            _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)))
        }
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn iload(p: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn istore(p: *mut i32, x: __m512i) {
        unsafe { _mm512_storeu_si512(p.cast(), x) }
    }
    #[inline(always)]
    unsafe fn iadd(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn imul(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn isum(a: __m512i) -> i32 {
        unsafe { _mm512_reduce_add_epi32(a) }
    }
    #[inline(always)]
    unsafe fn to_float(a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn to_int(a: __m512) -> __m512i {
        unsafe { _mm512_cvtps_epi32(a) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut i8, x: __m512i) {
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(x)) }
    }
    #[inline(always)]
    unsafe fn blend_words(low: __m512i, high: __m512i) -> __m512i {
        unsafe { _mm512_mask_blend_epi16(0xaaaa_aaaa, low, high) }
    }
    #[inline(always)]
    unsafe fn dot_words(acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        unsafe { vpdpwssd(acc, a, b) }
    }
    #[inline(always)]
    unsafe fn bload(p: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn bsplat(p: *const i32) -> __m512i {
        unsafe { _mm512_set1_epi32(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: __m512i, weights: __m512i, activations: __m512i) -> __m512i {
        unsafe { vpdpbusd(acc, weights, activations) }
    }
    #[inline(always)]
    unsafe fn dot_each<const T: usize>(acc: &mut [__m512i; T], weights: __m512i, activations: *const i32) {
        const { assert!(T <= 8) };
        macro_rules! dots {
            ($($t:literal)*) => {$(
                if $t < T {
                    unsafe { vpdpbusd_word::<$t>(acc.get_unchecked_mut($t), weights, activations) };
                }
            )*};
        }
        dots!(0 1 2 3 4 5 6 7);
    }
    #[inline(always)]
    unsafe fn transpose(rows: [*const u8; 16], out: *mut [u8; 64]) {
        unsafe {
            // A loop, not `map`: closures passed on are compiled without this tier's features.
            let mut v = [_mm512_setzero_si512(); 16];
            for (v, row) in v.iter_mut().zip(rows) {
                *v = _mm512_loadu_si512(row.cast());
            }
            transpose16(&mut v);
            for (i, x) in v.into_iter().enumerate() {
                _mm512_storeu_si512(out.add(i).cast(), x);
            }
        }
    }

    const SHORT: bool = true;
    #[inline(always)]
    unsafe fn magnitudes(q: Self::B) -> Self::B {
        unsafe { _mm512_abs_epi8(q) }
    }
    #[inline(always)]
    unsafe fn word_mul(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi16(a, b) }
    }

    unpack::unpacking!(__m512i);
    const HAS_WORDS: bool = true;
    #[inline(always)]
    fn has_words_256(ty: TensorType) -> bool {
        with_vector_format!(ty, K => <K as Block256>::BYTEWISE, false)
    }
    #[inline(always)]
    unsafe fn words_256<W: Format256, const I: usize, const HALF: usize>(
        blocks: [*const u8; 16],
        bias: u8,
    ) -> [(usize, [__m512i; 4]); 2] {
        with_vector_format!(W::TYPE, K => unsafe { unpack::words_256::<__m512i, K, I, HALF>(blocks, bias) },
            unreachable!("rows of this format are unpacked as a whole"))
    }
    #[inline(always)]
    unsafe fn words_32<W: Format32>(blocks: [*const u8; 16], bias: u8) -> [__m512i; 8] {
        with_format_32!(W::TYPE, K => unsafe { unpack::words_32::<__m512i, K>(&blocks, 0, bias) })
    }
}

/// `vpdpbusd`. Not the intrinsic, whose instructions LLVM puts into another order: in that of the source, prompts are
/// computed up to 1.3 times as fast (measured on Emerald Rapids).
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn vpdpbusd(mut acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: a pure register instruction; the caller has VNNI enabled.
    unsafe {
        asm!("vpdpbusd {0}, {1}, {2}", inout(zmm_reg) acc, in(zmm_reg) a, in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `vpdpbusd` with word `T` of memory in all lanes. Not the intrinsic: where there are many, LLVM loads words long before
/// they are needed, and stores them again because there are no registers for so many.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn vpdpbusd_word<const T: usize>(acc: &mut __m512i, a: __m512i, words: *const i32) {
    // SAFETY: it reads four bytes, which are there as the caller promises; the caller has VNNI enabled.
    unsafe {
        asm!("vpdpbusd {0}, {1}, dword ptr [{2} + {3}]{{1to16}}", inout(zmm_reg) *acc, in(zmm_reg) a, in(reg) words,
            const 4 * T, options(pure, readonly, nostack, preserves_flags));
    }
}

/// `vpdpwssd`. Not the intrinsic: LLVM likes to split that into a multiply and an add.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub unsafe fn vpdpwssd(mut acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: a pure register instruction; the caller has VNNI enabled.
    unsafe {
        asm!("vpdpwssd {0}, {1}, {2}", inout(zmm_reg) acc, in(zmm_reg) a, in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Transposes 16 × 16 words of 32 bits: pairs, then quads, then 128-bit lanes twice.
#[inline(always)]
pub unsafe fn transpose16(v: &mut [__m512i; 16]) {
    unsafe {
        let mut t = [_mm512_setzero_si512(); 16];
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
        }
        for i in 0..4 {
            let b = 4 * i;
            v[b] = _mm512_unpacklo_epi64(t[b], t[b + 2]);
            v[b + 1] = _mm512_unpackhi_epi64(t[b], t[b + 2]);
            v[b + 2] = _mm512_unpacklo_epi64(t[b + 1], t[b + 3]);
            v[b + 3] = _mm512_unpackhi_epi64(t[b + 1], t[b + 3]);
        }
        // Now lane L of v[4 i + c] holds column 4 L + c of rows 4 i .. 4 i + 3.
        for c in 0..4 {
            let even_low = _mm512_shuffle_i32x4::<0x88>(v[c], v[4 + c]);
            let odd_low = _mm512_shuffle_i32x4::<0xdd>(v[c], v[4 + c]);
            let even_high = _mm512_shuffle_i32x4::<0x88>(v[8 + c], v[12 + c]);
            let odd_high = _mm512_shuffle_i32x4::<0xdd>(v[8 + c], v[12 + c]);
            t[c] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
            t[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
            t[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
            t[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
        }
        *v = t;
    }
}
