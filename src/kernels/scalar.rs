//! The scalar tier: the definition that every other tier equals, bit for bit.
//!
//! What makes results independent of batch, threads and instruction set is one fixed order of operations per output:
//!
//! - Weights in blocks: everything inside a block is integer arithmetic, exact in any order (`i32` never overflows: the
//!   largest sum, of Q6_K, is 16 * 256 * 128 * 32 * 127 = 2.13e9). Float arithmetic happens once per block, blocks ascending.
//! - Plain numbers: sixteen lanes, see [`Lanes`].
//! - `mul_add` is one rounding (IEEE 754 `fusedMultiplyAdd`); every other operation rounds by itself.
//! - A result that is NaN is NaN on every tier; its sign and payload are unspecified.
//!
//! Functions here panic when lengths do not fit together or a type is of another class; shapes are checked when a model
//! is loaded.
use crate::gguf::TensorType;
use crate::quant::{Act32x8, Act256, for_each_32, for_each_256, for_each_weight, has_min_32};

/// Dot product of a row of super-blocks of 256 with activations.
///
/// Per block `I = sum(scale * step * code * q)` and `M = sum(min * sums16)` in integers, then in floats `t = f32(I) * d`,
/// `t = fma(-f32(M), dmin, t)`, `y = fma(t, d of the activations, y)`. In formats without minima the second step leaves
/// `t` as it is (`t + -0 * 0`), so tiers skip it there.
pub fn dot_256(ty: TensorType, row: &[u8], activations: &[Act256]) -> f32 {
    let mut y = 0.0f32;
    let mut activations = activations.iter();
    for_each_256(ty, row, |block| {
        let a = activations.next().expect("a group of activations for every block of weights");
        let (codes, q) = (block.codes.as_chunks::<16>().0, a.q.as_chunks::<16>().0);
        let (mut sum, mut min_sum) = (0i32, 0i32);
        for s in 0..16 {
            sum += i32::from(block.scales[s]) * i32::from(a.steps[s / 2]) * dot_i8(&codes[s], &q[s]);
            min_sum += i32::from(block.mins[s]) * i32::from(a.sums16[s]);
        }
        let t = sum as f32 * block.d;
        let t = (-(min_sum as f32)).mul_add(block.dmin, t);
        y = t.mul_add(a.d, y);
    });
    assert!(activations.next().is_none(), "more activations than weights");
    y
}

/// Dot product of a row of `n_blocks` blocks of 32 with activations (eight blocks to a group).
///
/// Per block `I = sum(code * q)` in integers, then in floats `t = f32(I) * d`, `y = fma(t, d of the activations, y)`,
/// and for Q4_1 and Q5_1 `y = fma(m, f32(sum of q) * d of the activations, y)`.
pub fn dot_32(ty: TensorType, row: &[u8], activations: &[Act32x8], n_blocks: usize) -> f32 {
    let has_min = has_min_32(ty);
    let mut y = 0.0f32;
    let mut seen = 0;
    for_each_32(ty, row, |block| {
        let (a, b) = (&activations[seen / 8], seen % 8);
        let sum = dot_i8(&block.codes, &a.q.as_chunks::<32>().0[b]);
        y = (sum as f32 * block.d).mul_add(a.d[b], y);
        if has_min {
            y = block.m.mul_add(a.sums[b] as f32 * a.d[b], y);
        }
        seen += 1;
    });
    assert_eq!(seen, n_blocks, "blocks in the row of weights");
    y
}

