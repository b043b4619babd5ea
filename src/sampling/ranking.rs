//! Tokens by descending logit, ascending id among equals, sorted only as far as somebody looks.

/// The least that is sorted at a time. A usual top-k (40) needs one step.
const FIRST_BLOCK: usize = 64;
/// Logits of which only the greatest is looked at first.
const GROUP: usize = 64;

#[derive(Default)]
pub(super) struct Ranking {
    /// A key for each token that can be among those asked for: sorted up to `sorted`, and nothing after is less than
    /// anything before.
    keys: Vec<u64>,
    sorted: usize,
}

impl Ranking {
    /// Starts over with these logits, of which no more than the first `count` ranks will be asked for. NaN ranks as minus
    /// infinity.
    pub fn fill(&mut self, logits: &[f32], count: usize) {
        self.keys.clear();
        self.sorted = 0;
        if count == 0 || count >= logits.len() / GROUP {
            return self.keys.extend((0u32..).zip(logits).map(|(token, &logit)| key(token, logit)));
        }
        let greatest: Vec<f32> = logits.chunks(GROUP).map(greatest).collect();
        // `count` groups have a logit that is no less than `least`, so none that is less is asked for.
        let mut ordered = greatest.clone();
        let (_, &mut least, _) = ordered.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        for ((first, logits), greatest) in (0u32..).step_by(GROUP).zip(logits.chunks(GROUP)).zip(greatest) {
            if greatest >= least {
                let keys = (first..).zip(logits).map(|(token, &logit)| key(token, logit));
                self.keys.extend(keys.filter(|&key| logit(key) >= least));
            }
        }
    }

    pub fn token(&mut self, rank: usize) -> u32 {
        self.sort_to(rank + 1);
        self.keys[rank] as u32
    }

    pub fn logit(&mut self, rank: usize) -> f32 {
        self.sort_to(rank + 1);
        logit(self.keys[rank])
    }

    /// The logits of the first `count` ranks, in no particular order: it sorts nothing when `count` is all.
    pub fn first(&mut self, count: usize) -> impl Iterator<Item = f32> + '_ {
        if count < self.keys.len() {
            self.sort_to(count);
        }
        self.keys[..count].iter().map(|&key| logit(key))
    }

    /// Sorts the first `count` ranks. Blocks double, so that a walk over n ranks costs O(n log n) in all.
    fn sort_to(&mut self, count: usize) {
        if count <= self.sorted {
            return;
        }
        let end = count.max(2 * self.sorted).max(FIRST_BLOCK).min(self.keys.len());
        let rest = &mut self.keys[self.sorted..];
        let block = end - self.sorted;
        if block < rest.len() {
            rest.select_nth_unstable(block);
        }
        rest[..block].sort_unstable();
        self.sorted = end;
    }
}

/// The greatest of some logits; minus infinity if none is a number.
pub(super) fn greatest(logits: &[f32]) -> f32 {
    // Lanes beside each other, as instructions have them.
    let mut lanes = [f32::NEG_INFINITY; 8];
    for logits in logits.chunks(lanes.len()) {
        for (lane, &logit) in lanes.iter_mut().zip(logits) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Ascending keys are descending logits, then ascending ids.
fn key(token: u32, logit: f32) -> u64 {
    // Adding zero turns -0 into 0: they are equal, so the id decides.
    let logit = if logit.is_nan() { f32::NEG_INFINITY } else { logit + 0.0 };
    u64::from(!ascending_bits(logit)) << 32 | u64::from(token)
}

fn logit(key: u64) -> f32 {
    let bits = !((key >> 32) as u32);
    f32::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN })
}

const SIGN: u32 = 1 << 31;

/// IEEE 754 numbers order like their bits when positive and against them when negative.
fn ascending_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_by_logit_then_id() {
        let mut ranking = Ranking::default();
        ranking.fill(&[0.0, f32::NAN, -0.0, f32::INFINITY, -1.5, f32::NEG_INFINITY, 2.0], 7);
        let order: Vec<u32> = (0..7).map(|rank| ranking.token(rank)).collect();
        assert_eq!(order, [3, 6, 0, 2, 4, 1, 5]);
    }

    /// Many that are equal, and some that are no number.
    fn few_values() -> impl Strategy<Value = f32> {
        prop_oneof![Just(f32::NAN), Just(f32::NEG_INFINITY), Just(-0.0), (0i8..20).prop_map(f32::from), -9.0f32..30.0]
    }

    proptest! {
        #[test]
        fn the_first_are_those_of_all(logits in prop::collection::vec(few_values(), 1..2000), count in 1usize..40) {
            let [mut some, mut all] = [Ranking::default(), Ranking::default()];
            some.fill(&logits, count);
            all.fill(&logits, logits.len());
            for rank in 0..count.min(logits.len()) {
                prop_assert_eq!((some.token(rank), some.logit(rank)), (all.token(rank), all.logit(rank)));
            }
        }

        #[test]
        fn agrees_with_a_full_sort(logits in prop::collection::vec(any::<f32>(), 1..700), looks in prop::collection::vec(0usize..700, 1..9)) {
            let mut expected: Vec<(u32, f32)> = (0..).zip(logits.iter().map(|l| if l.is_nan() { f32::NEG_INFINITY } else { *l })).collect();
            expected.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));

            let mut ranking = Ranking::default();
            ranking.fill(&logits, logits.len());
            for look in looks {
                let rank = look % logits.len();
                prop_assert_eq!((ranking.token(rank), ranking.logit(rank)), expected[rank]);
            }
        }
    }
}
