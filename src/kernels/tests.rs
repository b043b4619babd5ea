//! Every tier against the scalar one, bit for bit.
use super::{
    attention::{Attend, Join, Layout, RotationTable, Span, Store, Tasks},
    tier::SCALAR,
    *,
};
use crate::{
    compute::{Phase, Shared, Team},
    gguf::TensorType,
    quant::testing::*,
};
use proptest::prelude::*;

/// NaNs are all alike: their sign and payload are not specified.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }).collect()
}

fn all_types() -> Vec<TensorType> {
    [TYPES_256.to_vec(), TYPES_32.to_vec(), TYPES_PLAIN.to_vec()].concat()
}

/// `weight · x` (and gated by `gate`) by the phases, as the forward pass does it.
fn multiply(
    tier: &'static Tier,
    team: &Team,
    weight: Weight,
    gate: Option<Gate>,
    norm: Option<Norm>,
    x: &[f32],
) -> Vec<f32> {
    let (tokens, mut source) = (x.len() / weight.cols(), x.to_vec());
    let mut out = vec![1.0f32; tokens * weight.rows()];
    let mut buffer = InputBuffer::default();
    let needs = gate.map_or(weight.needs(), |gate| gate.weight.needs().and(weight.needs()));
    let inputs = buffer.inputs(tier, tokens, weight.cols(), needs);
    let prepare = Prepare { tier, source: Shared::new(&mut source), rows: None, norm, inputs };
    let stride = weight.rows();
    let bias = norm.map(|norm| &norm.weight[..stride]);
    let gelu = gate.is_some_and(|gate| gate.glu == Glu::Oai);
    let part = Part { weight, gate, bias, gelu, out: Shared::new(&mut out), stride, add: gate.is_none() };
    let matmul = Matmul::new(tier, inputs, vec![part]);
    team.run(&[&prepare as &dyn Phase, &matmul]).unwrap();
    out
}

fn rows_of(ty: TensorType, cols: usize, rows: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any_row(ty, cols / ty.block_len()), rows),
        proptest::collection::vec(ordinary_row(ty, cols / ty.block_len()), rows),
    ]
    .prop_map(|rows| rows.concat())
}

/// Activations all alike have sums over 32 columns that do not fit 16 bits.
#[test]
fn large_sums_meet_minima_as_small_ones_do() {
    let team = Team::new(1);
    for ty in [TensorType::Q4_K, TensorType::Q5_K] {
        let row: Vec<u8> = (0..2 * ty.block_bytes()).map(|i| (i * 37 % 251) as u8 & 0x3f).collect();
        let weights = row.repeat(33);
        let weight = Weight::new(ty, &weights, 33, 512);
        let same = [1.0; 512];
        let mixed: [f32; 512] = std::array::from_fn(|i| if i % 3 == 0 { -0.7 } else { 0.4 });
        let x = [same, mixed, same, mixed, mixed, mixed, mixed, mixed, mixed, mixed, mixed, mixed].concat();
        let expected = bits(&multiply(&SCALAR, &team, weight, None, None, &x));
        for tier in available() {
            assert_eq!(bits(&multiply(tier, &team, weight, None, None, &x)), expected, "{} {ty:?}", tier.name);
        }
    }
}

/// The largest codes times the largest activations: what sums of 16 bits must hold.
#[test]
fn saturated_products_are_those_of_the_scalar_tier() {
    let team = Team::new(1);
    // The largest activations of one sign, of both, and of one that changes where a sum may begin.
    let patterns =
        [|_| 1.0, |_| -1.0, |i| if i % 2 == 0 { 1.0 } else { -1.0 }, |i| if i % 64 < 32 { 1.0 } else { -1.0 }];
    let tokens = |n: usize| -> Vec<f32> { patterns.iter().cycle().take(n).flat_map(|f| (0..256).map(f)).collect() };
    for ty in [TYPES_256.to_vec(), TYPES_32.to_vec()].concat() {
        for byte in [0x00, 0x01, 0x0f, 0x7f, 0x80, 0xf0, 0xfe, 0xff] {
            let weights = saturated_row(ty, 256 / ty.block_len(), byte).repeat(17);
            let weight = Weight::new(ty, &weights, 17, 256);
            for n in [1, 2, 3, 4, 8, 15] {
                let x = tokens(n);
                let expected = multiply(&SCALAR, &team, weight, None, None, &x);
                assert!(expected.iter().all(|y| y.is_finite()), "{ty:?} of {byte:#x} should be numbers");
                for tier in available() {
                    let found = multiply(tier, &team, weight, None, None, &x);
                    assert_eq!(bits(&found), bits(&expected), "{} {ty:?} of {byte:#x}, {n} tokens", tier.name);
                }
            }
        }
    }
}

