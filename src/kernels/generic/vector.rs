//! One row of numbers at a time: norms, activations, quantisation. Each equals its twin in `scalar.rs` or `quant/`.
use crate::{
    kernels::{
        scalar::{
            self, DeltaToken, EXP_MAX, EXP_MIN, EXP_POLYNOMIAL, GELU, Glu, LN_2_HIGH, LN_2_LOW, OAI_LIMIT, OAI_SLOPE,
            TANH_POLYNOMIAL, TANH_SMALL,
        },
        simd::Simd,
    },
    quant::{Act32x8, Act256, SMALLEST_AMAX, STEPS, TOPS, quantize_block},
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

/// See [`scalar::silu`] and [`scalar::gelu`]: `x / (1 + exp(z))`.
#[inline(always)]
unsafe fn gated<S: Simd>(x: S::F, z: S::F) -> S::F {
    unsafe { S::div(x, S::add(S::splat(1.0), exp::<S>(z))) }
}

/// See [`scalar::gelu`].
#[inline(always)]
unsafe fn gelu_of<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let slope = S::fma(S::mul(x, x), S::splat(GELU[1]), S::splat(GELU[0]));
        gated::<S>(x, S::mul(x, slope))
    }
}

#[inline(always)]
pub unsafe fn glu<S: Simd>(kind: Glu, gate: &[f32], up: &[f32], out: &mut [f32]) {
    unsafe {
        let n = out.len() / 16 * 16;
        for i in (0..n).step_by(16) {
            let (x, up) = (S::load(gate.as_ptr().add(i)), S::load(up.as_ptr().add(i)));
            let y = match kind {
                Glu::Silu => S::mul(gated::<S>(x, S::sub(S::splat(-0.0), x)), up),
                Glu::Gelu => S::mul(gelu_of::<S>(x), up),
                Glu::Sigmoid => gated::<S>(up, S::sub(S::splat(-0.0), x)),
                Glu::Oai => {
                    let x = S::min(S::splat(OAI_LIMIT), x);
                    let up = S::max(S::splat(-OAI_LIMIT), S::min(S::splat(OAI_LIMIT), up));
                    S::mul(gated::<S>(x, S::mul(S::splat(OAI_SLOPE), x)), S::add(up, S::splat(1.0)))
                }
            };
            S::store(out.as_mut_ptr().add(i), y);
        }
        if n < out.len() {
            scalar::glu(kind, &gate[n..], &up[n..], &mut out[n..]);
        }
    }
}

/// GELU of every element.
#[inline(always)]
pub unsafe fn gelu<S: Simd>(x: &mut [f32]) {
    unsafe {
        let n = x.len() / 16 * 16;
        for i in (0..n).step_by(16) {
            let p = x.as_mut_ptr().add(i);
            S::store(p, gelu_of::<S>(S::load(p)));
        }
        x[n..].iter_mut().for_each(|x| *x = scalar::gelu(*x));
    }
}

/// See [`scalar::tanh`].
#[inline(always)]
unsafe fn tanh<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let z = S::mul(x, x);
        let mut p = S::splat(TANH_POLYNOMIAL[0]);
        for &coefficient in &TANH_POLYNOMIAL[1..] {
            p = S::fma(p, z, S::splat(coefficient));
        }
        let small = S::fma(S::mul(p, z), x, x);
        let size = S::abs(x);
        let e = S::add(exp::<S>(S::mul(S::splat(2.0), size)), S::splat(1.0));
        let t = S::sub(S::splat(1.0), S::div(S::splat(2.0), e));
        let large = S::if_less(x, S::splat(0.0), S::sub(S::splat(-0.0), t), t);
        S::if_less(size, S::splat(TANH_SMALL), small, large)
    }
}

/// See [`scalar::soft_cap`].
#[inline(always)]
pub unsafe fn soft_cap<S: Simd>(cap: f32, x: &mut [f32]) {
    unsafe {
        let n = x.len() / 16 * 16;
        for i in (0..n).step_by(16) {
            let p = x.as_mut_ptr().add(i);
            S::store(p, S::mul(S::splat(cap), tanh::<S>(S::div(S::load(p), S::splat(cap)))));
        }
        scalar::soft_cap(cap, &mut x[n..]);
    }
}