#[inline]
fn dot_i8<const N: usize>(a: &[i8; N], b: &[i8; N]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// Dot product of a row of plain numbers, or of blocks that become such, with numbers; summed in [`Lanes`].
pub fn dot_f32(ty: TensorType, row: &[u8], x: &[f32]) -> f32 {
    let mut lanes = Lanes::ZERO;
    let mut seen = 0;
    for_each_weight(ty, row, |k, weight| {
        lanes.add_product(k, weight, x[k]);
        seen += 1;
    });
    assert_eq!(seen, x.len(), "weights in the row");
    lanes.sum()
}

/// A sum of products in sixteen lanes: product `k` goes to lane `k mod 16` by fused multiply-add, `k` ascending. In a
/// last step of fewer than sixteen products the other lanes stay as they are. Then a fixed tree: lane `i` plus lane
/// `i + 8`, of those eight `i` plus `i + 4`, then `i + 2`, then `i + 1`.
struct Lanes([f32; 16]);

impl Lanes {
    const ZERO: Self = Self([0.0; 16]);

    #[inline]
    fn add_product(&mut self, k: usize, a: f32, b: f32) {
        let lane = &mut self.0[k % 16];
        *lane = a.mul_add(b, *lane);
    }

    fn sum(mut self) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                self.0[i] += self.0[i + half];
            }
        }
        self.0[0]
    }
}

/// RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467): `out = x / sqrt(mean(x²) + eps) * weight`.
///
/// The squares are summed in [`Lanes`]; then `scale = 1 / sqrt(sum / n + eps)` and `out = (x * scale) * weight`, every
/// operation as written.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "x, weight and out of one length");
    let mut lanes = Lanes::ZERO;
    for (k, &x) in x.iter().enumerate() {
        lanes.add_product(k, x, x);
    }
    let scale = 1.0 / (lanes.sum() / x.len() as f32 + eps).sqrt();
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (x * scale) * weight;
    }
}

/// LayerNorm (Ba, Kiros and Hinton 2016, arXiv 1607.06450): `out = (x - mean) / sqrt(variance + eps) * weight + bias`.
///
/// Both sums in [`Lanes`], the second over squares of `x - mean`; then `scale = 1 / sqrt(sum / n + eps)` and
/// `out = ((x - mean) * scale) * weight`, and `+ bias` unless `bias` is empty, every operation as written.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "x, weight and out of one length");
    assert!(bias.is_empty() || bias.len() == x.len(), "a bias for every element");
    let (mut sum, mut squares) = (Lanes::ZERO, Lanes::ZERO);
    for (k, &x) in x.iter().enumerate() {
        sum.add_product(k, x, 1.0);
    }
    let mean = sum.sum() / x.len() as f32;
    for (k, &x) in x.iter().enumerate() {
        squares.add_product(k, x - mean, x - mean);
    }
    let scale = 1.0 / (squares.sum() / x.len() as f32 + eps).sqrt();
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = ((x - mean) * scale) * weight;
    }
    for (out, &bias) in out.iter_mut().zip(bias) {
        *out += bias;
    }
}

/// Below this `exp` is exactly 0; from here on it is a normal number (e^-87 = 1.6e-38).
pub const EXP_MIN: f32 = -87.0;
/// `exp` of anything larger is that of this (e^88 = 1.7e38): finite, and 2^127 is the largest power of two needed.
pub const EXP_MAX: f32 = 88.0;
/// ln 2 in two parts; the first has few bits, so that its product with an integer up to 127 is exact.
pub const LN_2_HIGH: f32 = 355.0 / 512.0;
pub const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `e^r - 1 - r` over `r²` for |r| <= ln(2) / 2, highest power first.
pub const EXP_POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// e^x to within 2 units in the last place; 0 below [`EXP_MIN`], constant above [`EXP_MAX`], NaN of NaN.
///
/// Range reduction and polynomial are those of Cephes (Moshier, `expf`): `x = n ln 2 + r`, `e^x = 2^n e^r`. The order of
/// operations is part of the definition; the product with 2^n is exact, because its result is a normal number.
#[inline]
pub fn exp(x: f32) -> f32 {
    if x < EXP_MIN {
        return 0.0;
    }
    // Not `min`, which would turn NaN into a number.
    let x = if x > EXP_MAX { EXP_MAX } else { x };
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = (-n).mul_add(LN_2_HIGH, x);
    let r = (-n).mul_add(LN_2_LOW, r);
    let [first, rest @ ..] = EXP_POLYNOMIAL;
    let p = rest.into_iter().fold(first, |p, coefficient| p.mul_add(r, coefficient));
    let e_to_r = p.mul_add(r * r, r + 1.0);
    let two_to_n = f32::from_bits(((n as i32 + 127) as u32) << 23);
    e_to_r * two_to_n
}

