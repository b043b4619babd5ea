use super::testing::*;
use super::*;
use proptest::prelude::*;

/// The next `N` bytes of the records that `testdata/make.py` wrote.
fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(n);
    *bytes = tail;
    head
}

fn take_u32(bytes: &mut &[u8]) -> u32 {
    u32::from_le_bytes(*field(take(bytes, 4), 0))
}

#[test]
fn dequantises_as_gguf_py_does() {
    let mut file = include_bytes!("testdata/dequantize.bin").as_slice();
    let mut types = Vec::new();
    while !file.is_empty() {
        let ty = TensorType::from_id(take_u32(&mut file)).expect("a known type");
        let (elements, bytes) = (take_u32(&mut file) as usize, take_u32(&mut file) as usize);
        let row = take(&mut file, bytes);
        let expected = take(&mut file, 4 * elements).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        let mut found = vec![0.0; elements];
        dequantize_row(ty, row, &mut found).expect("a supported type");
        for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{ty:?}[{i}]: found {found:e}, expected {expected:e}");
        }
        types.push(ty);
    }
    let all = [TYPES_PLAIN.as_slice(), &TYPES_32, &TYPES_256].concat();
    assert!(all.iter().all(|ty| types.iter().filter(|t| *t == ty).count() == 3), "three rows of each type: {types:?}");
}

#[test]
fn f16_converts_as_ieee_says() {
    for bits in 0..=u16::MAX {
        let (found, expected) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
        assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:#06x}");
        let (found, expected) = (bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32());
        assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:#06x}");
    }
}

#[test]
fn says_which_types_are_supported() {
    assert_eq!(activation(TensorType::BF16), Some(Activation::F32));
    assert_eq!(activation(TensorType::NVFP4), Some(Activation::F32));
    assert_eq!(activation(TensorType::Q8_0), Some(Activation::A32));
    assert_eq!(activation(TensorType::Q6_K), Some(Activation::A256));
    assert!(!is_supported(TensorType::Q2_0));
    let error = dequantize_row(TensorType::Q2_0, &[0; 18], &mut [0.0; 64]).unwrap_err();
    assert!(error.to_string().ends_with("found Q2_0"), "{error}");
}

#[test]
#[should_panic(expected = "expected the bytes of 512 elements of Q4_K, found 144 bytes")]
fn refuses_lengths_that_do_not_fit() {
    let _ = dequantize_row(TensorType::Q4_K, &[0; 144], &mut [0.0; 512]);
}

#[test]
fn non_finite_activations_show_in_their_own_block_only() {
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut row = [1.0f32; 512];
        row[300] = bad;
        let mut a256 = [Act256::ZERO; 2];
        quantize_256(&row, &mut a256);
        assert_eq!((a256[0].d, a256[0].q, a256[0].steps), (1.0 / 16.0 / 127.0, [127; 256], [16; 8]));
        assert!(a256[1].d.is_nan() && a256[1].q == [0; 256] && a256[1].sums16 == [0; 16]);
        let mut a32 = [Act32x8::ZERO; 2];
        quantize_32(&row, &mut a32);
        for (b, d) in a32.iter().flat_map(|a| a.d).enumerate() {
            assert!(if b == 300 / 32 { d.is_nan() } else { d == 1.0 / 127.0 }, "block {b}: {d}");
        }
        assert_eq!((a32[1].sums[1], a32[1].sums[2]), (0, 32 * 127));
    }
}

#[test]
fn rounds_to_nearest_ties_to_even_and_never_to_minus_128() {
    let mut row = [0.0; 256];
    row[..8].copy_from_slice(&[-127.0, 127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.4]);
    let mut out = [Act256::ZERO];
    quantize_256(&row, &mut out);
    assert_eq!(out[0].q[..8], [-127, 127, 0, 2, 2, 0, -2, 126]);
}