proptest! {
    // PROPTEST_CASES asks for fewer on emulated processors.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { ProptestConfig::default().cases.min(192) }))]

    /// All formats, all numbers of tokens around the sizes of tiles, odd row counts, tails.
    #[test]
    fn products_are_those_of_the_scalar_tier(
        (ty, cols, weights) in (prop::sample::select(all_types()), 1usize..5).prop_flat_map(|(ty, n)| {
            let cols = match ty.block_len() { 1 => 19 * n, 32 => 32 * (5 * n - 4), len => len * n };
            (Just(ty), Just(cols), rows_of(ty, cols, 37))
        }),
        tokens in prop::sample::select(vec![1usize, 2, 3, 4, 5, 6, 7, 8, 9, 15, 21, 37, 50, 61]),
        seed in activations(37 * 1024),
    ) {
        let (one, two) = (Team::new(1), Team::new(2));
        let weight = Weight::new(ty, &weights, 37, cols);
        let x: Vec<f32> = seed.into_iter().cycle().take(tokens * cols).collect();
        let expected = bits(&multiply(&SCALAR, &one, weight, None, None, &x));
        for tier in available() {
            for team in [&one, &two] {
                prop_assert_eq!(&bits(&multiply(tier, team, weight, None, None, &x)), &expected, "{} {:?}", tier.name, ty);
            }
        }
        // Each token alone.
        for tier in available() {
            for (t, x) in x.chunks(cols).enumerate() {
                let y = bits(&multiply(tier, &one, weight, None, None, x));
                prop_assert_eq!(&y[..], &expected[t * 37..(t + 1) * 37], "{} {:?} token {}", tier.name, ty, t);
            }
        }
    }

    #[test]
    fn gated_products_are_those_of_the_scalar_tier(
        gate_type in prop::sample::select(vec![TensorType::Q4_K, TensorType::Q8_0, TensorType::F32]),
        glu in prop::sample::select(vec![Glu::Silu, Glu::Gelu, Glu::Oai]),
        kind in prop::sample::select(vec![NormKind::Rms, NormKind::Layer]),
        tokens in prop_oneof![1usize..12, 36usize..47],
        swapped in any::<bool>(),
        (gate, up) in (ordinary_row(TensorType::Q4_K, 33), ordinary_row(TensorType::Q6_K, 33)),
        seed in activations(12 * 256),
    ) {
        let one = Team::new(1);
        let bytes: Vec<u8> = match gate_type {
            TensorType::Q4_K => gate,
            TensorType::Q8_0 => gate.iter().cycle().take(33 * 8 * 34).map(|b| b & 0x3f).collect(),
            _ => (0..33 * 256).flat_map(|i| (i as f32 * 1e-3).sin().to_le_bytes()).collect(),
        };
        let mut pair = [Weight::new(gate_type, &bytes, 33, 256), Weight::new(TensorType::Q6_K, &up, 33, 256)];
        if swapped {
            pair.reverse();
        }
        let [gate, up] = pair;
        let numbers = [0.5f32; 256];
        let norm = Some(Norm { kind, weight: &numbers, bias: &numbers, eps: 1e-5 });
        let gate = Some(Gate { weight: gate, bias: Some(&numbers[..33]), glu });
        let x: Vec<f32> = seed.into_iter().cycle().take(tokens * 256).collect();
        let expected = bits(&multiply(&SCALAR, &one, up, gate, norm, &x));
        for tier in available() {
            prop_assert_eq!(&bits(&multiply(tier, &one, up, gate, norm, &x)), &expected, "{}", tier.name);
        }
    }

    /// What experts see of the rows that chose them.
    #[test]
    fn gathered_products_are_those_of_their_rows(
        (ty, weights) in prop::sample::select(vec![TensorType::Q4_K, TensorType::Q8_0, TensorType::F16])
            .prop_flat_map(|ty| (Just(ty), ordinary_row(ty, 33 * 256 / ty.block_len()))),
        tokens in prop::sample::select(vec![1usize, 5, 8, 20, 40]),
        seed in activations(20 * 256),
    ) {
        let team = Team::new(2);
        let weight = Weight::new(ty, &weights, 33, 256);
        let chosen: Vec<u32> = (0..tokens as u32).map(|t| t * 7 % 20).collect();
        let mut x = seed.clone();
        let picked: Vec<f32> = chosen.iter().flat_map(|&t| &seed[t as usize * 256..][..256]).copied().collect();
        let expected = bits(&multiply(&SCALAR, &team, weight, None, None, &picked));
        for tier in available() {
            let (mut all, mut group, mut out) =
                (InputBuffer::default(), InputBuffer::default(), vec![1.0; tokens * 33]);
            let (from, inputs) =
                (all.rows(20, 256, weight.needs()), group.inputs(tier, tokens, 256, weight.needs()));
            let prepare = Prepare { tier, source: Shared::new(&mut x), rows: None, norm: None, inputs: from };
            let gather = Gather { tier, from, rows: &chosen, inputs };
            let out_rows = Shared::new(&mut out);
            let part = Part { weight, gate: None, bias: None, gelu: false, out: out_rows, stride: 33, add: true };
            team.run(&[&prepare as &dyn Phase, &gather, &Matmul::new(tier, inputs, vec![part])]).unwrap();
            prop_assert_eq!(&bits(&out), &expected, "{} {:?}", tier.name, ty);
        }
    }

    #[test]
    fn rows_are_those_of_the_scalar_tier(
        x in any_activations(1280), w in activations(1280), len in 1usize..200, eps in 0.0f32..0.1,
    ) {
        for tier in available() {
            let run = |tier: &Tier| {
                let (mut norm, mut all) = (vec![0.0; len], Vec::new());
                let (mut a, mut b) = (vec![crate::quant::Act256::ZERO; 5], vec![crate::quant::Act32x8::ZERO; 5]);
                // SAFETY: an available tier, slices of fitting lengths.
                unsafe {
                    (tier.rms_norm)(&x[..len], &w[..len], eps, &mut norm);
                    all.extend(bits(&norm));
                    for bias in [&[][..], &w[len..2 * len]] {
                        (tier.layer_norm)(&x[..len], &w[..len], bias, eps, &mut norm);
                        all.extend(bits(&norm));
                    }
                    for kind in [Glu::Silu, Glu::Gelu, Glu::Sigmoid, Glu::Oai] {
                        (tier.glu)(kind, &x[..len], &w[..len], &mut norm);
                        all.extend(bits(&norm));
                    }
                    norm.copy_from_slice(&x[..len]);
                    (tier.gelu)(&mut norm);
                    all.extend(bits(&norm));
                    norm.copy_from_slice(&x[..len]);
                    (tier.soft_cap)(0.01 + 100.0 * eps, &mut norm);
                    all.extend(bits(&norm));
                    (tier.add_scaled)(eps, &w[..len], &mut norm);
                    all.extend(bits(&norm));
                    for rotation in [Rotation::None, Rotation::Interleaved, Rotation::Halves] {
                        norm.copy_from_slice(&x[..len]);
                        let pairs = len / 2;
                        (tier.rotate)(rotation, &mut norm, &w[len..len + pairs], &w[2 * len..2 * len + pairs]);
                        all.extend(bits(&norm));
                    }
                    let (mut state, mut found) = (w[..6 * len].to_vec(), [0.0; 6]);
                    for (i, decay) in [0.9, 0.1, 1.0].into_iter().enumerate() {
                        let (query, key) = (&w[i * len..(i + 1) * len], &x[i * len..(i + 1) * len]);
                        let token = DeltaToken { query, key, value: &w[..6], decay, beta: 0.5 + eps };
                        (tier.delta_rule)(&mut state, &token, &mut found);
                        all.extend(bits(&found));
                    }
                    all.extend(bits(&state));
                    (tier.quantize_256)(&x, &mut a);
                    (tier.quantize_32)(&x, &mut b);
                }
                let q: Vec<i8> = a.iter().flat_map(|a| a.q).chain(b.iter().flat_map(|b| b.q)).collect();
                let d: Vec<f32> = a.iter().map(|a| a.d).chain(b.iter().flat_map(|b| b.d)).collect();
                let sums: Vec<i32> =
                    a.iter().flat_map(|a| a.sums16.map(i32::from)).chain(b.iter().flat_map(|b| b.sums)).collect();
                (all, q, bits(&d), sums)
            };
            prop_assert_eq!(run(tier), run(&SCALAR), "{}", tier.name);
        }
    }
}