/// The logistic function, as `1 / (1 + exp(-x))`.
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// SiLU, `x * sigmoid(x)`, as `x / (1 + exp(-x))`. Since [`exp`] is finite, -infinity stays -infinity.
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `-2 sqrt(2 / pi)`, and the same times 0.044715: see [`gelu`].
pub const GELU: [f32; 2] = [-1.595_769_2, -7.135_481_4e-2];

/// GELU by its tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415), `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³)))`.
///
/// Since `(1 + tanh(u)) / 2 = 1 / (1 + e^-2u)`, as `x / (1 + exp(x * (GELU[1] x² + GELU[0])))`. -infinity stays -infinity.
#[inline]
pub fn gelu(x: f32) -> f32 {
    let slope = (x * x).mul_add(GELU[1], GELU[0]);
    x / (1.0 + exp(x * slope))
}

/// Of gpt-oss: the largest gate and the largest magnitude of up, and the slope of the sigmoid.
pub const OAI_LIMIT: f32 = 7.0;
pub const OAI_SLOPE: f32 = -1.702;

/// How a feed-forward network combines its two inner products: `out = f(gate) * up` (Shazeer 2020, arXiv 2002.05202).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glu {
    /// f = [`silu`].
    Silu,
    /// f = [`gelu`].
    Gelu,
    /// f = the logistic function (Dauphin et al. 2017, arXiv 1612.08083), as `up / (1 + exp(-gate))`.
    Sigmoid,
    /// That of gpt-oss (reference implementation, `swiglu`): `gate / (1 + exp(-1.702 gate)) * (up + 1)`, the gate at
    /// most 7, up within ±7.
    Oai,
}

pub fn glu(kind: Glu, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out of one length");
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = match kind {
            Glu::Silu => silu(gate) * up,
            Glu::Gelu => gelu(gate) * up,
            Glu::Sigmoid => up / (1.0 + exp(-gate)),
            Glu::Oai => {
                // Not `min` and `max`, which would turn NaN into a number.
                let gate = if OAI_LIMIT < gate { OAI_LIMIT } else { gate };
                let up = if OAI_LIMIT < up { OAI_LIMIT } else { up };
                let up = if -OAI_LIMIT > up { -OAI_LIMIT } else { up };
                (gate / (1.0 + exp(OAI_SLOPE * gate))) * (up + 1.0)
            }
        };
    }
}

/// One token of a head, for [`delta_rule`]: query and key as long as a row of the state, a value for each row.
#[derive(Debug, Clone, Copy)]
pub struct DeltaToken<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
    /// What stays of the state.
    pub decay: f32,
    /// How much of the key's old value gives way to the new one.
    pub beta: f32,
}

/// The gated delta rule (Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464): the state S maps keys to values,
/// `S = decay S + beta (value - decay S key) keyᵀ`, then `out = S query`.
///
/// Row by row: `row *= decay`; `change = (value - row · key) * beta`; `row = fma(change, key, row)`; `out = row · query`; the
/// products are summed in [`Lanes`].
pub fn delta_rule(state: &mut [f32], token: &DeltaToken, out: &mut [f32]) {
    let DeltaToken { query, key, value, decay, beta } = *token;
    assert!(state.len() == key.len() * value.len(), "a row of the state for every value");
    assert!(query.len() == key.len() && out.len() == value.len(), "query and key, value and out of one length");
    for ((row, value), out) in state.chunks_exact_mut(key.len()).zip(value).zip(out) {
        let (mut known, mut found) = (Lanes::ZERO, Lanes::ZERO);
        for (k, row) in row.iter_mut().enumerate() {
            *row *= decay;
            known.add_product(k, *row, key[k]);
        }
        let change = (value - known.sum()) * beta;
        for (k, row) in row.iter_mut().enumerate() {
            *row = change.mul_add(key[k], *row);
            found.add_product(k, *row, query[k]);
        }
        *out = found.sum();
    }
}

