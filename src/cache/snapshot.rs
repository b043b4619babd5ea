//! A sequence as bytes, to be kept in a file or sent elsewhere, and back.
//!
//! Little-endian. Version 1, and 2 for models with recurrent layers:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `realm-kv` |
//! | 4 | version |
//! | 16 | id of the model |
//! | 5 × 4 | format (0 F32, 1 F16, 2 Q8_0), numbers in a head, key/value heads, layers, positions in a page |
//! | 8 | most tokens that the cache may hold |
//! | 8 | positions held |
//! | … | the pages, as in memory; what lies behind the last position is zero |
//! | … | version 2, if positions are held: the recurrent state after the last |
//! | 16 | xxh3-128 of everything before |
//!
//! Bytes that are not exactly this, for this model and layout, are refused before memory is taken.
use super::{OutOfMemory, Sequence};
use crate::kernels::{CHUNK, KvFormat, attention::Layout};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 8] = b"realm-kv";
/// Of layouts without and with a recurrent state.
const VERSIONS: [u32; 2] = [1, 2];
const HEADER: usize = 8 + 4 + 16 + 5 * 4 + 8 + 8;
const CHECKSUM: usize = 16;

/// What a sequence is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub model: u128,
    pub layout: Layout,
    pub max_tokens: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Bad(String),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Positions `0..len` of a sequence that begins at 0.
pub fn save(origin: &Origin, sequence: &Sequence, len: usize) -> Vec<u8> {
    let page_bytes = origin.layout.page_bytes();
    let pages = len.div_ceil(CHUNK);
    let mut bytes = Vec::with_capacity(HEADER + pages * page_bytes + CHECKSUM);
    bytes.extend(MAGIC);
    bytes.extend(version(&origin.layout).to_le_bytes());
    bytes.extend(origin.model.to_le_bytes());
    bytes.extend(shape(&origin.layout).iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(origin.max_tokens.to_le_bytes());
    bytes.extend((len as u64).to_le_bytes());
    for page in &sequence.pages[..pages] {
        bytes.extend_from_slice(page.memory.bytes());
    }
    if !len.is_multiple_of(CHUNK) {
        let last = bytes.len() - page_bytes;
        clear(&origin.layout, &mut bytes[last..], len % CHUNK);
    }
    if let Some(state) = sequence.state.as_ref().filter(|_| len > 0) {
        bytes.extend_from_slice(state.memory.bytes());
    }
    bytes.extend(xxh3_128(&bytes).to_le_bytes());
    bytes
}

fn version(layout: &Layout) -> u32 {
    VERSIONS[usize::from(layout.has_state())]
}

/// The sequence that was saved, how many positions it holds, and how many it may. `layout` gives the model's layout for a
/// format.
pub fn load(
    bytes: &[u8],
    model: u128,
    layout: impl FnOnce(KvFormat) -> Layout,
) -> Result<(Sequence, usize, usize), Error> {
    let bad = |text: String| Error::Bad(format!("this is no snapshot for this model: {text}"));
    if bytes.len() < HEADER + CHECKSUM {
        return Err(bad(format!("it has {} bytes, expected at least {}", bytes.len(), HEADER + CHECKSUM)));
    }
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if &content[..8] != MAGIC {
        return Err(bad("it does not begin with 'realm-kv'".into()));
    }
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| content[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| content[at + i]));
    let found_version = u32_at(8);
    if !VERSIONS.contains(&found_version) {
        return Err(bad(format!("it is of version {found_version}, expected {} or {}", VERSIONS[0], VERSIONS[1])));
    }
    if xxh3_128(content).to_le_bytes() != checksum {
        return Err(bad("its checksum does not fit: it is damaged or cut short".into()));
    }
    let found = u128::from_le_bytes(std::array::from_fn(|i| content[12 + i]));
    if found != model {
        return Err(bad(format!("it was made with model {found:032x}, not with {model:032x}")));
    }
    let found: [u32; 5] = std::array::from_fn(|i| u32_at(28 + 4 * i));
    let format = match found[0] {
        0 => KvFormat::F32,
        1 => KvFormat::F16,
        2 => KvFormat::Q8_0,
        other => return Err(bad(format!("its format is {other}, expected 0, 1 or 2"))),
    };
    let layout = layout(format);
    if found != shape(&layout) {
        return Err(bad(format!("its layout is {found:?}, expected {:?}", shape(&layout))));
    }
    if found_version != version(&layout) {
        return Err(bad(format!("it is of version {found_version}, expected {} for this model", version(&layout))));
    }
    let (max_tokens, len) = (u64_at(48), u64_at(56));
    let held = &content[HEADER..];
    let state_bytes = if len > 0 { layout.state_bytes } else { 0 };
    let pages = len.div_ceil(CHUNK as u64).checked_mul(layout.page_bytes() as u64);
    let expected = pages.and_then(|pages| pages.checked_add(state_bytes as u64));
    if max_tokens == 0 || len > max_tokens || max_tokens > u32::MAX.into() || expected != Some(held.len() as u64) {
        let held = held.len();
        return Err(bad(format!("it says {len} of at most {max_tokens} positions, but has {held} bytes of them")));
    }
    let mut sequence = Sequence::pinned(layout);
    if len > 0 {
        let (pages, state) = held.split_at(held.len() - state_bytes);
        sequence.fill(pages, state)?;
    }
    Ok((sequence, len as usize, max_tokens as usize))
}

