//! The scalar tier: the definition that every other tier equals, bit for bit.
//!
//! What makes results independent of batch, threads and instruction set is one fixed order of operations per output:
//!
//! - Weights in blocks: everything inside a block is integer arithmetic, exact in any order (`i32` never overflows: the
//!   largest sum, of Q6_K, is 256 * 128 * 32 * 127 = 133e6). Float arithmetic happens once per block, blocks ascending.
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
/// Per block `I = sum(scale * code * q)` and `M = sum(min * sums16)` in integers, then in floats `t = f32(I) * d`,
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
            sum += i32::from(block.scales[s]) * dot_i8(&codes[s], &q[s]);
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

/// Dot product of a row of F32, F16 or BF16 with numbers, summed in [`Lanes`].
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

/// SiLU, `x * sigmoid(x)`, as `x / (1 + exp(-x))`. Since [`exp`] is finite, -infinity stays -infinity.
#[inline]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// SwiGLU (Shazeer 2020, arXiv 2002.05202): `out = silu(gate) * up`.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out of one length");
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = silu(gate) * up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::testing::*;
    use crate::quant::{dequantize_row, quantize_32, quantize_256};
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
            let x = a.iter().flat_map(|a| a.q.map(|q| f64::from(q) * f64::from(a.d)));
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
                .prop_flat_map(|(ty, n)| (Just(ty), ordinary_row(ty, n), activations(n))),
        ) {
            check_dot(ty, dot_f32(ty, &row, &x), &dequantized(ty, &row), x.iter().map(|&x| f64::from(x)))?;
        }

        #[test]
        fn dots_take_any_bytes_and_any_activations(
            (ty, row) in prop::sample::select([TYPES_PLAIN.as_slice(), &TYPES_32, &TYPES_256].concat())
                .prop_flat_map(|ty| (Just(ty), any_row(ty, 512 / ty.block_len()))),
            x in any_activations(512),
        ) {
            match ty.block_len() {
                1 => dot_f32(ty, &row, &x),
                32 => dot_32(ty, &row, &quantized_32(&x), 16),
                _ => dot_256(ty, &row, &quantized_256(&x)),
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
    }

    /// Codes, scales and activations all at their largest, signs agreeing: debug assertions watch for overflow.
    #[test]
    fn extreme_codes_do_not_overflow() {
        for byte in [0x00, 0x0f, 0x7f, 0x80, 0x88, 0xf0, 0xff] {
            for ty in TYPES_256 {
                let row = vec![byte; ty.block_bytes()];
                for_each_256(ty, &row, |block| {
                    let mut a = Act256 { q: block.codes.map(|c| if c < 0 { -127 } else { 127 }), ..Act256::ZERO };
                    a.sums16 = std::array::from_fn(|s| a.q[16 * s..16 * s + 16].iter().map(|&q| i16::from(q)).sum());
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
            assert!(dot_f32(ty, &vec![0; 512 * ty.block_bytes()], &x).is_nan(), "{ty:?}");
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
    fn swiglu_is_silu_times_up() {
        let gate = [-200.0, -3.0, -0.0, 0.5, 4.0, 200.0];
        let mut out = [0.0; 6];
        swiglu(&gate, &[2.0; 6], &mut out);
        for (g, out) in gate.map(f64::from).into_iter().zip(out) {
            let expected = 2.0 * g / (1.0 + (-g).exp());
            assert!((f64::from(out) - expected).abs() <= 1e-6 * expected.abs() + 1e-30, "{g}: {out}, not {expected}");
        }
        assert_eq!((silu(f32::INFINITY), silu(f32::NEG_INFINITY)), (f32::INFINITY, f32::NEG_INFINITY));
        assert!(silu(f32::NAN).is_nan());
    }
}
