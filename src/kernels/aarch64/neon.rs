//! NEON: four 128-bit registers per vector.
use crate::kernels::simd::Simd;
use std::arch::{aarch64::*, asm};

/// With the dot product instructions of Armv8.2 (`DOTPROD`) or without, and with the matrix products of Armv8.6 (`I8MM`) or
/// without.
#[derive(Clone, Copy)]
pub struct Neon<const DOTPROD: bool, const I8MM: bool = false>;

type F = [float32x4_t; 4];
type I = [int32x4_t; 4];
type B = [int8x16_t; 4];

/// A function of registers on each of the four. Written out, because a closure may stay a call.
macro_rules! each {
    ($function:expr, $($x:expr),+) => {
        [$function($($x[0]),+), $function($($x[1]),+), $function($($x[2]),+), $function($($x[3]),+)]
    };
}

impl<const DOTPROD: bool, const I8MM: bool> Simd for Neon<DOTPROD, I8MM> {
    type F = F;
    type I = I;
    type B = B;
    const FLIP: u8 = 0;
    const REGISTERS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        unsafe {
            vst1q_f32(p, x[0]);
            vst1q_f32(p.add(4), x[1]);
            vst1q_f32(p.add(8), x[2]);
            vst1q_f32(p.add(12), x[3]);
        }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> F {
        unsafe { each!(widen_f16, [p, p.add(4), p.add(8), p.add(12)]) }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> F {
        unsafe {
            let zero = vdupq_n_u16(0);
            let (a, b) = (vld1q_u16(p), vld1q_u16(p.add(8)));
            // A bfloat16 is the upper half of the number.
            let words = [vzip1q_u16(zero, a), vzip2q_u16(zero, a), vzip1q_u16(zero, b), vzip2q_u16(zero, b)];
            each!(vreinterpretq_f32_u16, words)
        }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        unsafe { each!(vaddq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        unsafe { each!(vsubq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        unsafe { each!(vmulq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        unsafe { each!(vdivq_f32, a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        unsafe { each!(vfmaq_f32, c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        unsafe { each!(larger, a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        unsafe { Self::if_less(a, b, a, b) }
    }
    #[inline(always)]
    unsafe fn if_less(a: F, b: F, x: F, y: F) -> F {
        unsafe { each!(vbslq_f32, each!(vcltq_f32, a, b), x, y) }
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        unsafe { each!(vabsq_f32, a) }
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        unsafe { each!(vrndnq_f32, a) }
    }
    #[inline(always)]
    unsafe fn exp2i(n: F) -> F {
        unsafe {
            let biased = Self::iadd(Self::to_int(n), Self::isplat(127));
            each!(vreinterpretq_f32_s32, each!(vshlq_n_s32::<23>, biased))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        unsafe {
            let b = [vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3])];
            let c = vaddq_f32(b[0], b[1]);
            vpadds_f32(vadd_f32(vget_low_f32(c), vget_high_f32(c)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(a: F) -> f32 {
        unsafe {
            let b = [larger(a[0], a[2]), larger(a[1], a[3])];
            let c = larger(b[0], b[1]);
            let d = larger(c, vextq_f32::<2>(c, c));
            vgetq_lane_f32::<0>(larger(d, vextq_f32::<1>(d, d)))
        }
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> I {
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    unsafe fn iload(p: *const i32) -> I {
        unsafe { [vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))] }
    }
    #[inline(always)]
    unsafe fn istore(p: *mut i32, x: I) {
        unsafe {
            vst1q_s32(p, x[0]);
            vst1q_s32(p.add(4), x[1]);
            vst1q_s32(p.add(8), x[2]);
            vst1q_s32(p.add(12), x[3]);
        }
    }
    #[inline(always)]
    unsafe fn iadd(a: I, b: I) -> I {
        unsafe { each!(vaddq_s32, a, b) }
    }
    #[inline(always)]
    unsafe fn imul(a: I, b: I) -> I {
        unsafe { each!(vmulq_s32, a, b) }
    }
    #[inline(always)]
    unsafe fn isum(a: I) -> i32 {
        unsafe { vaddvq_s32(vaddq_s32(vaddq_s32(a[0], a[1]), vaddq_s32(a[2], a[3]))) }
    }
    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        unsafe { each!(vcvtq_f32_s32, a) }
    }
    #[inline(always)]
    unsafe fn to_int(a: F) -> I {
        unsafe { each!(vcvtnq_s32_f32, a) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut i8, x: I) {
        unsafe {
            // The even halves of words, then the even bytes of halves.
            let x = each!(vreinterpretq_s8_s32, x);
            let low = vreinterpretq_s8_s16(vuzp1q_s16(vreinterpretq_s16_s8(x[0]), vreinterpretq_s16_s8(x[1])));
            let high = vreinterpretq_s8_s16(vuzp1q_s16(vreinterpretq_s16_s8(x[2]), vreinterpretq_s16_s8(x[3])));
            vst1q_s8(p, vuzp1q_s8(low, high));
        }
    }
    #[inline(always)]
    unsafe fn blend_words(low: I, high: I) -> I {
        unsafe { each!(blend_words, low, high) }
    }
    #[inline(always)]
    unsafe fn dot_words(acc: I, a: I, b: I) -> I {
        unsafe { each!(dot_words, acc, each!(vreinterpretq_s16_s32, a), each!(vreinterpretq_s16_s32, b)) }
    }
    #[inline(always)]
    unsafe fn bload(p: *const u8) -> B {
        unsafe {
            let p = p.cast::<i8>();
            [vld1q_s8(p), vld1q_s8(p.add(16)), vld1q_s8(p.add(32)), vld1q_s8(p.add(48))]
        }
    }
    #[inline(always)]
    unsafe fn bsplat(p: *const i32) -> B {
        unsafe { [vreinterpretq_s8_s32(vdupq_n_s32(p.read_unaligned())); 4] }
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: I, weights: B, activations: B) -> I {
        unsafe {
            if DOTPROD { each!(sdot, acc, weights, activations) } else { each!(dot_bytes, acc, weights, activations) }
        }
    }
    const PAIRS: bool = I8MM;
    /// Each register gets two rows, eight columns of each.
    #[inline(always)]
    unsafe fn pair_codes(words: *mut [u8; 64]) {
        unsafe {
            let p = words.cast::<u32>();
            let at = [p, p.add(4), p.add(8), p.add(12)];
            let (first, second) = (each!(vld1q_u32, at), each!(vld1q_u32, at.map(|p| p.add(16))));
            for (i, (a, b)) in first.into_iter().zip(second).enumerate() {
                vst1q_u32(p.add(8 * i), vzip1q_u32(a, b));
                vst1q_u32(p.add(8 * i + 4), vzip2q_u32(a, b));
            }
        }
    }
    #[inline(always)]
    unsafe fn pair_dot(acc: [I; 2], codes: *const [u8; 64], words: [*const i32; 2]) -> [I; 2] {
        unsafe {
            // Eight columns of a token, then of the other.
            let (a, b) = (vld1_s32(words[0]), vld1_s32(words[1]));
            let tokens = [vreinterpretq_s8_s32(vcombine_s32(vzip1_s32(a, b), vzip2_s32(a, b))); 4];
            let (first, second) = (Self::bload(codes.cast()), Self::bload(codes.add(1).cast()));
            [each!(smmla, acc[0], first, tokens), each!(smmla, acc[1], second, tokens)]
        }
    }
    /// A register holds the sums of two rows: with one token, with the other, then the second row's.
    #[inline(always)]
    unsafe fn unpair([a, b]: [I; 2]) -> [I; 2] {
        unsafe {
            let (even, odd) = ([a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]);
            [each!(vuzp1q_s32, even, odd), each!(vuzp2q_s32, even, odd)]
        }
    }
    #[inline(always)]
    unsafe fn transpose(rows: [*const u8; 16], out: *mut [u8; 64]) {
        unsafe {
            // Tiles of 4 × 4 words.
            for r in (0..16).step_by(4) {
                for word in (0..16).step_by(4) {
                    let at = [rows[r], rows[r + 1], rows[r + 2], rows[r + 3]].map(|row| row.add(4 * word));
                    let tile = each!(vreinterpretq_u32_u8, each!(vld1q_u8, at));
                    for (i, column) in transpose4(tile).into_iter().enumerate() {
                        vst1q_u8(out.add(word + i).cast::<u8>().add(4 * r), vreinterpretq_u8_u32(column));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn widen_f16(p: *const u16) -> float32x4_t {
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))) }
}

/// `if a > b { a } else { b }`: `fmax` would treat NaN and zeros otherwise.
#[inline(always)]
unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

/// Lower words of `low`, upper words of `high`.
#[inline(always)]
unsafe fn blend_words(low: int32x4_t, high: int32x4_t) -> int32x4_t {
    unsafe { vbslq_s32(vdupq_n_u32(0xffff), low, high) }
}

/// Adds, per lane, two products of words.
#[inline(always)]
unsafe fn dot_words(acc: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t {
    unsafe {
        let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
        vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(a, b)))
    }
}

/// Adds, per lane, four products of bytes. Activations are in -127..=127, so two products fit 16 bits:
/// 2 * 128 * 127 = 32512.
#[inline(always)]
unsafe fn dot_bytes(acc: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    unsafe {
        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(activations));
        vpadalq_s16(acc, vpaddq_s16(low, vmull_high_s8(weights, activations)))
    }
}

/// `sdot`: as [`dot_bytes`], for all bytes. The intrinsic is not in stable Rust.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn sdot(mut acc: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    // SAFETY: a pure register instruction; the caller has it enabled.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) weights, in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// `smmla`: adds the products of two rows of eight bytes with two others. The intrinsic is not in stable Rust.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn smmla(mut acc: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    // SAFETY: a pure register instruction; the caller has it enabled.
    unsafe {
        asm!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) weights, in(vreg) activations,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Transposes 4 × 4 words: pairs, then pairs of pairs.
#[inline(always)]
unsafe fn transpose4(rows: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    unsafe {
        let pairs = [
            vtrn1q_u32(rows[0], rows[1]),
            vtrn2q_u32(rows[0], rows[1]),
            vtrn1q_u32(rows[2], rows[3]),
            vtrn2q_u32(rows[2], rows[3]),
        ];
        let p = each!(vreinterpretq_u64_u32, pairs);
        let columns = [vtrn1q_u64(p[0], p[2]), vtrn1q_u64(p[1], p[3]), vtrn2q_u64(p[0], p[2]), vtrn2q_u64(p[1], p[3])];
        each!(vreinterpretq_u32_u64, columns)
    }
}