fn shape(layout: &Layout) -> [u32; 5] {
    let format = match layout.format {
        KvFormat::F32 => 0,
        KvFormat::F16 => 1,
        KvFormat::Q8_0 => 2,
    };
    [format, layout.head_dim as u32, layout.kv_heads as u32, layout.layers as u32, CHUNK as u32]
}

/// Zeroes the positions of a page from `from` on: what they hold is left over from something else.
fn clear(layout: &Layout, page: &mut [u8], from: usize) {
    let d = layout.head_dim;
    for block in page.chunks_mut(2 * layout.format.head_bytes(d)) {
        let (keys, values) = block.split_at_mut(layout.format.head_bytes(d));
        match layout.format {
            KvFormat::F32 => clear_parts(keys, values, 4, d, from),
            KvFormat::F16 => clear_parts(keys, values, 2, d, from),
            KvFormat::Q8_0 => {
                let ((keys, key_scales), (values, value_scales)) =
                    (keys.split_at_mut(CHUNK * d), values.split_at_mut(CHUNK * d));
                clear_parts(keys, values, 1, d, from);
                clear_parts(key_scales, value_scales, 4, d.div_ceil(32), from);
            }
        }
    }
}

/// Keys lie as `[tile][n][16]`, values as `[position][n]`, each element `size` bytes.
fn clear_parts(keys: &mut [u8], values: &mut [u8], size: usize, n: usize, from: usize) {
    for (i, key) in keys.chunks_mut(size).enumerate() {
        let (tile, lane) = (i / (16 * n), i % 16);
        if 16 * tile + lane >= from {
            key.fill(0);
        }
    }
    values[from * n * size..].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tier;
    use proptest::prelude::*;

    const MODEL: u128 = 0x0123_4567_89ab_cdef;

    fn layout(format: KvFormat) -> Layout {
        Layout { format, head_dim: 40, kv_heads: 2, layers: 3, state_bytes: 0 }
    }

    fn origin(format: KvFormat) -> Origin {
        Origin { model: MODEL, layout: layout(format), max_tokens: 500 }
    }

    /// A sequence with numbers in the first `len` positions and others in the rest of the last page.
    fn written(format: KvFormat, len: usize, rest: f32) -> Sequence {
        let layout = layout(format);
        let mut sequence = Sequence::pinned(layout);
        sequence.prepare(0, len).unwrap();
        let mut pages = Vec::new();
        sequence.addresses(&mut pages);
        for position in 0..pages.len() * CHUNK {
            let x = if position < len { position as f32 + 0.5 } else { rest };
            let row = vec![x; layout.head_dim];
            for block in 0..layout.layers * layout.kv_heads {
                let head = layout.format.head_bytes(layout.head_dim);
                // SAFETY: the page has room for all blocks of the layout, and nobody else uses it.
                unsafe {
                    let keys = pages[position / CHUNK].0.add(2 * head * block);
                    let row = row.as_ptr();
                    (tier().append)(format, layout.head_dim, row, row, position % CHUNK, keys, keys.add(head));
                }
            }
        }
        sequence
    }

    #[test]
    fn what_is_loaded_is_what_was_saved() {
        for format in [KvFormat::F32, KvFormat::F16, KvFormat::Q8_0] {
            for len in [1, 63, 64, 100, 130] {
                let bytes = save(&origin(format), &written(format, len, 7.0), len);
                // What lies behind the last position is no part of it.
                assert_eq!(bytes, save(&origin(format), &written(format, len, 0.0), len), "{format:?} {len}");
                let (sequence, found, most) = load(&bytes, MODEL, layout).unwrap();
                assert_eq!((found, most, sequence.layout()), (len, 500, layout(format)));
                assert_eq!(save(&origin(format), &sequence, len), bytes);
            }
        }
    }

    #[test]
    fn a_recurrent_state_goes_along() {
        let hybrid = |format| Layout { state_bytes: 40, ..layout(format) };
        let origin = Origin { layout: hybrid(KvFormat::F16), ..origin(KvFormat::F16) };
        let mut sequence = Sequence::pinned(origin.layout);
        sequence.prepare(0, 70).unwrap();
        let state = sequence.state.as_mut().and_then(std::sync::Arc::get_mut).unwrap();
        state.memory.bytes_mut().fill(7);
        let bytes = save(&origin, &sequence, 70);
        let (loaded, found, _) = load(&bytes, MODEL, hybrid).unwrap();
        assert_eq!((found, loaded.state.as_ref().unwrap().memory.bytes()), (70, &[7; 40][..]));
        assert_eq!(save(&origin, &loaded, 70), bytes);
        let empty = save(&origin, &Sequence::pinned(origin.layout), 0);
        assert_eq!(load(&empty, MODEL, hybrid).unwrap().1, 0);
        let refused = |bytes: &[u8]| load(bytes, MODEL, hybrid).err().expect("refused").to_string();
        assert!(refused(&forged(bytes.clone(), 8, &[1])).contains("version 1, expected 2"));
        assert!(refused(&forged(bytes, 56, &0u64.to_le_bytes())).contains("0 of at most 500 positions"));
        assert!(load(&empty, MODEL, layout).is_err());
    }

    #[test]
    fn an_empty_cache_is_a_snapshot_too() {
        let bytes = save(&origin(KvFormat::F16), &Sequence::pinned(layout(KvFormat::F16)), 0);
        assert_eq!(bytes.len(), HEADER + CHECKSUM);
        assert_eq!(load(&bytes, MODEL, layout).unwrap().1, 0);
    }

    /// As a forger would: the checksum fits.
    fn forged(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
        bytes[at..at + value.len()].copy_from_slice(value);
        let end = bytes.len() - CHECKSUM;
        let sum = xxh3_128(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn another_model_layout_version_or_size_is_refused() {
        let bytes = save(&origin(KvFormat::F16), &written(KvFormat::F16, 70, 0.0), 70);
        let refused = |bytes: &[u8], says: &str| {
            let error = load(bytes, MODEL, layout).err().expect("refused").to_string();
            assert!(error.contains(says), "{error}");
        };
        refused(&forged(bytes.clone(), 8, &[2]), "version 2");
        refused(&forged(bytes.clone(), 12, &[0]), "made with model");
        refused(&forged(bytes.clone(), 28, &[9]), "format is 9");
        refused(&forged(bytes.clone(), 32, &[64]), "layout");
        for len in [0, 64, 129, 500, u64::MAX] {
            refused(&forged(bytes.clone(), 56, &len.to_le_bytes()), "positions");
        }
        for most in [0, 69, u64::MAX] {
            refused(&forged(bytes.clone(), 48, &most.to_le_bytes()), "positions");
        }
        let other = |format| Layout { layers: 4, ..layout(format) };
        assert!(load(&bytes, MODEL, other).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn a_damaged_snapshot_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let bytes = save(&origin(KvFormat::Q8_0), &written(KvFormat::Q8_0, 65, 0.0), 65);
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(load(&flipped, MODEL, layout).is_err());
            prop_assert!(load(&bytes[..cut.index(bytes.len())], MODEL, layout).is_err());
            let mut longer = bytes.clone();
            longer.push(0);
            prop_assert!(load(&longer, MODEL, layout).is_err());
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(load(&bytes, MODEL, layout).is_err());
        }
    }
}
