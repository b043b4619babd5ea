//! The sampler against a naive twin: the definition written down with full sorts, nothing reused, nothing left out early.

use super::*;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_compose, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::Config;

/// Parameters that change nothing: every token, its own probability.
pub(super) fn neutral() -> SamplingParams {
    SamplingParams {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        penalty_last_n: None,
        logit_bias: Vec::new(),
        seed: 42,
    }
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..neutral() }
}

fn choose(params: SamplingParams, logits: &[f32]) -> u32 {
    Sampler::new(params).sample(&mut logits.to_vec(), None).0
}

// --- the twin -------------------------------------------------------------------------------------------------------

fn twin_adjusted(params: &SamplingParams, history: &[u32], logits: &[f32]) -> Vec<f32> {
    let window = params.penalty_last_n.map_or(history, |n| &history[history.len().saturating_sub(n as usize)..]);
    let mut adjusted = Vec::new();
    for (token, &logit) in (0u32..).zip(logits) {
        let mut logit = logit;
        for (_, bias) in params.logit_bias.iter().filter(|(id, _)| *id == token) {
            logit += bias;
        }
        let count = window.iter().filter(|&&id| id == token).count();
        if count > 0 {
            logit = if logit > 0.0 { logit / params.repeat_penalty } else { logit * params.repeat_penalty };
            logit -= count as f32 * params.frequency_penalty + params.presence_penalty;
        }
        adjusted.push(if logit.is_nan() { f32::NEG_INFINITY } else { logit });
    }
    adjusted
}

fn twin_weights(set: &[(u32, f32)], temperature: f32) -> Vec<u128> {
    let softmax = Softmax { max: set[0].1, temperature: f64::from(temperature) };
    set.iter().map(|&(_, logit)| u128::from(softmax.weight(logit))).collect()
}

/// The tokens that top-k, then top-p, then min-p leave, likeliest first.
fn twin_kept(params: &SamplingParams, adjusted: &[f32]) -> Vec<(u32, f32)> {
    let mut set: Vec<(u32, f32)> = (0..).zip(adjusted.iter().copied()).collect();
    set.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    if params.top_k > 0 {
        set.truncate(params.top_k as usize);
    }
    let weights = twin_weights(&set, 1.0);
    let mut kept = set.clone();
    if params.top_p < 1.0 {
        let enough = weights.iter().sum::<u128>() as f64 * f64::from(params.top_p);
        let fewest = (1..set.len()).find(|&n| weights[..n].iter().sum::<u128>() as f64 >= enough);
        kept.truncate(fewest.unwrap_or(set.len()));
    }
    if params.min_p > 0.0 {
        let softmax = Softmax { max: set[0].1, temperature: 1.0 };
        let least = f64::from(params.min_p);
        let unlikely = |&(token, logit): &(u32, f32)| token != set[0].0 && softmax.relative_probability(logit) < least;
        kept.retain(|entry| !unlikely(entry));
    }
    kept
}

fn twin_choice(params: &SamplingParams, kept: &[(u32, f32)]) -> u32 {
    if params.temperature <= 0.0 {
        return kept[0].0;
    }
    let weights = twin_weights(kept, params.temperature);
    let target = scale(generator(params.seed).next_u64(), weights.iter().sum());
    let drawn = (0..kept.len()).find(|&n| weights[..=n].iter().sum::<u128>() > target);
    kept[drawn.unwrap_or(0)].0
}

// --- properties -----------------------------------------------------------------------------------------------------

/// Few distinct values give ties; rare odd ones give the cases that break careless code.
fn any_logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -20.0f32..20.0,
        4 => (-3i32..3).prop_map(|step| step as f32 / 2.0),
        1 => prop::sample::select(vec![f32::NAN, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE]),
    ]
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let infinite = prop_oneof![9 => Just(None), 1 => (0usize..300, 0usize..300).prop_map(Some)];
    (prop::collection::vec(any_logit(), 1..300), infinite).prop_map(|(mut logits, infinite)| {
        if let Some((first, second)) = infinite {
            let count = logits.len();
            logits[first % count] = f32::INFINITY;
            logits[second % count] = f32::INFINITY;
        }
        logits
    })
}

