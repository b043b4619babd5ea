//! What a model's engine has done and does now.
use super::{Usage, generation::Outcome};
use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

/// Step times that are remembered for the quantiles.
const REMEMBERED: usize = 512;

/// Counters that the step loop keeps.
#[derive(Default)]
pub struct Stats(Mutex<Counters>);

#[derive(Default)]
pub struct Counters {
    pub running: usize,
    pub paused: usize,
    /// Pages that running requests alone hold.
    pub own_pages: usize,
    pub finished: u64,
    pub cancelled: u64,
    pub failed: u64,
    /// Times that a request gave its memory up for another and went on later.
    pub preempted: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    pub steps: u64,
    pub step_time: Duration,
    /// A ring of the latest.
    recent: Vec<f32>,
}

/// What `getStats` tells. Times in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct ModelStats {
    /// Requests that wait for their turn, are being tokenised or have no memory yet.
    pub queued: usize,
    pub running: usize,
    /// Of the running ones, those that wait for their reader.
    pub paused: usize,
    pub finished: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub preempted: u64,
    pub pages_used: usize,
    pub pages_cached: usize,
    pub pages_shared: usize,
    pub pages_evicted: u64,
    pub page_bytes: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    pub steps: u64,
    pub step_mean_ms: f64,
    pub step_p50_ms: f64,
    pub step_p99_ms: f64,
    pub step_max_ms: f64,
}

impl Stats {
    pub fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A request failed before it reached the loop.
    pub fn refused(&self) {
        self.lock().failed += 1;
    }

    pub fn cancelled(&self, n: usize) {
        self.lock().cancelled += n as u64;
    }
}

impl Counters {
    pub fn ended(&mut self, outcome: Outcome, usage: Usage, own_pages: usize) {
        match outcome {
            Outcome::Finished => self.finished += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Cancelled => self.cancelled += 1,
        }
        self.running = self.running.saturating_sub(1);
        self.own_pages = self.own_pages.saturating_sub(own_pages);
        self.prompt_tokens += usage.prompt_tokens as u64;
        self.cached_tokens += usage.cached_tokens as u64;
        self.completion_tokens += usage.completion_tokens as u64;
    }

    pub fn step(&mut self, time: Duration) {
        let ms = time.as_secs_f32() * 1e3;
        match self.recent.get_mut(self.steps as usize % REMEMBERED) {
            Some(slot) => *slot = ms,
            None => self.recent.push(ms),
        }
        self.steps += 1;
        self.step_time += time;
    }

    /// Mean of all, then median, 99th percentile and longest of the latest.
    pub fn step_times(&self) -> [f64; 4] {
        let mut sorted = self.recent.clone();
        sorted.sort_by(f32::total_cmp);
        let at = |q: f64| sorted.get((q * sorted.len().saturating_sub(1) as f64).round() as usize);
        let at = |q: f64| at(q).copied().map_or(0.0, f64::from);
        let mean = self.step_time.as_secs_f64() * 1e3 / self.steps.max(1) as f64;
        [mean, at(0.5), at(0.99), at(1.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_latest_steps() {
        let mut counters = Counters::default();
        assert_eq!(counters.step_times(), [0.0; 4]);
        for ms in 1..=REMEMBERED as u64 + 100 {
            counters.step(Duration::from_millis(ms));
        }
        let [mean, p50, p99, max] = counters.step_times();
        assert!((mean - 306.5).abs() < 1e-6);
        assert!((p50 - 357.0).abs() < 1.0 && (p99 - 607.0).abs() < 1.0 && (max - 612.0).abs() < 1e-3);
        assert_eq!(counters.recent.len(), REMEMBERED);
    }
}
