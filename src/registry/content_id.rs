use super::ModelId;
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};
use xxhash_rust::xxh3::xxh3_128;

/// Large enough that hashing dominates hand-over, small enough that cancelling and progress are prompt.
const CHUNK_LEN: usize = 4 << 20;

/// The id of a model from the bytes of its shards (one for a single file), in order.
///
/// Definition, the same in every process and on every machine: each shard is cut into chunks of 4 MiB (4,194,304 bytes;
/// its last may be shorter; an empty shard has none). If there is at most one chunk in all, the id is the xxh3-128 (seed
/// 0) of its bytes, or of no bytes. Otherwise it is the xxh3-128 of the concatenated xxh3-128 digests of all chunks of
/// all shards in order, each digest as 16 bytes, little endian.
///
/// `threads` threads share the work, this one among them. Between its chunks this thread calls `progress` with the
/// fraction that is done and polls `cancelled`; `None` means that it was cancelled.
pub fn content_id<'a>(
    shards: impl Iterator<Item = &'a [u8]>,
    threads: usize,
    progress: &mut dyn FnMut(f64),
    cancelled: &dyn Fn() -> bool,
) -> Option<ModelId> {
    let chunks: Vec<&[u8]> = shards.flat_map(|shard| shard.chunks(CHUNK_LEN)).collect();
    let digests = hash_chunks(&chunks, threads, progress, cancelled)?;
    Some(ModelId(match digests[..] {
        [] => xxh3_128(&[]),
        [only] => only,
        _ => xxh3_128(&digests.iter().flat_map(|digest| digest.to_le_bytes()).collect::<Vec<u8>>()),
    }))
}

/// The chunks, and which of them are taken and done.
struct Work<'a> {
    chunks: &'a [&'a [u8]],
    next: AtomicUsize,
    done: AtomicUsize,
    stop: AtomicBool,
}

fn hash_chunks(
    chunks: &[&[u8]],
    threads: usize,
    progress: &mut dyn FnMut(f64),
    cancelled: &dyn Fn() -> bool,
) -> Option<Vec<u128>> {
    let work = Work { chunks, next: AtomicUsize::new(0), done: AtomicUsize::new(0), stop: AtomicBool::new(false) };
    let mut found = thread::scope(|scope| {
        // A thread that cannot be started is not missed: this one hashes whatever nobody took.
        let helper = |_| thread::Builder::new().name("realm-hash".into()).spawn_scoped(scope, || work.hash(&mut || {}));
        let helpers: Vec<_> = (1..threads.min(chunks.len())).map_while(|i| helper(i).ok()).collect();
        let mut found = work.hash(&mut || {
            progress(work.done.load(Relaxed) as f64 / chunks.len().max(1) as f64);
            work.stop.fetch_or(cancelled(), Relaxed);
        });
        for helper in helpers {
            found.extend(helper.join().expect("hashing does not panic"));
        }
        found
    });
    if work.stop.load(Relaxed) || cancelled() {
        return None;
    }
    progress(1.0);
    found.sort_unstable_by_key(|(i, _)| *i);
    Some(found.into_iter().map(|(_, digest)| digest).collect())
}

impl Work<'_> {
    /// Hashes chunks until all are taken; `between` is called before each. Returns digests with their chunks' indices.
    fn hash(&self, between: &mut dyn FnMut()) -> Vec<(usize, u128)> {
        let mut found = Vec::new();
        loop {
            between();
            if self.stop.load(Relaxed) {
                return found;
            }
            // Relaxed is enough: the counter only deals out indices, and joining the threads publishes what they found.
            let i = self.next.fetch_add(1, Relaxed);
            let Some(chunk) = self.chunks.get(i) else { return found };
            found.push((i, xxh3_128(chunk)));
            self.done.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, iter};

    fn id(shards: &[&[u8]], threads: usize) -> ModelId {
        content_id(shards.iter().copied(), threads, &mut |_| {}, &|| false).unwrap()
    }

    fn some_bytes(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    #[test]
    fn small_content_has_the_plain_hash() {
        // The digest of nothing is the first test vector of the xxHash project.
        assert_eq!(id(&[], 1).to_string(), "99aa06d3014798d86001c324468d497f");
        assert_eq!(id(&[b""], 4), id(&[], 1));
        assert_eq!(id(&[b"GGUF"], 4), ModelId(xxh3_128(b"GGUF")));
        assert_eq!(id(&[b"", b"GGUF"], 4), ModelId(xxh3_128(b"GGUF")));
        let chunk = some_bytes(CHUNK_LEN);
        assert_eq!(id(&[&chunk], 4), ModelId(xxh3_128(&chunk)));
    }

    #[test]
    fn large_content_has_the_hash_of_its_chunks_hashes() {
        let bytes = some_bytes(2 * CHUNK_LEN + 5);
        let (first, rest) = bytes.split_at(CHUNK_LEN);
        let (second, third) = rest.split_at(CHUNK_LEN);
        let digests: Vec<u8> = [first, second, third].iter().flat_map(|chunk| xxh3_128(chunk).to_le_bytes()).collect();
        for threads in [0, 1, 2, 3, 64] {
            assert_eq!(id(&[&bytes], threads), ModelId(xxh3_128(&digests)), "{threads} threads");
        }
    }

    #[test]
    fn every_shard_begins_a_chunk() {
        let (a, b) = (&b"one"[..], &b"two"[..]);
        let digests = [xxh3_128(a).to_le_bytes(), xxh3_128(b).to_le_bytes()].concat();
        assert_eq!(id(&[a, b], 2), ModelId(xxh3_128(&digests)));
        assert_ne!(id(&[b, a], 2), id(&[a, b], 2));
    }

    #[test]
    fn progress_rises_to_one() {
        let bytes = some_bytes(5 * CHUNK_LEN);
        let mut seen = Vec::new();
        content_id(iter::once(&bytes[..]), 2, &mut |fraction| seen.push(fraction), &|| false).unwrap();
        assert!(seen.is_sorted() && seen[0] >= 0.0 && seen.last() == Some(&1.0), "{seen:?}");
    }

    #[test]
    fn nothing_to_do_is_finite_progress() {
        let mut seen = Vec::new();
        content_id(iter::empty(), 2, &mut |fraction| seen.push(fraction), &|| false).unwrap();
        assert!(seen.iter().all(|fraction| (0.0..=1.0).contains(fraction)), "{seen:?}");
    }

    #[test]
    fn stops_when_cancelled() {
        let bytes = some_bytes(4 * CHUNK_LEN);
        let polls = Cell::new(0);
        let cancelled = || {
            polls.set(polls.get() + 1);
            polls.get() > 2
        };
        assert_eq!(content_id(iter::once(&bytes[..]), 1, &mut |_| {}, &cancelled), None);
        assert_eq!(polls.get(), 3, "two chunks were hashed, then it stopped");
    }
}
