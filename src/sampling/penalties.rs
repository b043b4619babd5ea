//! Penalties for tokens that the text has already.

use super::SamplingParams;
use std::collections::{HashMap, VecDeque};

/// How often each token is among the last `penalty_last_n`, and what that costs it.
pub(super) struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    /// How many tokens the window holds; `None` for all, 0 when there is nothing to do.
    window: Option<usize>,
    /// The window's tokens, oldest first. Stays empty when nothing ever leaves the window.
    recent: VecDeque<u32>,
    counts: HashMap<u32, u32>,
}

impl Penalties {
    pub fn new(params: &SamplingParams) -> Self {
        let (repeat, frequency, presence) = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty);
        let neutral = repeat == 1.0 && frequency == 0.0 && presence == 0.0;
        let window = if neutral { Some(0) } else { params.penalty_last_n.map(|n| n as usize) };
        Self { repeat, frequency, presence, window, recent: VecDeque::new(), counts: HashMap::new() }
    }

    pub fn accept(&mut self, token: u32) {
        if self.window == Some(0) {
            return;
        }
        *self.counts.entry(token).or_default() += 1;
        if let Some(window) = self.window {
            self.recent.push_back(token);
            if self.recent.len() > window {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some(token) = self.recent.pop_front() else { return };
        if let Some(count) = self.counts.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&token);
            }
        }
    }

    /// Lowers the logits of the tokens in the window. Each token's change is its own, so the map's order is of no account.
    ///
    /// The repeat penalty is that of CTRL (Keskar et al. 2019, section 4.1) with the usual change that it multiplies
    /// negative logits; frequency and presence are those of the OpenAI API.
    pub fn apply(&self, logits: &mut [f32]) {
        for (&token, &count) in &self.counts {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / self.repeat } else { *logit * self.repeat };
            *logit -= count as f32 * self.frequency + self.presence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::neutral;
    use super::*;

    fn penalised(params: &SamplingParams, history: &[u32], logits: &[f32]) -> Vec<f32> {
        let mut penalties = Penalties::new(params);
        history.iter().for_each(|&token| penalties.accept(token));
        let mut logits = logits.to_vec();
        penalties.apply(&mut logits);
        logits
    }

    #[test]
    fn repeat_divides_positive_and_multiplies_negative() {
        let params = SamplingParams { repeat_penalty: 2.0, ..neutral() };
        assert_eq!(penalised(&params, &[0, 1, 0], &[3.0, -3.0, 3.0]), [1.5, -6.0, 3.0]);
    }

    #[test]
    fn frequency_counts_and_presence_does_not() {
        let params = SamplingParams { frequency_penalty: 0.5, presence_penalty: 1.0, ..neutral() };
        assert_eq!(penalised(&params, &[0, 1, 0], &[3.0, 3.0, 3.0]), [1.0, 1.5, 3.0]);
    }

    #[test]
    fn the_window_forgets() {
        let params = SamplingParams { presence_penalty: 1.0, penalty_last_n: Some(2), ..neutral() };
        assert_eq!(penalised(&params, &[0, 0, 1, 2], &[0.0; 4]), [0.0, -1.0, -1.0, 0.0]);
        let all = SamplingParams { penalty_last_n: None, ..params.clone() };
        assert_eq!(penalised(&all, &[0, 0, 1, 2], &[0.0; 4]), [-1.0, -1.0, -1.0, 0.0]);
        let off = SamplingParams { penalty_last_n: Some(0), ..params };
        assert_eq!(penalised(&off, &[0, 0, 1, 2], &[0.0; 4]), [0.0; 4]);
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_ignored() {
        let params = SamplingParams { presence_penalty: 1.0, ..neutral() };
        assert_eq!(penalised(&params, &[7, u32::MAX, 1], &[0.0; 2]), [0.0, -1.0]);
    }

    #[test]
    fn neutral_penalties_remember_nothing() {
        let mut penalties = Penalties::new(&SamplingParams { penalty_last_n: None, ..neutral() });
        penalties.accept(3);
        assert!(penalties.counts.is_empty() && penalties.recent.is_empty());
    }
}
