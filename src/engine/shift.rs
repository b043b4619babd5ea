//! What is dropped when the context is full and the caller wants to go on.
use crate::kernels::CHUNK;

/// Pages of a full context: those at the beginning that stay, and those after them that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub keep: usize,
    pub drop: usize,
}

impl Gap {
    /// Keeps a sixteenth of the context, at least a page, and drops half of the rest.
    pub fn of(context: usize) -> Option<Self> {
        let pages = context / CHUNK;
        let keep = (pages / 16).max(1);
        (pages >= 4).then(|| Self { keep, drop: (pages - keep) / 2 })
    }
}

/// Keeps the first tokens (up to a sixteenth of the context) and the latest half of it, drops what is between.
pub fn shift(tokens: &mut Vec<u32>, context: usize) {
    let keep_first = (context / 16).clamp(1, 256).min(tokens.len());
    let keep_last = (context / 2).min(tokens.len() - keep_first);
    tokens.drain(keep_first..tokens.len() - keep_last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_leaves_the_beginning_and_the_latest_half() {
        assert_eq!(Gap::of(255), None);
        assert_eq!(Gap::of(256), Some(Gap { keep: 1, drop: 1 }));
        assert_eq!(Gap::of(512), Some(Gap { keep: 1, drop: 3 }));
        assert_eq!(Gap::of(8192), Some(Gap { keep: 8, drop: 60 }));
    }

    #[test]
    fn a_shift_keeps_the_beginning_and_the_latest_half() {
        let mut tokens: Vec<u32> = (0..100).collect();
        shift(&mut tokens, 64);
        assert_eq!(tokens[..5], [0, 1, 2, 3, 68]);
        assert_eq!((tokens.len(), tokens.last()), (36, Some(&99)));
        let mut short = vec![1, 2];
        shift(&mut short, 2);
        assert_eq!(short, [1, 2][..2]);
    }
}
