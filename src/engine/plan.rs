//! What a step computes, and who has the memory for it.
//!
//! Every request that decodes has a row; prompts, in order, fill up what is left. Memory goes by the same order: a request
//! that has none takes it from readers who are behind and from requests behind it, who go on later from their tokens.
use super::{Error, step_loop::Loop};
use crate::{
    cache::Budget,
    kernels::{TILE, TILES_TOGETHER},
    model::Params,
};
use std::time::Duration;

/// Rows of a step: many enough that unpacking the weights costs little, few enough that nobody waits long for its end.
/// A multiple of the kernels' tile, as are the others.
pub const ROWS: usize = TILES_TOGETHER * TILE;
/// The same for experts, each of which meets a part of them.
const ROWS_FOR_EXPERTS: usize = 2 * ROWS;
/// What reading and unpacking a weight costs, in rows that meet it.
const UNPACKING: usize = 5;
/// A prompt gets at least these, however slow they are.
const FEWEST_ALONE: usize = 12 * TILE;
const FEWEST_BESIDE_OTHERS: usize = 4 * TILE;

/// How long a prompt's rows may take: while nobody else runs (a request that comes now waits as long), and while others
/// wait for their next token. These are to come about as fast as people read, and the part of a step that all rows share
/// is to stay small.
const ALONE: Duration = Duration::from_millis(2000);
const BESIDE_OTHERS: Duration = Duration::from_millis(150);
/// By how much that may grow when more requests wait for their first token than for their next.
const MOST_PATIENCE: f64 = 3.5;

/// Most rows in a step of a model.
pub fn most_rows(params: &Params) -> usize {
    if params.experts > 0 { ROWS_FOR_EXPERTS } else { ROWS }
}

/// A prompt whose beginning another is about to compute waits for it if that saves at least this many tokens.
const WORTH_WAITING: usize = 16;

/// Can a request take part in a step?
enum Ready {
    Yes,
    /// There is no memory for it now.
    Later,
    /// There is something wrong with it, and it has been told.
    Never,
}

/// How long rows take on this machine now.
pub struct Pace {
    /// What a step costs besides its rows, as a number of rows: of experts, each row meets a part.
    shared: usize,
    /// Of a prompt, each.
    row: Option<Duration>,
    /// A step without prompts.
    decode: Option<Duration>,
}

impl Pace {
    /// Of a model, unless it has only a vocabulary.
    pub fn new(params: Option<&Params>) -> Self {
        let [experts, used] = params.map_or([1; 2], |params| [params.experts, params.experts_used].map(|n| n.max(1)));
        Self::sharing(UNPACKING * experts / used)
    }

    fn sharing(shared: usize) -> Self {
        Self { shared, row: None, decode: None }
    }

    pub fn record(&mut self, members: &[(usize, usize)], time: Duration) {
        let rows: usize = members.iter().map(|&(_, rows)| rows).sum();
        let (value, measured) = match members.iter().any(|&(_, rows)| rows > 1) {
            // Few rows meet other kernels: they say nothing about many.
            true if rows < FEWEST_BESIDE_OTHERS => return,
            true => (&mut self.row, time / (rows + self.shared) as u32),
            false => (&mut self.decode, time),
        };
        *value = Some(match *value {
            // What was much slower had something else to wait for, such as a file that was being read.
            Some(value) if measured > value / 2 => (3 * value + measured) / 4,
            _ => measured,
        });
    }

    /// Is a step whose largest part has so many rows over before a reader should be woken again?
    pub fn is_short(&self, rows: Option<usize>) -> bool {
        rows == Some(1) && self.decode.is_some_and(|time| time < Duration::from_millis(1))
    }

    /// Rows for prompts, of at most so many, given how many requests wait for their next token, and the rows that each of
    /// those lacks that wait for their first.
    fn prompt_rows(&self, most: usize, next: usize, first: &[usize]) -> usize {
        let (time, fewest) = if next == 0 {
            (ALONE, FEWEST_ALONE)
        } else {
            let patience = (1.0 + first.len().saturating_sub(1) as f64 / next as f64).min(MOST_PATIENCE);
            (BESIDE_OTHERS.mul_f64(patience), FEWEST_BESIDE_OTHERS)
        };
        let rows = self.row.map_or(fewest, |row| {
            let rows = (time.as_secs_f64() / row.as_secs_f64().max(1e-9)) as usize;
            rows.saturating_sub(self.shared).clamp(fewest, most) / TILE * TILE
        });
        // The last few go along: each would cost much more in a step of its own.
        let all: usize = first.iter().sum();
        if next == 0 && all <= rows + rows / 4 { all.min(most) } else { rows }
    }
}

