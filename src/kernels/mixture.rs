//! Mixture of experts: which experts a row goes to, and the sum of what they give.
use super::scalar;
use crate::compute::{Lane, Phase, Shared};

/// The experts of one row, best first, with their weights.
///
/// Softmax over all experts, the `used` likeliest (ties to the lower index), weights scaled to sum to 1 (Jiang et al.
/// 2024, arXiv 2401.04088).
pub fn choose(logits: &[f32], used: usize) -> Vec<(u32, f32)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut chosen: Vec<(u32, f32)> =
        logits.iter().enumerate().map(|(i, &x)| (i as u32, scalar::exp(x - max))).collect();
    // NaN sorts last, so that a damaged row still chooses valid experts.
    let rank = |p: f32| if p.is_nan() { f32::NEG_INFINITY } else { p };
    chosen.sort_by(|a, b| rank(b.1).total_cmp(&rank(a.1)).then(a.0.cmp(&b.0)));
    chosen.truncate(used);
    let sum: f32 = chosen.iter().map(|&(_, p)| p).sum();
    for (_, p) in &mut chosen {
        *p /= sum;
    }
    chosen
}

/// Phase: adds the experts' results to each row, in the order of the slots.
pub struct Combine<'a> {
    pub slots: usize,
    /// `[row][slot]`: the row of `results`, and its weight.
    pub places: &'a [(u32, f32)],
    /// `[place, cols]`.
    pub results: Shared<'a, f32>,
    /// `[rows, cols]`.
    pub out: Shared<'a, f32>,
    pub cols: usize,
}

impl Phase for Combine<'_> {
    fn chunks(&self) -> usize {
        self.places.len() / self.slots
    }

    fn run(&self, row: usize, lane: &mut Lane) {
        let sum = lane.rows.get::<f32>(self.cols);
        sum.fill(0.0);
        for &(place, weight) in &self.places[row * self.slots..(row + 1) * self.slots] {
            let at = place as usize * self.cols;
            // SAFETY: an earlier phase wrote the results.
            let result = unsafe { self.results.read(at..at + self.cols) };
            for (sum, result) in sum.iter_mut().zip(result) {
                *sum = weight.mul_add(*result, *sum);
            }
        }
        // SAFETY: this row is this chunk's.
        let out = unsafe { self.out.write(row * self.cols..(row + 1) * self.cols) };
        out.iter_mut().zip(sum).for_each(|(out, sum)| *out += *sum);
    }
}