/// What holds for codes `q` of the numbers `x`, rounded to multiples of `step`.
fn check_codes(x: &[f32], q: &[i8], step: f64) -> Result<(), TestCaseError> {
    for (&x, &q) in x.iter().zip(q) {
        prop_assert!(q >= -127);
        // Half a step, and the roundings of the inverse and of its product with x.
        let error = (f64::from(x) - step * f64::from(q)).abs();
        prop_assert!(error <= 0.500_05 * step, "{x} became {q} * {step}");
    }
    Ok(())
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |a, x| a.max(x.abs()))
}

/// Are these numbers one of the special blocks? Then checks that it is treated as such.
fn check_special(x: &[f32], q: &[i8], d: f32) -> Result<bool, TestCaseError> {
    let zero = q.iter().all(|&q| q == 0);
    if x.iter().any(|x| !x.is_finite()) {
        prop_assert!(d.is_nan() && zero);
        return Ok(true);
    }
    if largest(x) < 1e-30 {
        prop_assert!(d.to_bits() == 0 && zero);
        return Ok(true);
    }
    Ok(false)
}

proptest! {
    #[test]
    fn quantises_activations_per_256(row in any_activations(512)) {
        let mut out = [Act256::ZERO; 2];
        quantize_256(&row, &mut out);
        for (x, a) in row.chunks(256).zip(&out) {
            for (s, &sum) in a.sums16.iter().enumerate() {
                let codes: i32 = a.q[16 * s..16 * s + 16].iter().map(|&q| i32::from(q)).sum();
                prop_assert_eq!(i32::from(sum), i32::from(a.steps[s / 2]) * codes);
            }
            if check_special(x, &a.q, a.d)? {
                continue;
            }
            prop_assert_eq!(a.d, largest(x) / 2032.0);
            for (b, (x, q)) in x.chunks(32).zip(a.q.chunks(32)).enumerate() {
                let (step, d) = (f64::from(a.steps[b]), f64::from(a.d));
                check_codes(x, q, step * d)?;
                // No smaller step would do (but for rounding).
                let amax = f64::from(largest(x));
                prop_assert!(step == 1.0 || (step - 1.0) * 127.0 * d <= amax * 1.000_001, "{amax} has step {step} of {d}");
            }
        }
    }

    #[test]
    fn quantises_activations_per_32((blocks, row) in (0usize..=17).prop_flat_map(|n| (Just(n), any_activations(32 * n)))) {
        // What was there before must not matter.
        let stale = Act32x8 { q: [1; 256], d: [1.0; 8], sums: [1; 8] };
        let mut out = vec![stale; blocks.div_ceil(8)];
        quantize_32(&row, &mut out);
        for (b, (q, (d, sum))) in out
            .iter()
            .flat_map(|a| a.q.chunks(32).zip(a.d.into_iter().zip(a.sums)))
            .enumerate()
        {
            prop_assert_eq!(sum, q.iter().map(|&q| i32::from(q)).sum::<i32>());
            match row.chunks(32).nth(b) {
                Some(x) => {
                    if !check_special(x, q, d)? {
                        // Not worse than rounding to multiples of the largest magnitude over 127.
                        let amax = f64::from(largest(x));
                        let error = |d: f64, q: &dyn Fn(usize) -> f64| -> f64 {
                            (0..32).map(|i| ((f64::from(x[i]) - d * q(i)) / amax).powi(2)).sum()
                        };
                        let plain = error(amax / 127.0, &|i| (f64::from(x[i]) / amax * 127.0).round());
                        let found = error(f64::from(d), &|i| f64::from(q[i]));
                        prop_assert!(found <= plain * 1.001 + 1e-6, "{found} beside {plain}");
                    }
                }
                None => prop_assert!(d.to_bits() == 0 && q.iter().all(|&q| q == 0), "padding of group {}", b / 8),
            }
        }
    }

    #[test]
    fn dequantises_any_bytes(
        (ty, row) in prop::sample::select([TYPES_PLAIN.as_slice(), &TYPES_32, &TYPES_256].concat())
            .prop_flat_map(|ty| (Just(ty), any_row(ty, 3))),
    ) {
        let mut out = vec![0.0; 3 * ty.block_len()];
        dequantize_row(ty, &row, &mut out).unwrap();
    }
}
