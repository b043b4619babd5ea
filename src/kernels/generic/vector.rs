//! One row of numbers at a time: norms, activations, quantisation. Each equals its twin in `scalar.rs` or `quant/`.
use crate::{
    kernels::{
        scalar::{self, EXP_MAX, EXP_MIN, EXP_POLYNOMIAL, LN_2_HIGH, LN_2_LOW},
        simd::Simd,
    },
    quant::{Act32x8, Act256, SMALLEST_AMAX},
};

/// See [`scalar::exp`].
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let c = S::splat;
        let clamped = S::min(c(EXP_MAX), x);
        let n = S::round(S::mul(clamped, c(std::f32::consts::LOG2_E)));
        let minus_n = S::sub(c(-0.0), n);
        let r = S::fma(minus_n, c(LN_2_HIGH), clamped);
        let r = S::fma(minus_n, c(LN_2_LOW), r);
        let mut p = c(EXP_POLYNOMIAL[0]);
        for &coefficient in &EXP_POLYNOMIAL[1..] {
            p = S::fma(p, r, c(coefficient));
        }
        let e_to_r = S::fma(p, S::mul(r, r), S::add(r, c(1.0)));
        S::if_less(x, c(EXP_MIN), c(0.0), S::mul(e_to_r, S::exp2i(n)))
    }
}

/// `out = silu(gate) * up` over slices of one length.
#[inline(always)]
pub unsafe fn swiglu<S: Simd>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    unsafe {
        let n = out.len() / 16 * 16;
        for i in (0..n).step_by(16) {
            let x = S::load(gate.as_ptr().add(i));
            let sigmoid = S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(-0.0), x)));
            let y = S::mul(S::div(x, sigmoid), S::load(up.as_ptr().add(i)));
            S::store(out.as_mut_ptr().add(i), y);
        }
        scalar::swiglu(&gate[n..], &up[n..], &mut out[n..]);
    }
}

/// RMSNorm of one row.
#[inline(always)]
pub unsafe fn rms_norm<S: Simd>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    unsafe {
        let n = x.len() / 16 * 16;
        let mut squares = S::splat(0.0);
        for i in (0..n).step_by(16) {
            let v = S::load(x.as_ptr().add(i));
            squares = S::fma(v, v, squares);
        }
        let mut lanes = [0.0f32; 16];
        S::store(lanes.as_mut_ptr(), squares);
        for i in n..x.len() {
            lanes[i - n] = x[i].mul_add(x[i], lanes[i - n]);
        }
        let scale = 1.0 / (S::sum(S::load(lanes.as_ptr())) / x.len() as f32 + eps).sqrt();
        for i in (0..n).step_by(16) {
            let y = S::mul(S::mul(S::load(x.as_ptr().add(i)), S::splat(scale)), S::load(weight.as_ptr().add(i)));
            S::store(out.as_mut_ptr().add(i), y);
        }
        for i in n..x.len() {
            out[i] = (x[i] * scale) * weight[i];
        }
    }
}

/// Codes and scale of `n` (a multiple of 16) numbers; see `quant::activation`.
#[inline(always)]
unsafe fn quantize_block<S: Simd>(x: *const f32, n: usize, q: *mut i8) -> f32 {
    unsafe {
        let (mut amax, mut check) = (S::splat(0.0), S::splat(0.0));
        for i in (0..n).step_by(16) {
            let v = S::load(x.add(i));
            amax = S::max(S::abs(v), amax);
            // 0 * x is NaN for NaN and infinity and zero otherwise.
            check = S::fma(v, S::splat(0.0), check);
        }
        let (amax, finite) = (S::max_lane(amax), S::sum(check) == 0.0);
        if !finite || amax < SMALLEST_AMAX {
            std::ptr::write_bytes(q, 0, n);
            return if finite { 0.0 } else { f32::NAN };
        }
        let inverse = S::splat(127.0 / amax);
        for i in (0..n).step_by(16) {
            let scaled = S::round(S::mul(S::load(x.add(i)), inverse));
            let clamped = S::max(S::min(scaled, S::splat(127.0)), S::splat(-127.0));
            S::store_bytes(q.add(i), S::to_int(clamped));
        }
        amax / 127.0
    }
}

#[inline(always)]
pub unsafe fn quantize_256<S: Simd>(row: &[f32], out: &mut [Act256]) {
    unsafe {
        for (x, out) in row.as_chunks::<256>().0.iter().zip(out) {
            out.d = quantize_block::<S>(x.as_ptr(), 256, out.q.as_mut_ptr());
            let q = out.q.as_chunks::<16>().0;
            out.sums16 = std::array::from_fn(|s| q[s].iter().map(|&q| i16::from(q)).sum());
            out.sums32 = std::array::from_fn(|s| out.sums16[2 * s] + out.sums16[2 * s + 1]);
        }
    }
}

#[inline(always)]
pub unsafe fn quantize_32<S: Simd>(row: &[f32], out: &mut [Act32x8]) {
    unsafe {
        for (x, out) in row.chunks(256).zip(out) {
            *out = Act32x8::ZERO;
            for b in 0..x.len() / 32 {
                out.d[b] = quantize_block::<S>(x.as_ptr().add(32 * b), 32, out.q.as_mut_ptr().add(32 * b));
                out.sums[b] = out.q[32 * b..32 * b + 32].iter().map(|&q| i32::from(q)).sum();
            }
        }
    }
}

/// `out += x`.
#[inline(always)]
pub unsafe fn add<S: Simd>(x: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += x;
    }
}