/// See [`scalar::delta_rule`].
#[inline(always)]
pub unsafe fn delta_rule<S: Simd>(state: &mut [f32], token: &DeltaToken, out: &mut [f32]) {
    unsafe {
        let DeltaToken { query, key, value, decay, beta } = *token;
        let (n, len) = (key.len() / 16 * 16, key.len());
        let mut lanes = [0.0f32; 16];
        for ((row, value), out) in state.chunks_exact_mut(len).zip(value).zip(out) {
            let mut known = S::splat(0.0);
            for i in (0..n).step_by(16) {
                let p = row.as_mut_ptr().add(i);
                let x = S::mul(S::load(p), S::splat(decay));
                S::store(p, x);
                known = S::fma(x, S::load(key.as_ptr().add(i)), known);
            }
            S::store(lanes.as_mut_ptr(), known);
            for i in n..len {
                row[i] *= decay;
                lanes[i - n] = row[i].mul_add(key[i], lanes[i - n]);
            }
            let change = (value - S::sum(S::load(lanes.as_ptr()))) * beta;
            let mut found = S::splat(0.0);
            for i in (0..n).step_by(16) {
                let p = row.as_mut_ptr().add(i);
                let x = S::fma(S::splat(change), S::load(key.as_ptr().add(i)), S::load(p));
                S::store(p, x);
                found = S::fma(x, S::load(query.as_ptr().add(i)), found);
            }
            S::store(lanes.as_mut_ptr(), found);
            for i in n..len {
                row[i] = change.mul_add(key[i], row[i]);
                lanes[i - n] = row[i].mul_add(query[i], lanes[i - n]);
            }
            *out = S::sum(S::load(lanes.as_ptr()));
        }
    }
}

