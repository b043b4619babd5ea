//! The speed of each kernel as a share of what this machine can do, measured on the spot.
//!
//! Clocks and neighbours change from second to second, so every burst of a kernel stands between two bursts of its limit;
//! a line gives medians, and the median of the ratios. `bench/README.md` says how to read it.
//!
//!     cargo bench --no-default-features [-- --threads N] [--only WORD] [--rounds N] [--model FILE]
#[path = "kernels/limits.rs"]
mod limits;
#[path = "kernels/model.rs"]
mod model;
#[path = "kernels/work.rs"]
mod work;

use limits::{Limit, Limits};
use realm_node::{
    compute::{Phase, Team, available_cores},
    kernels,
};
use std::time::{Duration, Instant};

/// Long enough that waking the team does not count, short enough that the machine is the same for neighbours.
const BURST: Duration = Duration::from_millis(60);

pub struct Bench {
    team: Team,
    limits: Limits,
    rounds: usize,
    only: String,
}

/// What one run of a list of phases does.
pub struct Amount {
    /// In units of 1e9 per second: bytes, or operations (a multiplication and an addition are two).
    pub each: f64,
    pub limit: Limit,
}

impl Bench {
    /// Measures `phases` and prints a line, unless another kernel was asked for.
    pub fn measure(&self, name: &str, amount: Amount, phases: &[&dyn Phase]) {
        self.measure_runs(name, amount, &mut || self.team.run(phases).expect("no kernel panics"));
    }

    /// The same for anything that the team does.
    pub fn measure_runs(&self, name: &str, amount: Amount, run: &mut dyn FnMut()) {
        if !name.contains(&self.only) {
            return;
        }
        run();
        let (mut rates, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let before = self.limits.rate(&self.team, amount.limit);
            let rate = amount.each * burst(run);
            let limit = (before + self.limits.rate(&self.team, amount.limit)) / 2.0;
            rates.push(rate);
            limits.push(limit);
            ratios.push(rate / limit);
        }
        let (rate, limit, share) = (median(rates), median(limits), 100.0 * median(ratios));
        println!("| {name:<36} | {rate:>9.1} | {limit:>9.1} {:<22} | {share:>5.0} % |", amount.limit.name());
    }

    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.contains(name) || name.contains(&self.only)
    }
}

/// Runs per second.
pub fn burst(run: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    let mut runs = 0;
    while runs == 0 || start.elapsed() < BURST {
        run();
        runs += 1;
    }
    runs as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next().and_then(|_| arguments.next())
}

fn number(name: &str, usual: usize) -> usize {
    option(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

fn main() {
    let threads = number("--threads", available_cores());
    let bench = Bench {
        team: Team::new(threads),
        limits: Limits::new(),
        rounds: number("--rounds", 5).max(1),
        only: option("--only").unwrap_or_default(),
    };
    println!("{threads} threads, {}. Units: 1e9 bytes or operations per second.\n", kernels::tier().name);
    println!("| {:<36} | {:>9} | {:<32} | {:>7} |", "kernel", "figure", "limit", "share");
    println!("|{:-<38}|{:->10}:|{:-<34}|{:->8}:|", "", "", "", "");
    bench.limits.print(&bench.team);
    if let Some(path) = option("--model") {
        model::measure(&bench, &path);
    }
    work::decode(&bench);
    work::prefill(&bench);
    work::attention(&bench);
    work::prepare(&bench);
}