impl Loop {
    /// Who takes part in the next step: index and number of rows.
    pub(super) fn plan(&mut self) -> Vec<(usize, usize)> {
        let able = self.running.iter().filter(|generation| generation.has_room() && !generation.is_over());
        let (next, first): (Vec<_>, Vec<_>) = able.partition(|generation| generation.is_decoding());
        let most = self.model.network().map_or(ROWS, |network| most_rows(&network.params));
        let first: Vec<usize> = first.iter().map(|generation| generation.pending().1).collect();
        let mut prompt_rows = self.model.scheduler.pace().prompt_rows(most, next.len(), &first);
        let mut decode_rows = most;
        let mut plan = Vec::new();
        let mut held_up = false;
        self.short_of_memory = false;
        for i in 0..self.running.len() {
            let generation = &self.running[i];
            if !generation.has_room() || generation.is_over() {
                continue;
            }
            let decodes = generation.is_decoding();
            let has_turn = if decodes {
                decode_rows > 0
            } else {
                // Nobody who came later starts before one who waits for memory.
                prompt_rows > 0 && (generation.is_started() || !held_up && !self.awaits_prefix(i))
            };
            if !has_turn {
                continue;
            }
            match self.make_ready(i) {
                Ready::Yes => {}
                Ready::Later => {
                    self.short_of_memory = true;
                    held_up |= !decodes;
                    continue;
                }
                Ready::Never => continue,
            }
            let pending = self.running[i].pending().1;
            let left = if decodes { &mut decode_rows } else { &mut prompt_rows };
            let rows = pending.min(*left);
            *left -= rows;
            plan.push((i, rows));
        }
        // One that was to take part may have given its memory up for another.
        plan.retain(|&(i, _)| self.running[i].is_started());
        plan
    }

