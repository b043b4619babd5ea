//! Every operation against the same on plain arrays, at the numbers where implementations like to differ.
use super::Neon;
use crate::kernels::{portable::Portable, simd::Simd};

const FLOATS: [f32; 32] = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-45,
    -1e-40,
    f32::MIN_POSITIVE,
    1.0,
    -1.0,
    3.4e38,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    0.1,
    -0.3,
    126.5,
    127.5,
    -127.5,
    8388607.5,
    8388608.0,
    -8388609.0,
    1e-3,
    7.0,
    -11.25,
    1e20,
    -1e-20,
    std::f32::consts::PI,
];

/// NaNs are all alike.
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

fn floats<S: Simd>(x: S::F) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: sixteen numbers; the caller has the instructions.
    unsafe { S::store(out.as_mut_ptr(), x) };
    out
}

fn ints<S: Simd>(x: S::I) -> [i32; 16] {
    let mut out = [0; 16];
    // SAFETY: as above.
    unsafe { S::istore(out.as_mut_ptr(), x) };
    out
}

fn assert_same(name: &str, found: [f32; 16], expected: [f32; 16]) {
    assert!(found.iter().zip(&expected).all(|(&a, &b)| same(a, b)), "{name}: {found:?} instead of {expected:?}");
}

/// Results of all functions from floats, with their names.
unsafe fn of_floats<S: Simd>(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> Vec<(&'static str, [f32; 16])> {
    // SAFETY: arrays of sixteen; the caller has the instructions.
    unsafe {
        let [x, y, z] = [a, b, c].map(|p| S::load(p.as_ptr()));
        [
            ("splat", S::splat(a[0])),
            ("add", S::add(x, y)),
            ("sub", S::sub(x, y)),
            ("mul", S::mul(x, y)),
            ("div", S::div(x, y)),
            ("fma", S::fma(x, y, z)),
            ("max", S::max(x, y)),
            ("min", S::min(x, y)),
            ("if_less", S::if_less(x, y, z, x)),
            ("abs", S::abs(x)),
            ("round", S::round(x)),
            ("sum", S::splat(S::sum(x))),
            ("max_lane", S::splat(S::max_lane(x))),
        ]
        .map(|(name, x)| (name, floats::<S>(x)))
        .to_vec()
    }
}

unsafe fn floats_are_those_of_plain_arrays<S: Simd>() {
    for shift in 0..32 {
        let take = |step: usize| std::array::from_fn(|i| FLOATS[(shift + i * step) % 32]);
        let [a, b, c] = [take(1), take(shift | 1), take(5)];
        // SAFETY: the caller has the instructions.
        let (found, expected) = unsafe { (of_floats::<S>(&a, &b, &c), of_floats::<Portable>(&a, &b, &c)) };
        for ((name, found), (_, expected)) in found.into_iter().zip(expected) {
            assert_same(name, found, expected);
        }
    }
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    for sixteen in halves.as_chunks::<16>().0 {
        let p = sixteen.as_ptr();
        // SAFETY: sixteen numbers; the caller has the instructions.
        unsafe {
            assert_same("from_f16", floats::<S>(S::from_f16(p)), floats::<Portable>(Portable::from_f16(p)));
            assert_same("from_bf16", floats::<S>(S::from_bf16(p)), floats::<Portable>(Portable::from_bf16(p)));
        }
    }
    for n in -126..=127 {
        // SAFETY: the caller has the instructions.
        let found = unsafe { floats::<S>(S::exp2i(S::splat(n as f32))) };
        assert_same("exp2i", found, [2.0f32.powi(n); 16]);
    }
}

/// Results of all functions from integers, with their names.
unsafe fn of_ints<S: Simd>(acc: &[i32; 16], a: &[i32; 16], b: &[i32; 16]) -> Vec<(&'static str, [i32; 16])> {
    // SAFETY: arrays of sixteen; the caller has the instructions.
    unsafe {
        let [x, y, z] = [a, b, acc].map(|p| S::iload(p.as_ptr()));
        let mut bytes = [0i8; 16];
        S::store_bytes(bytes.as_mut_ptr(), x);
        let floats = floats::<S>(S::to_float(x));
        let scaled = floats.map(|x| x / 8.0);
        vec![
            ("isplat", ints::<S>(S::isplat(a[0]))),
            ("iadd", ints::<S>(S::iadd(x, y))),
            ("imul", ints::<S>(S::imul(x, y))),
            ("isum", [S::isum(x); 16]),
            ("to_float", floats.map(|x| x.to_bits() as i32)),
            ("to_int", ints::<S>(S::to_int(S::load(scaled.as_ptr())))),
            ("store_bytes", bytes.map(i32::from)),
            ("dot_words", ints::<S>(S::dot_words(z, x, y))),
        ]
    }
}

unsafe fn ints_are_those_of_plain_arrays<S: Simd>() {
    let numbers = [0, 1, -1, 4, 12, -20, 127, -128, 0x7fff_8000, 0x1234_5678, -0x1234_5678, 0x7fff_7fff, 255, i32::MIN];
    for shift in 0..numbers.len() {
        let take = |step: usize| std::array::from_fn(|i| numbers[(shift + i * step) % numbers.len()]);
        let [acc, a, b] = [take(1), take(3), take(shift)];
        // SAFETY: the caller has the instructions.
        let (found, expected) = unsafe { (of_ints::<S>(&acc, &a, &b), of_ints::<Portable>(&acc, &a, &b)) };
        assert_eq!(found, expected);
    }
}

unsafe fn bytes_are_those_of_plain_arrays<S: Simd>() {
    let acc: [i32; 16] = std::array::from_fn(|i| i as i32 * 1001 - 8000);
    let weights: Vec<u8> = (0..=255).map(|i| i ^ 0x80).collect();
    for activation in -127..=127i8 {
        let activations: [u8; 64] =
            std::array::from_fn(|i| if i % 3 == 2 { i as i8 - 32 } else { activation }.cast_unsigned());
        for weights in weights.as_chunks::<64>().0 {
            // SAFETY: blocks of 64 bytes and sixteen numbers; the caller has the instructions.
            unsafe {
                let [w, a] = [weights, &activations].map(|p| S::bload(p.as_ptr()));
                let found = ints::<S>(S::dot_bytes(S::iload(acc.as_ptr()), w, a));
                let [w, a] = [weights, &activations].map(|p| Portable::bload(p.as_ptr()));
                assert_eq!(found, Portable::dot_bytes(acc, w, a), "{activation}");
            }
        }
    }
    // The extremes: all products of one sign.
    for (w, a) in [(-128i8, -127i8), (-128, 127), (127, 127)] {
        let (w, a) = ([w.cast_unsigned(); 64], i32::from_ne_bytes([a.cast_unsigned(); 4]));
        // SAFETY: as above.
        unsafe {
            let found = ints::<S>(S::dot_bytes(S::isplat(0), S::bload(w.as_ptr()), S::bsplat(&a)));
            assert_eq!(found, Portable::dot_bytes([0; 16], w, Portable::bsplat(&a)));
        }
    }
}

unsafe fn transposition_is_that_of_plain_arrays<S: Simd>() {
    let bytes: Vec<u8> = (0..16 * 67).map(|i| (i * 37 % 251) as u8).collect();
    let rows = std::array::from_fn(|r| bytes[67 * r..].as_ptr());
    let (mut found, mut expected) = ([[0u8; 64]; 16], [[0u8; 64]; 16]);
    // SAFETY: every row has 67 bytes; the caller has the instructions.
    unsafe {
        S::transpose(rows, found.as_mut_ptr());
        Portable::transpose(rows, expected.as_mut_ptr());
    }
    assert_eq!(found, expected);
}

#[target_feature(enable = "neon")]
unsafe fn check_neon() {
    // SAFETY: the instructions are enabled.
    unsafe {
        floats_are_those_of_plain_arrays::<Neon<false>>();
        ints_are_those_of_plain_arrays::<Neon<false>>();
        bytes_are_those_of_plain_arrays::<Neon<false>>();
        transposition_is_that_of_plain_arrays::<Neon<false>>();
    }
}

/// The other operations are the same code.
#[target_feature(enable = "neon,dotprod")]
unsafe fn check_dotprod() {
    // SAFETY: the instructions are enabled.
    unsafe { bytes_are_those_of_plain_arrays::<Neon<true>>() }
}

#[test]
fn operations_are_those_of_plain_arrays() {
    // SAFETY: every 64-bit Arm processor has NEON, and dot products only where they are found.
    unsafe {
        check_neon();
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            check_dotprod();
        }
    }
}
