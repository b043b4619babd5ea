//! The vector machine on plain arrays, for processors without a tier of their own and as the twin in tests.
use super::simd::Simd;
use half::{bf16, f16};

#[derive(Clone, Copy)]
pub struct Portable;

type F = [f32; 16];
type I = [i32; 16];

#[inline(always)]
fn zip<A: Copy, B: Copy, C>(a: [A; 16], b: [B; 16], f: impl Fn(A, B) -> C) -> [C; 16] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn tree<T: Copy>(a: [T; 16], f: impl Fn(T, T) -> T) -> T {
    let b: [T; 8] = std::array::from_fn(|i| f(a[i], a[i + 8]));
    let c: [T; 4] = std::array::from_fn(|i| f(b[i], b[i + 4]));
    let d: [T; 2] = std::array::from_fn(|i| f(c[i], c[i + 2]));
    f(d[0], d[1])
}

impl Simd for Portable {
    type F = F;
    type I = I;
    type B = [u8; 64];
    const FLIP: u8 = 0;
    const REGISTERS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        unsafe { p.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        unsafe { p.cast::<F>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn from_f16(p: *const u16) -> F {
        unsafe { p.cast::<[u16; 16]>().read_unaligned().map(|h| f16::from_bits(h).to_f32()) }
    }
    #[inline(always)]
    unsafe fn from_bf16(p: *const u16) -> F {
        unsafe { p.cast::<[u16; 16]>().read_unaligned().map(|h| bf16::from_bits(h).to_f32()) }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn if_less(a: F, b: F, x: F, y: F) -> F {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn exp2i(n: F) -> F {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        tree(a, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn max_lane(a: F) -> f32 {
        tree(a, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> I {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn iload(p: *const i32) -> I {
        unsafe { p.cast::<I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn istore(p: *mut i32, x: I) {
        unsafe { p.cast::<I>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn iadd(a: I, b: I) -> I {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn imul(a: I, b: I) -> I {
        zip(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn isum(a: I) -> i32 {
        tree(a, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        a.map(|a| a as f32)
    }
    #[inline(always)]
    unsafe fn to_int(a: F) -> I {
        a.map(|a| a.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut i8, x: I) {
        unsafe { p.cast::<[i8; 16]>().write_unaligned(x.map(|x| x as i8)) }
    }
    #[inline(always)]
    unsafe fn blend_words(low: I, high: I) -> I {
        zip(low, high, |low, high| low & 0xffff | high & !0xffff)
    }
    #[inline(always)]
    unsafe fn dot_words(acc: I, a: I, b: I) -> I {
        let word = |x: i32, high: bool| if high { x >> 16 } else { i32::from(x as i16) };
        std::array::from_fn(|i| {
            let low = word(a[i], false) * word(b[i], false);
            acc[i].wrapping_add(low).wrapping_add(word(a[i], true) * word(b[i], true))
        })
    }
    #[inline(always)]
    unsafe fn bload(p: *const u8) -> [u8; 64] {
        unsafe { p.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn bsplat(p: *const i32) -> [u8; 64] {
        let word = unsafe { p.cast::<[u8; 4]>().read_unaligned() };
        std::array::from_fn(|i| word[i % 4])
    }
    #[inline(always)]
    unsafe fn dot_bytes(acc: I, weights: [u8; 64], activations: [u8; 64]) -> I {
        std::array::from_fn(|i| {
            let mut sum = acc[i];
            for k in 4 * i..4 * i + 4 {
                sum += i32::from(weights[k] as i8) * i32::from(activations[k] as i8);
            }
            sum
        })
    }
    #[inline(always)]
    unsafe fn transpose(rows: [*const u8; 16], out: *mut [u8; 64]) {
        for word in 0..16 {
            // SAFETY: `out` has 16 blocks of 64 bytes and every row 64 bytes, by the caller's promise.
            let block = unsafe { &mut *out.add(word) };
            for (row, p) in rows.iter().enumerate() {
                let bytes = unsafe { p.add(4 * word).cast::<[u8; 4]>().read_unaligned() };
                block[4 * row..4 * row + 4].copy_from_slice(&bytes);
            }
        }
    }
}
