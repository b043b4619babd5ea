//! Mixture of experts: which experts a row goes to, the phases of all experts beside each other, and the sum of what
//! they give.
use super::{scalar, tier::Tier};
use crate::compute::{Lane, Phase, Shared};

/// The experts of one row, best first, with their weights.
///
/// Softmax over all experts, the `used` likeliest (ties to the lower index); `normalised`: their weights are scaled to sum
/// to 1 (Jiang et al. 2024, arXiv 2401.04088), otherwise they stay what the softmax made them.
pub fn choose(logits: &[f32], used: usize, normalised: bool) -> Vec<(u32, f32)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut chosen: Vec<(u32, f32)> =
        logits.iter().enumerate().map(|(i, &x)| (i as u32, scalar::exp(x - max))).collect();
    let all: f32 = chosen.iter().map(|&(_, p)| p).sum();
    keep_best(&mut chosen, used);
    let sum = if normalised { chosen.iter().map(|&(_, p)| p).sum() } else { all };
    for (_, p) in &mut chosen {
        *p /= sum;
    }
    chosen
}

/// Weights of less together are divided by this, as in llama.cpp (`build_moe_ffn`).
const LEAST_SUM: f32 = 6.103_515_6e-5;

/// Another way to choose (Wang et al. 2024, arXiv 2408.15664; LFM2): the experts whose sigmoid plus bias is largest, with
/// their sigmoids, scaled to sum to 1, as weights.
pub fn choose_by_sigmoid(logits: &[f32], bias: &[f32], used: usize) -> Vec<(u32, f32)> {
    let mut chosen: Vec<(u32, f32)> =
        (0..).zip(logits.iter().zip(bias).map(|(&x, bias)| scalar::sigmoid(x) + bias)).collect();
    keep_best(&mut chosen, used);
    for (expert, weight) in &mut chosen {
        *weight = scalar::sigmoid(logits[*expert as usize]);
    }
    let sum = chosen.iter().map(|&(_, weight)| weight).sum::<f32>();
    let sum = if sum < LEAST_SUM { LEAST_SUM } else { sum };
    for (_, weight) in &mut chosen {
        *weight /= sum;
    }
    chosen
}

/// The `used` experts of the largest values, ties to the lower index.
fn keep_best(experts: &mut Vec<(u32, f32)>, used: usize) {
    // NaN sorts last, so that a damaged row still chooses valid experts.
    let rank = |p: f32| if p.is_nan() { f32::NEG_INFINITY } else { p };
    let order = |a: &(u32, f32), b: &(u32, f32)| rank(b.1).total_cmp(&rank(a.1)).then(a.0.cmp(&b.0));
    if used < experts.len() {
        experts.select_nth_unstable_by(used, order);
        experts.truncate(used);
    }
    experts.sort_unstable_by(order);
}

/// Rows grouped by the expert they go to.
pub struct Groups {
    /// Experts in order with their rows; only those that have any.
    pub groups: Vec<(usize, Vec<u32>)>,
    /// `[row][slot]`: which of all groups' rows, one after the other, this is, and its weight.
    pub places: Vec<(u32, f32)>,
}

impl Groups {
    /// `chosen` holds `slots` experts with weights for each row.
    pub fn new(chosen: &[(u32, f32)], slots: usize, experts: usize) -> Self {
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); experts];
        for (i, &(expert, _)) in chosen.iter().enumerate() {
            rows[expert as usize].push((i / slots) as u32);
        }
        let mut next: Vec<u32> =
            rows.iter().scan(0, |start, rows| Some(std::mem::replace(start, *start + rows.len() as u32))).collect();
        let groups = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).collect();
        let place = |&(expert, weight): &(u32, f32)| {
            let place = &mut next[expert as usize];
            *place += 1;
            (*place - 1, weight)
        };
        Self { groups, places: chosen.iter().map(place).collect() }
    }
}

/// Phases that do not depend on each other, as one.
pub struct Beside<'a> {
    phases: Vec<Box<dyn Phase + 'a>>,
    /// Number of chunks up to and including each phase.
    ends: Vec<usize>,
}

impl<'a> Beside<'a> {
    pub fn new(phases: Vec<Box<dyn Phase + 'a>>) -> Self {
        let ends = phases.iter().scan(0, |end, phase| {
            *end += phase.chunks();
            Some(*end)
        });
        Self { ends: ends.collect(), phases }
    }
}