/// Below this magnitude `tanh` is a polynomial, above it comes from [`exp`].
pub const TANH_SMALL: f32 = 0.625;
/// `tanh(x) / x - 1` over `x²`, highest power of `x²` first.
pub const TANH_POLYNOMIAL: [f32; 5] = [-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];

/// The hyperbolic tangent to within 4 units in the last place; method and polynomial are those of Cephes (Moshier, `tanhf`).
#[inline]
pub fn tanh(x: f32) -> f32 {
    if x.abs() < TANH_SMALL {
        let z = x * x;
        let [first, rest @ ..] = TANH_POLYNOMIAL;
        let p = rest.into_iter().fold(first, |p, coefficient| p.mul_add(z, coefficient));
        return (p * z).mul_add(x, x);
    }
    let t = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x < 0.0 { -t } else { t }
}

/// Keeps numbers within ±`cap` smoothly (Gemma Team 2024, arXiv 2408.00118): `x = cap * tanh(x / cap)`.
pub fn soft_cap(cap: f32, x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = cap * tanh(*x / cap));
}

/// `out += scale * x`, rounded once.
#[inline(always)] // into functions with the features of a tier
pub fn add_scaled(scale: f32, x: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = x.mul_add(scale, *out);
    }
}

/// How queries and keys are rotated (Su et al. 2021, arXiv 2104.09864).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    None,
    /// Elements 2 i and 2 i + 1 are a pair.
    Interleaved,
    /// Elements i and i + n / 2 are a pair.
    Halves,
}

