//! Matrix times a few tokens: each row is expanded once, where it lies, and multiplied with up to seven tokens.
#[cfg(not(target_arch = "x86_64"))]
use crate::kernels::generic::panel::TILE;
use crate::{
    kernels::{formats::*, simd::Simd},
    quant::{Act32x8, Act256},
};

/// `out[t * stride + r]` = row `r` of `rows` rows (each `row_bytes` long, from `weights`) times token `t`.
#[cfg(not(target_arch = "x86_64"))] // which has kernels of its own
#[inline(always)]
pub unsafe fn rows_256<S: Simd, W: Format256>(
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act256],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        for (batch, tokens) in tokens.chunks(TILE).enumerate() {
            let out = out.add(batch * TILE * stride);
            for r in 0..rows {
                let row = weights.add(r * row_bytes);
                with_count!([1 2 3 4 5 6 7] tokens.len(), T => {
                    let tokens = *tokens.as_ptr().cast::<[*const Act256; T]>();
                    let y = row_256::<S, W, T>(row, row_bytes / W::BYTES, tokens);
                    for t in 0..T {
                        *out.add(t * stride + r) = y[t];
                    }
                });
            }
        }
    }
}

/// As [`rows_256`] for the few rows that a kernel for more at a time leaves over.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn rest_256<S: Simd, W: Format256>(
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act256],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        for r in 0..rows {
            for (t, &token) in tokens.iter().enumerate() {
                let row = weights.add(r * row_bytes);
                [*out.add(t * stride + r)] = row_256::<S, W, 1>(row, row_bytes / W::BYTES, [token]);
            }
        }
    }
}

#[inline(always)]
unsafe fn row_256<S: Simd, W: Format256, const T: usize>(
    row: *const u8,
    blocks: usize,
    tokens: [*const Act256; T],
) -> [f32; T] {
    unsafe {
        let mut y = [0.0f32; T];
        for b in 0..blocks {
            let mut e = W::expand(row.add(b * W::BYTES));
            if W::SIGNED && S::FLIP != 0 {
                e.codes = e.codes.map(|c| c ^ S::FLIP as i8);
            }
            // Each lane sums four columns, so a scale stands for four lanes.
            let scales: [[i32; 16]; 4] =
                std::array::from_fn(|z| std::array::from_fn(|lane| i32::from(e.scales[4 * z + lane / 4])));
            for t in 0..T {
                let a = &*tokens[t].add(b);
                let mut sum = S::isplat(0);
                for z in 0..4 {
                    let steps: [i32; 16] = std::array::from_fn(|lane| i32::from(a.steps[2 * z + lane / 8]));
                    let scale = S::imul(S::iload(scales[z].as_ptr()), S::iload(steps.as_ptr()));
                    let w = S::bload(e.codes.as_ptr().add(64 * z).cast());
                    let dot = S::dot_bytes(S::isplat(0), w, S::bload(a.q.as_ptr().add(64 * z).cast()));
                    sum = S::iadd(sum, S::imul(dot, scale));
                }
                let words = if W::SIGNED { &e.scales } else { &e.mins };
                let mut low = 0i32;
                if !W::SIGNED || S::FLIP != 0 {
                    low = words.iter().zip(&a.sums16).map(|(&w, &s)| i32::from(w) * i32::from(s)).sum();
                }
                let mut sum = S::isum(sum);
                if W::SIGNED {
                    sum -= i32::from(S::FLIP) * low;
                }
                let mut x = sum as f32 * e.d;
                if !W::SIGNED {
                    x = (-(low as f32)).mul_add(e.dmin, x);
                }
                y[t] = x.mul_add(a.d, y[t]);
            }
        }
        y
    }
}

/// As [`rows_256`] for blocks of 32.
#[cfg(not(target_arch = "x86_64"))] // which has kernels of its own
#[inline(always)]
pub unsafe fn rows_32<S: Simd, W: Format32>(
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act32x8],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        for (batch, tokens) in tokens.chunks(TILE).enumerate() {
            let out = out.add(batch * TILE * stride);
            for r in 0..rows {
                let row = weights.add(r * row_bytes);
                with_count!([1 2 3 4 5 6 7] tokens.len(), T => {
                    let tokens = *tokens.as_ptr().cast::<[*const Act32x8; T]>();
                    let y = row_32::<S, W, T>(row, row_bytes / W::BYTES, tokens);
                    for t in 0..T {
                        *out.add(t * stride + r) = y[t];
                    }
                });
            }
        }
    }
}

/// As [`rest_256`] for blocks of 32.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn rest_32<S: Simd, W: Format32>(
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act32x8],
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        for r in 0..rows {
            for (t, &token) in tokens.iter().enumerate() {
                let row = weights.add(r * row_bytes);
                [*out.add(t * stride + r)] = row_32::<S, W, 1>(row, row_bytes / W::BYTES, [token]);
            }
        }
    }
}

#[inline(always)]
unsafe fn row_32<S: Simd, W: Format32, const T: usize>(
    row: *const u8,
    blocks: usize,
    tokens: [*const Act32x8; T],
) -> [f32; T] {
    unsafe {
        let mut y = [0.0f32; T];
        // Two blocks fill a vector: the lower eight lanes are the first one's.
        for pair in 0..blocks.div_ceil(2) {
            let mut codes = [0i8; 64];
            let (mut d, mut m) = ([0.0f32; 2], [0.0f32; 2]);
            let n = (blocks - 2 * pair).min(2);
            for j in 0..n {
                let e = W::expand(row.add((2 * pair + j) * W::BYTES));
                codes[32 * j..32 * j + 32].copy_from_slice(&e.codes);
                d[j] = e.d;
                m[j] = e.m;
            }
            let w = S::bload(codes.map(|c| c ^ S::FLIP as i8).as_ptr().cast());
            for t in 0..T {
                let a = &*tokens[t].add(pair / 4);
                let at = 2 * (pair % 4);
                let mut lanes = [0i32; 16];
                let q = S::bload(a.q.as_ptr().add(32 * at).cast());
                S::istore(lanes.as_mut_ptr(), S::dot_bytes(S::isplat(0), w, q));
                for j in 0..n {
                    let sum = lanes[8 * j..8 * j + 8].iter().sum::<i32>() - i32::from(S::FLIP) * a.sums[at + j];
                    y[t] = (sum as f32 * d[j]).mul_add(a.d[at + j], y[t]);
                    if W::HAS_MIN {
                        y[t] = m[j].mul_add(a.sums[at + j] as f32 * a.d[at + j], y[t]);
                    }
                }
            }
        }
        y
    }
}