impl Phase for Beside<'_> {
    fn chunks(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn in_runs(&self) -> bool {
        self.phases.iter().all(|phase| phase.in_runs())
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let index = self.ends.partition_point(|&end| end <= chunk);
        let before = if index == 0 { 0 } else { self.ends[index - 1] };
        self.phases[index].run(chunk - before, lane);
    }
}

/// What an expert that sees every row adds.
pub struct SharedExpert<'a> {
    /// `[rows, cols]`.
    pub results: Shared<'a, f32>,
    /// Logits of how much of it there is, one per row; `None`: all.
    pub gates: Option<Shared<'a, f32>>,
}

/// Phase: the sum of the experts' results for each row, in the order of the slots, then of the shared expert's.
pub struct Combine<'a> {
    pub tier: &'static Tier,
    pub slots: usize,
    /// See [`Groups::places`].
    pub places: &'a [(u32, f32)],
    /// `[place, cols]`.
    pub results: Shared<'a, f32>,
    pub shared: Option<SharedExpert<'a>>,
    /// `[rows, cols]`.
    pub out: Shared<'a, f32>,
    pub cols: usize,
}

impl Phase for Combine<'_> {
    fn chunks(&self) -> usize {
        self.places.len() / self.slots
    }

    fn run(&self, row: usize, _: &mut Lane) {
        let cols = row * self.cols..(row + 1) * self.cols;
        // SAFETY: this row is this chunk's.
        let sum = unsafe { self.out.write(cols.clone()) };
        sum.fill(0.0);
        // SAFETY: the tier was chosen for this processor.
        let mut add = |result: &[f32], weight: f32| unsafe { (self.tier.add_scaled)(weight, result, sum) };
        for &(place, weight) in &self.places[row * self.slots..(row + 1) * self.slots] {
            let at = place as usize * self.cols;
            // SAFETY: an earlier phase wrote the results.
            add(unsafe { self.results.read(at..at + self.cols) }, weight);
        }
        if let Some(SharedExpert { results, gates }) = &self.shared {
            // SAFETY (both): earlier phases wrote them.
            let weight = gates.map_or(1.0, |gates| scalar::sigmoid(unsafe { gates.read(row..row + 1)[0] }));
            add(unsafe { results.read(cols) }, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_experts_are_chosen_and_weighed() {
        let logits = [1.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY];
        let e = |x: f32| x.exp();
        for (normalised, sum) in [(true, 2.0 * e(3.0) + e(2.0)), (false, 2.0 * e(3.0) + e(2.0) + e(1.0))] {
            let chosen = choose(&logits, 3, normalised);
            assert_eq!(chosen.iter().map(|&(i, _)| i).collect::<Vec<_>>(), [1, 3, 2]);
            for ((_, p), expected) in chosen.iter().zip([e(3.0), e(3.0), e(2.0)]) {
                assert!((p - expected / sum).abs() < 1e-6, "{p}");
            }
        }
        let damaged = choose(&[f32::NAN, f32::NAN, f32::NAN], 2, true);
        assert_eq!(damaged.iter().map(|&(i, _)| i).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_bias_chooses_and_does_not_weigh() {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let chosen = choose_by_sigmoid(&[2.0, -1.0, 1.0, f32::NAN], &[0.0, 5.0, 0.0, 9.0], 2);
        assert_eq!(chosen.iter().map(|&(i, _)| i).collect::<Vec<_>>(), [1, 0]);
        let sum = sigmoid(2.0) + sigmoid(-1.0);
        assert!((chosen[0].1 - sigmoid(-1.0) / sum).abs() < 1e-6 && (chosen[1].1 - sigmoid(2.0) / sum).abs() < 1e-6);
        assert!(choose_by_sigmoid(&[-200.0], &[0.0], 1)[0].1 < 1e-30);
    }

    #[test]
    fn groups_hold_every_row_of_every_slot_once() {
        let chosen = [(4, 0.5), (1, 0.25), (1, 0.75), (0, 0.125), (4, 1.0), (1, 2.0)];
        let Groups { groups, places } = Groups::new(&chosen, 2, 6);
        assert_eq!(groups, [(0, vec![1]), (1, vec![0, 1, 2]), (4, vec![0, 2])]);
        assert_eq!(places, [(4, 0.5), (1, 0.25), (2, 0.75), (0, 0.125), (5, 1.0), (3, 2.0)]);
    }
}