/// Stores and attends `n` positions of one sequence, `at_once` rows at a time.
fn attention(
    tier: &'static Tier,
    format: KvFormat,
    (heads, head_dim): (usize, usize),
    n: usize,
    at_once: usize,
    window: Option<usize>,
) -> Vec<f32> {
    let kv_heads = 2;
    let sinks: Vec<f32> = [-1.0, 0.0, 0.5, 1.0, 2.0, f32::NEG_INFINITY].repeat(heads.div_ceil(6));
    let layout = Layout { format, head_dim, kv_heads, layers: 2, state_bytes: 0 };
    let mut memory = vec![vec![0u64; layout.page_bytes().div_ceil(8)]; n.div_ceil(CHUNK)];
    let pages: Vec<Page> = memory.iter_mut().map(|page| Page(page.as_mut_ptr().cast())).collect();
    let noise = |seed: usize, i: usize| ((i * 7919 + seed * 104729) % 2003) as f32 / 500.0 - 2.0;
    let team = Team::new(2);
    let mut all = Vec::new();
    for start in (0..n).step_by(at_once) {
        let rows = at_once.min(n - start);
        let take =
            |seed, len: usize| -> Vec<f32> { (start * len..(start + rows) * len).map(|i| noise(seed, i)).collect() };
        let (mut q, mut k, mut v) =
            (take(1, heads * head_dim), take(2, kv_heads * head_dim), take(3, kv_heads * head_dim));
        let mut out = vec![0.0f32; rows * heads * head_dim];
        let spans = [Span { rows: 0..rows, position: start, origin: 0, first_page: 0 }];
        let frequencies: Vec<f64> = (0..head_dim / 4).map(|i| 0.3f64.powi(i as i32)).collect();
        let mut table = vec![0.0f32; rows * 2 * frequencies.len()];
        let table = Shared::new(&mut table);
        let queries = Shared::new(&mut q);
        let norms: (Vec<f32>, Vec<f32>) =
            (0..head_dim).map(|i| (1.0 + noise(4, i) / 4.0, 1.5 - noise(5, i) / 4.0)).unzip();
        let tasks = Tasks::new(&spans, heads, kv_heads, team.threads());
        let mut sums = vec![0.0f32; tasks.sums_len(heads, layout)];
        let fill = RotationTable { spans: &spans, frequencies: &frequencies, magnitude: 1.1, table };
        let store = Store {
            tier,
            spans: &spans,
            pages: &pages,
            layout,
            layer: 1,
            heads,
            queries,
            keys: Shared::new(&mut k),
            values: Shared::new(&mut v),
            norms: Some([&norms.0, &norms.1].map(|w| Norm { kind: NormKind::Rms, weight: w, bias: &[], eps: 1e-5 })),
            norm_rows: false,
            rotation: Rotation::Interleaved,
            table,
            pairs: frequencies.len(),
            query_scale: 0.2,
            temperature: None,
        };
        let attend = Attend {
            tier,
            spans: &spans,
            tasks: &tasks,
            pages: &pages,
            layout,
            layer: 1,
            heads,
            window,
            softcap: window.map_or(0.0, |_| 3.0),
            sinks: window.map(|_| &sinks[..heads]),
            queries,
            out: Shared::new(&mut out),
            sums: Shared::new(&mut sums),
        };
        let join = Join(attend);
        let phases = [&fill as &dyn Phase, &store, &attend, &join];
        team.run(if tasks.are_cut() { &phases } else { &phases[..3] }).unwrap();
        all.extend(out);
    }
    all
}

#[test]
fn attention_is_the_same_in_all_tiers_and_however_it_is_cut() {
    if cfg!(miri) {
        // As small as it can be with the last rows cut in segments, which are shorter there.
        let [whole, cut] = [68, 66].map(|at_once| attention(&SCALAR, KvFormat::F16, (2, 4), 68, at_once, None));
        return assert_eq!(bits(&whole), bits(&cut));
    }
    for format in [KvFormat::F32, KvFormat::F16, KvFormat::Q8_0] {
        // One to nine heads share keys and values.
        for (heads, n, window) in [
            ((6, 32), 150, None),
            ((2, 20), 70, None),
            ((8, 64), 1100, None),
            ((16, 32), 300, Some(50)),
            ((4, 16), 1150, Some(100)),
            ((10, 80), 130, None),
            ((18, 16), 130, Some(70)),
        ] {
            let expected = bits(&attention(&SCALAR, format, heads, n, n, window));
            for tier in available() {
                for at_once in [n, 37, 1] {
                    let found = bits(&attention(tier, format, heads, n, at_once, window));
                    assert!(found == expected, "{} {format:?} {heads:?} {n} in {at_once} {window:?}", tier.name);
                }
            }
        }
    }
}
