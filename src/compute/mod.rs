//! The worker team: fork-join over cores.
