//! Every model of the fixtures against exact arithmetic: at least as close as llama.cpp is (fixtures/README.md says how
//! to judge).
mod common;

use common::{Reference, fixtures};
use realm_node::{
    compute::Team,
    gguf::Gguf,
    kernels::{KvFormat, attention::Span, page::PageMemory},
    model::{Batch, Network, Scratch},
};
use std::sync::Arc;

/// A model and the pages of one sequence.
struct Runner {
    network: Network,
    team: Team,
    scratch: Scratch,
    format: KvFormat,
    pages: Vec<PageMemory>,
    position: usize,
}

impl Runner {
    fn new(path: &std::path::Path, format: KvFormat) -> Self {
        let network = Network::new(Arc::new(Gguf::open(path).unwrap())).unwrap();
        Self { network, team: Team::new(2), scratch: Scratch::default(), format, pages: Vec::new(), position: 0 }
    }

    fn restart(&mut self) {
        self.pages.clear();
        self.position = 0;
    }

    /// Logits after each of the tokens.
    fn push(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let layout = self.network.layout(self.format);
        let end = self.position + tokens.len();
        while self.pages.len() * 64 < end {
            self.pages.push(PageMemory::new(layout.page_bytes()).unwrap());
        }
        let pages: Vec<_> = self.pages.iter().map(|page| page.address()).collect();
        let spans = [Span { rows: 0..tokens.len(), position: self.position, origin: 0, first_page: 0 }];
        let batch = Batch { spans: &spans, pages: &pages, states: &[], layout, first_layer: 0, context: 512 };
        let all: Vec<u32> = (0..tokens.len() as u32).collect();
        self.network.embed(&self.team, tokens, &mut self.scratch).unwrap();
        let layers = 0..self.network.params.layers;
        self.network.layers(&self.team, &batch, layers, &mut self.scratch, &|| false).unwrap();
        self.network.logits(&self.team, &all, tokens.len(), &mut self.scratch).unwrap();
        self.position = end;
        let size = self.network.vocabulary_size();
        self.scratch.logits.get::<f32>(tokens.len() * size).chunks(size).map(<[f32]>::to_vec).collect()
    }
}

fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// Relative L2 error over all positions, of the median position, and mean KL divergence.
fn errors(found: &[Vec<f32>], exact: &[Vec<f32>]) -> (f64, f64, f64) {
    let square = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    let apart =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>();
    let total: f64 = found.iter().zip(exact).map(|(a, b)| apart(a, b)).sum();
    let rel_l2 = (total / exact.iter().map(|x| square(x)).sum::<f64>()).sqrt();
    let mut each: Vec<f64> = found.iter().zip(exact).map(|(a, b)| (apart(a, b) / square(b)).sqrt()).collect();
    each.sort_by(f64::total_cmp);
    let middle = (each[(each.len() - 1) / 2] + each[each.len() / 2]) / 2.0;
    let log_softmax = |x: &[f32]| -> Vec<f64> {
        let max = x.iter().fold(f64::MIN, |max, &x| max.max(f64::from(x)));
        let log_sum = x.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln() + max;
        x.iter().map(|&x| f64::from(x) - log_sum).collect()
    };
    let kl: f64 = found
        .iter()
        .zip(exact)
        .map(|(a, b)| {
            let (p, q) = (log_softmax(b), log_softmax(a));
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        })
        .sum();
    (rel_l2, middle, kl / found.len() as f64)
}

/// Fails where the best token is not the exact one although the exact one leads by more than `limit`.
fn check_argmax(name: &str, found: &[Vec<f32>], exact: &[usize], margin: &[f64], limit: f64) {
    for (i, logits) in found.iter().enumerate() {
        assert!(argmax(logits) == exact[i] || margin[i] <= limit, "{name}: best token of position {i}");
    }
}