/// LayerNorm of one row.
#[inline(always)]
pub unsafe fn layer_norm<S: Simd>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    unsafe {
        let (n, len) = (x.len() / 16 * 16, x.len());
        let mut lanes = [0.0f32; 16];
        let mut sum = S::splat(0.0);
        for i in (0..n).step_by(16) {
            sum = S::add(S::load(x.as_ptr().add(i)), sum);
        }
        S::store(lanes.as_mut_ptr(), sum);
        x[n..].iter().zip(&mut lanes).for_each(|(x, lane)| *lane += x);
        let mean = S::sum(S::load(lanes.as_ptr())) / len as f32;

        let mut squares = S::splat(0.0);
        for i in (0..n).step_by(16) {
            let v = S::sub(S::load(x.as_ptr().add(i)), S::splat(mean));
            squares = S::fma(v, v, squares);
        }
        S::store(lanes.as_mut_ptr(), squares);
        x[n..].iter().zip(&mut lanes).for_each(|(x, lane)| *lane = (x - mean).mul_add(x - mean, *lane));
        let scale = 1.0 / (S::sum(S::load(lanes.as_ptr())) / len as f32 + eps).sqrt();

        for i in (0..n).step_by(16) {
            let v = S::sub(S::load(x.as_ptr().add(i)), S::splat(mean));
            let y = S::mul(S::mul(v, S::splat(scale)), S::load(weight.as_ptr().add(i)));
            let y = if bias.is_empty() { y } else { S::add(y, S::load(bias.as_ptr().add(i))) };
            S::store(out.as_mut_ptr().add(i), y);
        }
        for i in n..len {
            out[i] = ((x[i] - mean) * scale) * weight[i];
            if !bias.is_empty() {
                out[i] += bias[i];
            }
        }
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

/// Largest magnitude of `n` (a multiple of 16) numbers and whether all are finite.
#[inline(always)]
unsafe fn magnitude<S: Simd>(x: *const f32, n: usize) -> (f32, bool) {
    unsafe {
        let (mut amax, mut check) = (S::splat(0.0), S::splat(0.0));
        for i in (0..n).step_by(16) {
            let v = S::load(x.add(i));
            amax = S::max(S::abs(v), amax);
            // 0 * x is NaN for NaN and infinity and zero otherwise.
            check = S::fma(v, S::splat(0.0), check);
        }
        (S::max_lane(amax), S::sum(check) == 0.0)
    }
}

/// Codes of 16 numbers, as numbers.
#[inline(always)]
unsafe fn codes<S: Simd>(scaled: S::F) -> S::F {
    unsafe { S::max(S::min(S::round(scaled), S::splat(127.0)), S::splat(-127.0)) }
}

#[inline(always)]
pub unsafe fn quantize_256<S: Simd>(row: &[f32], out: &mut [Act256]) {
    unsafe {
        for (x, out) in row.as_chunks::<256>().0.iter().zip(out) {
            let (amax, finite) = magnitude::<S>(x.as_ptr(), 256);
            if !finite || amax < SMALLEST_AMAX {
                *out = Act256 { d: if finite { 0.0 } else { f32::NAN }, ..Act256::ZERO };
                continue;
            }
            out.d = amax / (STEPS * 127.0);
            let (to_steps, to_codes) = (STEPS / amax, STEPS * 127.0 / amax);
            let mut all = [S::splat(0.0); 16];
            for b in 0..8 {
                let block = x.as_ptr().add(32 * b);
                let step = (magnitude::<S>(block, 32).0 * to_steps).ceil().clamp(1.0, STEPS);
                let inverse = S::splat(to_codes / step);
                out.steps[b] = step as i16;
                for half in 0..2 {
                    let q = codes::<S>(S::mul(S::load(block.add(16 * half)), inverse));
                    S::store_bytes(out.q.as_mut_ptr().add(32 * b + 16 * half), S::to_int(q));
                    all[2 * b + half] = q;
                }
            }
            // Of whole numbers: exact.
            let mut sums = [0; 16];
            S::istore(sums.as_mut_ptr(), S::to_int(S::sum_each(&all)));
            for (i, sum) in sums.into_iter().enumerate() {
                out.sums16[i] = sum as i16 * out.steps[i / 2];
            }
        }
    }
}

/// Blocks of 32 that are quantised together.
const BLOCKS: usize = 4;

#[inline(always)]
pub unsafe fn quantize_32<S: Simd>(row: &[f32], out: &mut [Act32x8]) {
    unsafe {
        for (x, out) in row.chunks(256).zip(out) {
            *out = Act32x8::ZERO;
            for (i, x) in x.chunks(32 * BLOCKS).enumerate() {
                let first = BLOCKS * i;
                if x.len() < 32 * BLOCKS || !quantize_ordinary::<S>(x.as_ptr(), out, first) {
                    for (b, x) in x.as_chunks::<32>().0.iter().enumerate() {
                        let q = &mut out.q.as_chunks_mut::<32>().0[first + b];
                        out.d[first + b] = quantize_block(x, q);
                        out.sums[first + b] = q.iter().map(|&q| i32::from(q)).sum();
                    }
                }
            }
        }
    }
}

/// Blocks from `first` on; `false`, and nothing is written, if one of them is special.
#[inline(always)]
unsafe fn quantize_ordinary<S: Simd>(x: *const f32, out: &mut Act32x8, first: usize) -> bool {
    unsafe {
        // What belongs to block `b` and the scale `TOPS[i]` is in lane 4 b + i.
        const { assert!(TOPS.len() * BLOCKS == 16) };
        let mut amax = [0.0; 16];
        for b in 0..BLOCKS {
            let (largest, finite) = magnitude::<S>(x.add(32 * b), 32);
            if !finite || largest < SMALLEST_AMAX {
                return false;
            }
            amax[4 * b..4 * b + 4].fill(largest);
        }
        let (amax, top) = (S::load(amax.as_ptr()), S::load([TOPS; BLOCKS].as_flattened().as_ptr()));
        let mut inverse = [0.0; 16];
        S::store(inverse.as_mut_ptr(), S::div(top, amax));
        let (mut fits, mut squares) = ([S::splat(0.0); 16], [S::splat(0.0); 16]);
        for b in 0..BLOCKS {
            let x = [S::load(x.add(32 * b)), S::load(x.add(32 * b + 16))];
            for lane in 4 * b..4 * b + 4 {
                let inverse = S::splat(inverse[lane]);
                let scaled = [S::mul(x[0], inverse), S::mul(x[1], inverse)];
                // No element is larger than the largest, so none has to be clamped.
                let codes = [S::round(scaled[0]), S::round(scaled[1])];
                fits[lane] = S::fma(scaled[1], codes[1], S::mul(scaled[0], codes[0]));
                // Whole numbers below 2^24: exact in any order.
                squares[lane] = S::fma(codes[1], codes[1], S::mul(codes[0], codes[0]));
            }
        }
        let (fit, squares) = (S::sum_each(&fits), S::sum_each(&squares));
        let part = S::div(fit, top);
        let (mut explained, mut d) = ([0.0; 16], [0.0; 16]);
        S::store(explained.as_mut_ptr(), S::div(S::mul(part, part), squares));
        S::store(d.as_mut_ptr(), S::mul(S::div(amax, top), S::div(fit, squares)));
        for b in 0..BLOCKS {
            let (mut best, mut chosen) = (0.0, 4 * b);
            for lane in 4 * b..4 * b + 4 {
                if explained[lane] > best {
                    (best, chosen) = (explained[lane], lane);
                }
            }
            out.d[first + b] = d[chosen];
            let inverse = S::splat(inverse[chosen]);
            let (low, high) = (S::load(x.add(32 * b)), S::load(x.add(32 * b + 16)));
            let q = [S::to_int(S::mul(low, inverse)), S::to_int(S::mul(high, inverse))];
            let at = out.q.as_mut_ptr().add(32 * (first + b));
            S::store_bytes(at, q[0]);
            S::store_bytes(at.add(16), q[1]);
            out.sums[first + b] = S::isum(S::iadd(q[0], q[1]));
        }
        true
    }
}