/// Rotates the pairs of one head by angles whose cosines and sines are given; elements beyond them stay.
#[inline(always)] // into functions with the features of a tier
pub fn rotate(rotation: Rotation, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let turn = |a: f32, b: f32, i: usize| (a.mul_add(cos[i], -(b * sin[i])), a.mul_add(sin[i], b * cos[i]));
    match rotation {
        Rotation::None => {}
        Rotation::Interleaved => {
            for (i, pair) in head.as_chunks_mut::<2>().0.iter_mut().take(cos.len()).enumerate() {
                (pair[0], pair[1]) = turn(pair[0], pair[1], i);
            }
        }
        Rotation::Halves => {
            let (first, second) = head.split_at_mut(cos.len());
            for (i, (a, b)) in first.iter_mut().zip(second).enumerate() {
                (*a, *b) = turn(*a, *b, i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::testing::*;
    use crate::quant::{self, Activation, dequantize_row, quantize_32, quantize_256};
    use proptest::prelude::*;

    fn dequantized(ty: TensorType, row: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; row.len() / ty.block_bytes() * ty.block_len()];
        dequantize_row(ty, row, &mut out).unwrap();
        out
    }

    /// Fails unless `found` is the dot product of `w` and `x` to within 1e-5 of the sum of the products' magnitudes.
    fn check_dot(ty: TensorType, found: f32, w: &[f32], x: impl Iterator<Item = f64>) -> Result<(), TestCaseError> {
        let products: Vec<f64> = w.iter().zip(x).map(|(&w, x)| f64::from(w) * x).collect();
        let (expected, size) = (products.iter().sum::<f64>(), products.iter().map(|p| p.abs()).sum::<f64>());
        prop_assert!((f64::from(found) - expected).abs() <= 1e-5 * size, "{ty:?}: {found}, expected {expected}");
        Ok(())
    }

    fn quantized_256(x: &[f32]) -> Vec<Act256> {
        let mut out = vec![Act256::ZERO; x.len() / 256];
        quantize_256(x, &mut out);
        out
    }

    fn quantized_32(x: &[f32]) -> Vec<Act32x8> {
        let mut out = vec![Act32x8::ZERO; x.len().div_ceil(256)];
        quantize_32(x, &mut out);
        out
    }

    proptest! {
        #[test]
        fn dot_256_is_that_of_the_dequantised_row(
            (ty, row) in prop::sample::select(TYPES_256.to_vec()).prop_flat_map(|ty| (Just(ty), ordinary_row(ty, 4))),
            x in activations(1024),
        ) {
            let a = quantized_256(&x);
            let value = |a: &Act256, i: usize| f64::from(a.q[i]) * f64::from(a.steps[i / 32]) * f64::from(a.d);
            let x = a.iter().flat_map(|a| (0..256).map(move |i| value(a, i)));
            check_dot(ty, dot_256(ty, &row, &a), &dequantized(ty, &row), x)?;
        }

        #[test]
        fn dot_32_is_that_of_the_dequantised_row(
            (ty, n, row, x) in (prop::sample::select(TYPES_32.to_vec()), 0usize..=17)
                .prop_flat_map(|(ty, n)| (Just(ty), Just(n), ordinary_row(ty, n), activations(32 * n))),
        ) {
            let a = quantized_32(&x);
            let x = a.iter().flat_map(|a| (0..256).map(|i| f64::from(a.q[i]) * f64::from(a.d[i / 32])));
            check_dot(ty, dot_32(ty, &row, &a, n), &dequantized(ty, &row), x)?;
        }

        #[test]
        fn dot_f32_is_that_of_the_numbers(
            (ty, row, x) in (prop::sample::select(TYPES_PLAIN.to_vec()), 0usize..=70)
                .prop_flat_map(|(ty, n)| (Just(ty), ordinary_row(ty, n), activations(n * ty.block_len()))),
        ) {
            check_dot(ty, dot_f32(ty, &row, &x), &dequantized(ty, &row), x.iter().map(|&x| f64::from(x)))?;
        }

        #[test]
        fn dots_take_any_bytes_and_any_activations(
            (ty, row) in prop::sample::select([TYPES_PLAIN.as_slice(), &TYPES_32, &TYPES_256].concat())
                .prop_flat_map(|ty| (Just(ty), any_row(ty, 512 / ty.block_len()))),
            x in any_activations(512),
        ) {
            match quant::activation(ty).unwrap() {
                Activation::F32 => dot_f32(ty, &row, &x),
                Activation::A32 => dot_32(ty, &row, &quantized_32(&x), 16),
                Activation::A256 => dot_256(ty, &row, &quantized_256(&x)),
            };
        }

        #[test]
        fn rms_norm_is_that_in_double_precision(x in activations(77), weight in activations(77)) {
            let mut out = [0.0; 77];
            rms_norm(&x, &weight, 1e-5, &mut out);
            let mean = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / 77.0;
            for i in 0..77 {
                let expected = f64::from(x[i]) * f64::from(weight[i]) / (mean + 1e-5).sqrt();
                prop_assert!((f64::from(out[i]) - expected).abs() <= 1e-6 * expected.abs());
            }
        }

        #[test]
        fn delta_rule_is_that_in_double_precision(
            x in activations(23 * 5), [query, key] in [activations(23), activations(23)], value in activations(5),
            decay in 0.0f32..1.0, beta in 0.0f32..1.0,
        ) {
            let (mut state, mut out) = (x.clone(), [0.0; 5]);
            let token = DeltaToken { query: &query, key: &key, value: &value, decay, beta };
            delta_rule(&mut state, &token, &mut out);
            for (j, row) in x.chunks(23).enumerate() {
                let row: Vec<f64> = row.iter().map(|&x| f64::from(x) * f64::from(decay)).collect();
                let dot = |row: &[f64], x: &[f32]| row.iter().zip(x).map(|(row, &x)| row * f64::from(x)).sum::<f64>();
                let change = (f64::from(value[j]) - dot(&row, &key)) * f64::from(beta);
                let row: Vec<f64> = row.iter().zip(&key).map(|(row, &key)| row + change * f64::from(key)).collect();
                let size = |x: &[f32]| x.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                let largest = row.iter().fold(change.abs(), |most, x| most.max(x.abs()));
                let granted = 1e-5 * (1.0 + largest) * (1.0 + size(&key)) * (1.0 + size(&key).max(size(&query)));
                for (found, expected) in state[23 * j..].iter().zip(&row) {
                    prop_assert!((f64::from(*found) - expected).abs() <= granted, "{found}, not {expected}");
                }
                prop_assert!((f64::from(out[j]) - dot(&row, &query)).abs() <= granted * (1.0 + size(&query)));
            }
        }

        #[test]
        fn layer_norm_is_that_in_double_precision(x in activations(77), w in activations(77), b in activations(77)) {
            let mut out = [0.0; 77];
            layer_norm(&x, &w, &b, 1e-5, &mut out);
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / 77.0;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 77.0;
            let largest = x.iter().fold(0.0f64, |most, &x| most.max(f64::from(x).abs()));
            for i in 0..77 {
                let scale = f64::from(w[i]) / (variance + 1e-5).sqrt();
                let expected = (f64::from(x[i]) - mean) * scale + f64::from(b[i]);
                // The mean is off by some units in the last place of the largest element.
                let granted = 1e-6 * (largest * scale.abs() + expected.abs() + f64::from(b[i]).abs());
                prop_assert!((f64::from(out[i]) - expected).abs() <= granted, "{}, not {expected}", out[i]);
            }
        }
    }

    /// Codes, scales and activations all at their largest, signs agreeing: debug assertions watch for overflow.
    #[test]
    fn extreme_codes_do_not_overflow() {
        for byte in [0x00, 0x0f, 0x7f, 0x80, 0x88, 0xf0, 0xff] {
            for ty in TYPES_256 {
                let row = vec![byte; ty.block_bytes()];
                for_each_256(ty, &row, |block| {
                    let q = block.codes.map(|c| if c < 0 { -127 } else { 127 });
                    let mut a = Act256 { q, steps: [16; 8], ..Act256::ZERO };
                    a.sums16 =
                        std::array::from_fn(|s| a.q[16 * s..16 * s + 16].iter().map(|&q| 16 * i16::from(q)).sum());
                    dot_256(ty, &row, &[a]);
                });
            }
            for ty in TYPES_32 {
                let row = vec![byte; ty.block_bytes()];
                let a = Act32x8 { q: [-127; 256], d: [1.0; 8], sums: [-127 * 32; 8] };
                dot_32(ty, &row, &[a], 1);
            }
        }
    }

    #[test]
    fn a_nan_activation_makes_every_dot_product_nan() {
        let mut x = vec![1.0; 512];
        x[300] = f32::NAN;
        for ty in TYPES_256 {
            assert!(dot_256(ty, &vec![0; 2 * ty.block_bytes()], &quantized_256(&x)).is_nan(), "{ty:?}");
        }
        for ty in TYPES_32 {
            assert!(dot_32(ty, &vec![0; 16 * ty.block_bytes()], &quantized_32(&x), 16).is_nan(), "{ty:?}");
        }
        for ty in TYPES_PLAIN {
            assert!(dot_f32(ty, &vec![0; 512 / ty.block_len() * ty.block_bytes()], &x).is_nan(), "{ty:?}");
        }
    }

    /// The order of operations, spelled out for 16 + 3 products whose sum depends on it.
    #[test]
    fn lanes_are_summed_in_the_documented_order() {
        let x: Vec<f32> = (0..19).map(|k| 1.0 + 1.0 / (k as f32 + 3.0)).collect();
        let mut l: Vec<f32> = x[..16].iter().map(|x| x * x).collect();
        for k in 16..19 {
            l[k - 16] = x[k].mul_add(x[k], l[k - 16]);
        }
        let expected = (((l[0] + l[8]) + (l[4] + l[12])) + ((l[2] + l[10]) + (l[6] + l[14])))
            + (((l[1] + l[9]) + (l[5] + l[13])) + ((l[3] + l[11]) + (l[7] + l[15])));
        let row: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(dot_f32(TensorType::F32, &row, &x).to_bits(), expected.to_bits());
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        // 5003 is prime to all powers of two: every exponent and all parts of the mantissa are met.
        for x in (0..EXP_MAX.to_bits()).step_by(5003).map(f32::from_bits).flat_map(|x| [x, -x]) {
            if x < EXP_MIN {
                continue;
            }
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::from_bits((exact as f32).to_bits() & 0x7f80_0000)) * f64::from(f32::EPSILON);
            let error = (f64::from(exp(x)) - exact).abs() / ulp;
            assert!(error <= 2.0 && exp(x).is_normal(), "exp({x:e}) = {:e}: {error} ulp off", exp(x));
        }
    }

    #[test]
    fn exp_has_defined_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert!(exp(EXP_MIN).is_normal());
        assert_eq!(exp(EXP_MIN.next_down()).to_bits(), 0);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(f32::INFINITY), exp(EXP_MAX));
        assert!(exp(EXP_MAX).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_are_those_in_double_precision() {
        let gate = [-200.0, -9.0, -3.0, -1.0, -1e-3, -0.0, 1e-6, 0.5, 4.0, 6.5, 200.0];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for up in [2.0f32, -0.25, 9.0, -9.0] {
            for kind in [Glu::Silu, Glu::Gelu, Glu::Sigmoid, Glu::Oai] {
                let mut out = [0.0; 11];
                glu(kind, &gate, &[up; 11], &mut out);
                for (g, out) in gate.map(f64::from).into_iter().zip(out) {
                    let expected = match kind {
                        Glu::Silu => g * sigmoid(g) * f64::from(up),
                        Glu::Sigmoid => sigmoid(g) * f64::from(up),
                        Glu::Gelu => {
                            let u = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g * g * g);
                            g * 0.5 * (1.0 + u.tanh()) * f64::from(up)
                        }
                        Glu::Oai => {
                            let g = g.min(7.0);
                            g * sigmoid(1.702 * g) * (f64::from(up).clamp(-7.0, 7.0) + 1.0)
                        }
                    };
                    let error = (f64::from(out) - expected).abs();
                    // Beyond the range of `exp` the least value is not quite 0.
                    assert!(error <= 3e-6 * expected.abs() + 1e-15, "{kind:?} {g} {up}: {out}, not {expected}");
                }
            }
        }
        assert_eq!((silu(f32::INFINITY), silu(f32::NEG_INFINITY)), (f32::INFINITY, f32::NEG_INFINITY));
        assert!(silu(f32::NAN).is_nan() && gelu(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
        assert_eq!(gelu(f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn tanh_is_within_four_units_in_the_last_place() {
        for x in (1..20f32.to_bits()).step_by(5003).map(f32::from_bits) {
            let exact = f64::from(x).tanh();
            let ulp = f64::from(f32::from_bits((exact as f32).to_bits() & 0x7f80_0000)) * f64::from(f32::EPSILON);
            // Below the normal numbers an ulp is larger than this.
            assert!((f64::from(tanh(x)) - exact).abs() <= 4.0 * ulp.max(1e-44), "tanh({x:e}) = {:e}", tanh(x));
            assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits());
        }
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
    }
}