#[test]
fn at_least_as_close_to_exact_as_llama_cpp() {
    let mut ratios = Vec::new();
    for (name, entry) in fixtures::models() {
        let reference = Reference::open(&fixtures::path("models"), entry["ref"].as_str().unwrap());
        let path = fixtures::path("models").join(entry["file"].as_str().unwrap());
        for (format, tolerance) in [(KvFormat::F16, "tolerance"), (KvFormat::F32, "tolerance_tight")] {
            let mut runner = Runner::new(&path, format);
            let tolerance = &reference.json[tolerance];
            let limit = tolerance["argmax_must_match_if_margin_above"].as_f64().unwrap();
            // Prompt 1: every position.
            let prompt = reference.prompt(1);
            let found = runner.push(&prompt.ids);
            let exact = prompt.logits();
            let (rel_l2, median, kl) = errors(&found, &exact);
            for (what, value) in [("rel_l2", rel_l2), ("rel_l2_median_position", median), ("kl_mean", kl)] {
                let granted = tolerance[what].as_f64().unwrap();
                assert!(value <= granted, "{name} {format:?}: {what} is {value:e}, granted {granted:e}");
            }
            check_argmax(&name, &found, &prompt.argmax, &prompt.margin, limit);
            let theirs = |how: &str| prompt.json["llama_cpp"][how]["rel_l2"].as_f64().unwrap();
            println!(
                "{name} {format:?}: rel_l2 {rel_l2:.2e}, llama.cpp {:.2e}",
                theirs("tight").max(theirs("default"))
            );
            if format == KvFormat::F16 && !["f32", "f16", "bf16"].contains(&entry["ftype"].as_str().unwrap()) {
                ratios.push((rel_l2 / theirs("tight").max(theirs("default"))).ln());
            }
            // Prompt 0 with the exact continuation.
            let (ids, greedy) = (reference.prompt(0).ids, reference.greedy());
            runner.restart();
            let found = runner.push(&[&ids[..], &greedy.ids[..greedy.ids.len() - 1]].concat());
            let exact: Vec<usize> = greedy.ids.iter().map(|&id| id as usize).collect();
            check_argmax(&name, &found[ids.len() - 1..], &exact, &greedy.margin, limit);
            // Prompt 2, whole and in pieces: the same bits, and close to exact.
            let prompt = reference.prompt(2);
            runner.restart();
            let whole = runner.push(&prompt.ids);
            runner.restart();
            let mut pieces = runner.push(&prompt.ids[..150]);
            for piece in [&prompt.ids[150..151], &prompt.ids[151..155], &prompt.ids[155..]] {
                pieces.extend(runner.push(piece));
            }
            let bits = |x: &[Vec<f32>]| -> Vec<u32> { x.iter().flatten().map(|x| x.to_bits()).collect() };
            assert!(bits(&whole) == bits(&pieces), "{name} {format:?}: a prompt in pieces differs");
            let from = whole.len() - prompt.argmax.len();
            check_argmax(&name, &whole[from..], &prompt.argmax, &prompt.margin, limit);
        }
    }
    let mean = (ratios.iter().sum::<f64>() / ratios.len() as f64).exp();
    println!("geometric mean of rel_l2 over llama.cpp's, {} quantised files: {mean:.3}", ratios.len());
    assert!(ratios.len() >= 33 && mean <= 1.0, "{mean} over {} files", ratios.len());
}

#[test]
fn stories_are_told_token_for_token() {
    let stories = fixtures::json("stories260K/stories.json");
    let mut told = 0;
    for (file, entry) in stories["models"].as_object().unwrap() {
        if !file.contains("f32") {
            continue;
        }
        let mut runner = Runner::new(&fixtures::path("stories260K").join(file), KvFormat::F32);
        for story in entry["stories"].as_array().unwrap() {
            let expected = common::ids(&story["exact_ids"]);
            runner.restart();
            let mut next = argmax(runner.push(&common::ids(&story["prompt_ids"])).last().unwrap()) as u32;
            let mut found = Vec::new();
            while found.len() < expected.len() {
                found.push(next);
                next = argmax(&runner.push(&[next])[0]) as u32;
            }
            assert_eq!(found, expected, "{}", story["prompt"]);
            told += 1;
        }
    }
    assert_eq!(told, 8);
}