prop_compose! {
    fn any_params()(
        temperature in prop_oneof![Just(0.0f32), Just(-1.0), Just(1e-30), Just(f32::INFINITY), 0.05f32..3.0],
        top_k in prop_oneof![Just(0u32), 1u32..5, 1u32..400],
        top_p in prop_oneof![Just(1.0f32), Just(0.0), 0.0f32..1.0],
        min_p in prop_oneof![Just(0.0f32), Just(1.0), Just(1.5), 0.0f32..0.3],
        repeat_penalty in prop_oneof![Just(1.0f32), 0.5f32..2.0],
        frequency_penalty in prop_oneof![Just(0.0f32), -2.0f32..2.0],
        presence_penalty in prop_oneof![Just(0.0f32), -2.0f32..2.0],
        penalty_last_n in prop_oneof![Just(None), (0u32..20).prop_map(Some)],
        logit_bias in prop::collection::vec((0u32..320, prop_oneof![-100.0f32..100.0, Just(f32::NEG_INFINITY)]), 0..4),
        seed in any::<u64>(),
    ) -> SamplingParams {
        SamplingParams {
            temperature, top_k, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty, penalty_last_n,
            logit_bias, seed,
        }
    }
}

proptest! {
    #![proptest_config(Config::with_cases(2000))]

    #[test]
    fn chooses_what_the_definition_chooses(
        params in any_params(),
        history in prop::collection::vec(0u32..310, 0..40),
        logits in any_logits(),
    ) {
        let adjusted = twin_adjusted(&params, &history, &logits);
        let kept = twin_kept(&params, &adjusted);

        let mut sampler = Sampler::new(params.clone());
        history.iter().for_each(|&token| sampler.accept(token));
        let (token, _) = sampler.sample(&mut logits.clone(), None);

        prop_assert!(kept.iter().any(|&(id, _)| id == token), "{token} is not among {kept:?}");
        prop_assert_eq!(token, twin_choice(&params, &kept));
    }

    #[test]
    fn what_was_sampled_before_leaves_no_trace(params in any_params(), before in any_logits(), logits in any_logits()) {
        let mut used = Sampler::new(params.clone());
        used.sample(&mut before.clone(), Some(5));
        let mut fresh = Sampler::new(params);
        fresh.random = used.random.clone();
        prop_assert_eq!(
            format!("{:?}", used.sample(&mut logits.clone(), Some(3))),
            format!("{:?}", fresh.sample(&mut logits.clone(), Some(3))),
        );
    }

    #[test]
    fn asking_for_log_probabilities_changes_no_choice(params in any_params(), logits in any_logits()) {
        let plain = choose(params.clone(), &logits);
        prop_assert_eq!(plain, Sampler::new(params).sample(&mut logits.clone(), Some(7)).0);
    }

    #[test]
    fn keeping_one_token_is_greedy(params in any_params(), logits in any_logits()) {
        let one = SamplingParams { top_k: 1, ..params.clone() };
        let greedy = SamplingParams { temperature: 0.0, ..params };
        prop_assert_eq!(choose(one, &logits), choose(greedy, &logits));
    }

    #[test]
    fn log_probabilities_are_those_of_a_softmax(logits in prop::collection::vec(-30.0f32..30.0, 1..400), count in 0usize..500) {
        let (token, logprob) = Sampler::new(neutral()).sample(&mut logits.clone(), Some(count));
        let logprob = logprob.unwrap();
        let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let expected = |id: u32| (f64::from(logits[id as usize]) - sum.ln()) as f32;

        prop_assert_eq!(logprob.token, token);
        prop_assert_eq!(logprob.top.len(), count.min(logits.len()));
        prop_assert!(logprob.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        for (id, got) in logprob.top.into_iter().chain([(token, logprob.logprob)]) {
            prop_assert!((got - expected(id)).abs() <= 1e-5 * (1.0 + expected(id).abs()), "{id}: {got}, not {}", expected(id));
        }
    }
}

// --- cases ----------------------------------------------------------------------------------------------------------

#[test]
fn greedy_takes_the_first_of_the_greatest() {
    assert_eq!(choose(greedy(), &[1.0, 3.0, 3.0, 2.0]), 1);
    assert_eq!(choose(greedy(), &[-0.0, 0.0]), 0);
}

#[test]
fn greedy_takes_no_random_number() {
    let mut sampler = Sampler::new(greedy());
    sampler.sample(&mut [1.0, 2.0], None);
    assert_eq!(sampler.random.get_word_pos(), 0);
}

#[test]
fn odd_logits_never_win() {
    let nan = f32::NAN;
    for temperature in [0.0, 1.0] {
        let params = SamplingParams { temperature, ..neutral() };
        assert_eq!(choose(params.clone(), &[nan, f32::NEG_INFINITY, -7.0, nan]), 2);
        assert_eq!(choose(params.clone(), &[nan, f32::NEG_INFINITY, nan]), 0);
        assert_eq!(choose(params, &[9.0, f32::INFINITY, nan]), 1);
    }
}

#[test]
fn infinite_logits_share() {
    let drawn: std::collections::BTreeSet<u32> = (0..64)
        .map(|seed| choose(SamplingParams { seed, ..neutral() }, &[5.0, f32::INFINITY, 5.0, f32::INFINITY]))
        .collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_bias_can_force_and_forbid() {
    let forbid = SamplingParams { logit_bias: vec![(1, f32::NEG_INFINITY), (9, 1.0)], ..greedy() };
    assert_eq!(choose(forbid, &[1.0, 3.0, 2.0]), 2);
    let force = SamplingParams { logit_bias: vec![(0, 60.0), (0, 40.0)], ..greedy() };
    assert_eq!(choose(force, &[1.0, 3.0, 2.0]), 0);
}

#[test]
fn log_probabilities_come_after_bias_and_penalties_and_before_temperature() {
    let params = SamplingParams {
        temperature: 0.1,
        presence_penalty: 1.0,
        logit_bias: vec![(1, 1.0), (2, f32::NEG_INFINITY)],
        ..neutral()
    };
    let mut sampler = Sampler::new(params);
    sampler.accept(0);
    let mut logits = [1.0, -1.0, 8.0];
    let (_, logprob) = sampler.sample(&mut logits, Some(3));

    assert_eq!(logits, [0.0, 0.0, f32::NEG_INFINITY]);
    let half = 0.5f32.ln();
    assert_eq!(logprob.unwrap().top, [(0, half), (1, half), (2, f32::NEG_INFINITY)]);
}

/// A fixed seed: the counts never change, on any machine. The bounds are five standard deviations.
#[test]
fn draws_follow_the_probabilities() {
    const DRAWS: u32 = 20_000;
    let probabilities = [0.4f64, 0.3, 0.2, 0.1];
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
    for temperature in [1.0f64, 0.5, 2.0] {
        let mut sampler = Sampler::new(SamplingParams { temperature: temperature as f32, ..neutral() });
        let mut counts = [0u32; 4];
        for _ in 0..DRAWS {
            counts[sampler.sample(&mut logits.clone(), None).0 as usize] += 1;
        }
        let total: f64 = probabilities.iter().map(|p| p.powf(1.0 / temperature)).sum();
        for (p, count) in probabilities.iter().zip(counts) {
            let p = p.powf(1.0 / temperature) / total;
            let deviation = (f64::from(DRAWS) * p * (1.0 - p)).sqrt();
            let expected = f64::from(DRAWS) * p;
            assert!((f64::from(count) - expected).abs() < 5.0 * deviation, "{count} draws, expected about {expected}");
        }
    }
}

/// Pins the whole path from seed to tokens. If this changes, every user's seeds change their meaning.
#[test]
fn a_seed_means_these_tokens() {
    let mut sampler =
        Sampler::new(SamplingParams { top_k: 40, top_p: 0.95, min_p: 0.05, temperature: 0.8, ..neutral() });
    let logits: Vec<f32> = (0..1000u32).map(|id| (id.wrapping_mul(2_654_435_761) >> 20) as f32 / 512.0).collect();
    let tokens: Vec<u32> = (0..12).map(|_| sampler.sample(&mut logits.clone(), None).0).collect();
    assert_eq!(tokens, PINNED);
}

/// Computed by another program, from the definitions of ChaCha8 and of the chain.
const PINNED: [u32; 12] = [199, 432, 110, 576, 453, 754, 110, 55, 720, 76, 631, 453];