    /// Is a request before this one about to compute tokens that both begin with?
    fn awaits_prefix(&self, i: usize) -> bool {
        let generation = &self.running[i];
        let soon = self.running[..i]
            .iter()
            .filter(|other| other.has_room() && !other.is_over() && !other.is_decoding())
            .map(|other| (generation.common(other), other.pending().0))
            .filter(|&(common, done)| common >= done + WORTH_WAITING)
            .max();
        let Some((common, _)) = soon else { return false };
        let others = self.running.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, other)| other);
        common >= generation.known(&self.model.scheduler.prefixes, others).1 + WORTH_WAITING
    }

    /// Gives a request memory for its tokens, and what is already known of them.
    fn make_ready(&mut self, i: usize) -> Ready {
        if self.running[i].must_shift() {
            return self.shift(i);
        }
        if self.running[i].is_prepared() {
            return Ready::Yes;
        }
        if self.running[i].needs() > Budget::global().attainable() {
            let (needs, most) = (self.running[i].needs(), Budget::global().attainable());
            let text = format!(
                "the request needs {needs} bytes of key/value cache, but there are never more than {most}: raise \
                 `cacheBytes` with configure(), dispose of KvCaches, or shorten the prompt"
            );
            self.running[i].fail(&self.model, Error::OutOfMemory(text));
            return Ready::Never;
        }
        if !self.running[i].is_started() {
            let (before, rest) = self.running.split_at_mut(i);
            let (generation, after) = rest.split_first_mut().expect("i is an index");
            generation.adopt(&self.model.scheduler.prefixes, before.iter().chain(after.iter()));
        }
        loop {
            let Err(error) = self.running[i].prepare() else { return Ready::Yes };
            if error.by_system {
                self.running[i].fail(&self.model, error.into());
                return Ready::Never;
            }
            let Some(victim) = self.victim(i) else { break };
            self.running[victim].release();
            self.model.scheduler.stats.lock().preempted += 1;
        }
        let generation = &mut self.running[i];
        if !generation.is_started() {
            // To copy the part of a page that it shares takes a page more than to compute it. Where all others are gone
            // already, that page may be the one that is missing.
            generation.release();
            if generation.prepare().is_ok() {
                return Ready::Yes;
            }
        }
        Ready::Later
    }

    /// Makes room in a full context.
    fn shift(&mut self, i: usize) -> Ready {
        let Some(gap) = self.running[i].gap() else { return Ready::Yes };
        while let Err(error) = self.running[i].close_gap(&self.model.scheduler.prefixes, gap) {
            if error.by_system {
                self.running[i].fail(&self.model, error.into());
                return Ready::Never;
            }
            let Some(victim) = self.victim(i) else {
                // With pages of its own it needs no more than it has.
                self.running[i].release();
                self.running[i].keep_to_itself();
                return Ready::Later;
            };
            self.running[victim].release();
            self.model.scheduler.stats.lock().preempted += 1;
        }
        if let Err(error) = self.running[i].move_back(&self.model, gap) {
            self.running[i].fail(&self.model, error);
            return Ready::Never;
        }
        Ready::Yes
    }

    /// Who gives memory up for request `i`: one whose reader is behind, or else the last of those behind it.
    fn victim(&self, i: usize) -> Option<usize> {
        let holds = |j: &usize| *j != i && self.running[*j].can_release();
        let all = || (0..self.running.len()).rev().filter(holds);
        all().find(|&j| !self.running[j].has_room()).or_else(|| all().next().filter(|&j| j > i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_get_fewer_rows_while_others_wait() {
        let rows = |pace: &Pace| {
            [(0, 1), (3, 1), (1, 9)].map(|(next, first)| pace.prompt_rows(ROWS, next, &vec![1000; first]))
        };
        let mut pace = Pace::sharing(UNPACKING);
        assert_eq!(rows(&pace), [FEWEST_ALONE, FEWEST_BESIDE_OTHERS, FEWEST_BESIDE_OTHERS]);
        pace.record(&[(0, 100)], Duration::from_millis(200));
        assert_eq!(rows(&pace), [ROWS, 70, ROWS]);
        for _ in 0..50 {
            pace.record(&[(0, 84), (1, 1)], Duration::from_secs(30));
        }
        assert_eq!(rows(&pace), [FEWEST_ALONE, FEWEST_BESIDE_OTHERS, FEWEST_BESIDE_OTHERS]);
        // Once the file is in memory, all is as if it had always been there.
        pace.record(&[(0, 100)], Duration::from_millis(200));
        assert_eq!(rows(&pace), [ROWS, 70, ROWS]);
    }

    #[test]
    fn a_few_rows_say_how_long_many_take() {
        // A row takes 4 ms, and what all share 160.
        let mut pace = Pace::sharing(40);
        pace.record(&[(0, 35)], Duration::from_millis(300));
        assert_eq!(pace.prompt_rows(ROWS_FOR_EXPERTS, 0, &[1000]), 455);
        assert_eq!(pace.prompt_rows(ROWS_FOR_EXPERTS, 1, &[1000]), FEWEST_BESIDE_OTHERS);
    }

    #[test]
    fn the_last_rows_of_a_prompt_go_along() {
        let mut pace = Pace::sharing(UNPACKING);
        assert_eq!(pace.prompt_rows(ROWS, 0, &[100]), 100);
        pace.record(&[(0, 95)], Duration::from_secs(2));
        let rows = |rows| pace.prompt_rows(ROWS, 0, &[rows]);
        assert_eq!([50, 91, 113, 114, 1000].map(rows), [50, 91, 113, 91, 91]);
        assert_eq!(pace.prompt_rows(105, 0, &[55, 55]), 105);
        assert_eq!(pace.prompt_rows(ROWS, 1, &[30]), FEWEST_BESIDE_OTHERS);
    }

    #[test]
    fn only_steps_without_prompts_are_short() {
        let mut pace = Pace::sharing(UNPACKING);
        assert!(!pace.is_short(Some(1)));
        pace.record(&[(0, 1), (1, 1)], Duration::from_micros(500));
        assert!(pace.is_short(Some(1)) && !pace.is_short(Some(2)));
    }
}
