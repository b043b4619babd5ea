//! Attention of a few query rows over cached keys and values, 64 positions at a time, with the running maximum and sum
//! of online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867).
//!
//! A row's operations are the same however many rows are computed together and wherever a prompt was cut: chunks begin
//! at multiples of 64, segments at multiples of 1024; a segment starts fresh, and segments are merged in order.
use super::vector;
use crate::kernels::simd::Simd;

/// Positions in a chunk: the unit of the cache's layout and of the softmax.
pub const CHUNK: usize = 64;
/// Chunks in a segment.
pub const SEGMENT: usize = 16;
/// Query rows that the inner loops work on together.
const ROWS: usize = 4;

/// How keys and values of one head are stored in a chunk. All layouts hold, for [`CHUNK`] positions, the keys transposed
/// in tiles of 16 positions, `[tile][dim][16]`, and the values as `[position][dim]`.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvFormat {
    F32,
    #[default]
    F16,
    /// Values of ±127 with one f32 scale per position and 32 dimensions, which follow the codes:
    /// keys `[tile][dim][16]` i8 then `[tile][dim / 32][16]` f32, values `[position][dim]` i8 then `[position][dim / 32]`.
    Q8_0,
}

impl KvFormat {
    /// Bytes of the keys (or the values) of one head in one chunk.
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => CHUNK * head_dim * 4,
            Self::F16 => CHUNK * head_dim * 2,
            Self::Q8_0 => CHUNK * (head_dim + head_dim.div_ceil(32) * 4),
        }
    }
}

/// One query row: where it is, what it may see, where its result goes.
#[derive(Clone, Copy)]
pub struct QueryRow {
    /// `head_dim` numbers, already rotated and scaled.
    pub query: *const f32,
    pub out: *mut f32,
    /// It sees positions `start..end`.
    pub start: usize,
    pub end: usize,
    /// A logit that takes part in the softmax without a value (attention sink), or -inf.
    pub sink: f32,
}

/// What is the same for all rows of a call.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub format: KvFormat,
    pub head_dim: usize,
    /// Page `i` holds chunk `first_chunk + i` of the sequence.
    pub pages: &'a [Page],
    pub first_chunk: usize,
    /// Where this head's keys and values lie in a page.
    pub keys_at: usize,
    pub values_at: usize,
    /// `score = cap * tanh(score / cap)` when not 0.
    pub softcap: f32,
}

/// Address of a page of the cache.
#[derive(Clone, Copy)]
pub struct Page(pub *mut u8);
// SAFETY: an address; who may touch what is behind it when is the contract of the phases that do.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// Numbers of scratch that [`attend`] needs for `rows` query rows.
pub fn scratch_len(head_dim: usize, rows: usize) -> usize {
    // Keys and values of a chunk, scores, the accumulator and the merged result of each row.
    2 * CHUNK * head_dim + rows * (CHUNK + 2 * head_dim + 4)
}

/// State of a row's softmax: running maximum, running sum.
#[derive(Clone, Copy)]
struct State {
    max: f32,
    sum: f32,
}
const FRESH: State = State { max: f32::NEG_INFINITY, sum: 0.0 };

/// Computes all rows. Keys and values of a chunk are widened once for all of them.
#[inline(always)]
pub unsafe fn attend<S: Simd>(heads: &Heads, rows: &[QueryRow], scratch: *mut f32) {
    unsafe {
        let d = heads.head_dim;
        let keys = scratch;
        let values = keys.add(CHUNK * d);
        let scores = values.add(CHUNK * d);
        let acc = scores.add(rows.len() * CHUNK);
        let merged = acc.add(rows.len() * d);
        let states = merged.add(rows.len() * d).cast::<[State; 2]>();
        let (start, end) =
            rows.iter().fold((usize::MAX, 0), |(start, end), row| (start.min(row.start), end.max(row.end)));
        for r in 0..rows.len() {
            *states.add(r) = [FRESH; 2];
            std::ptr::write_bytes(merged.add(r * d), 0, d);
            std::ptr::write_bytes(acc.add(r * d), 0, d);
        }
        for chunk in start / CHUNK..end.div_ceil(CHUNK) {
            let last = chunk + 1 == end.div_ceil(CHUNK);
            let next = if last { chunk } else { chunk + 1 };
            widen_keys::<S>(heads, chunk, next, keys);
            widen_values::<S>(heads, chunk, next, values);
            let base = chunk * CHUNK;
            let seen = |row: &QueryRow| (row.start.clamp(base, base + CHUNK), row.end.clamp(base, base + CHUNK));
            let mut r = 0;
            while r < rows.len() {
                let n = ROWS.min(rows.len() - r);
                let group = &rows[r..r + n];
                if group.iter().any(|row| seen(row).0 < seen(row).1) {
                    // A tile of rows shares each load of a key; rows are independent of each other.
                    match n {
                        ROWS => score_tile::<S, ROWS>(group, d, keys, scores.add(r * CHUNK)),
                        _ => {
                            for i in 0..n {
                                score_tile::<S, 1>(&group[i..i + 1], d, keys, scores.add((r + i) * CHUNK));
                            }
                        }
                    }
                    let mut same = n == ROWS;
                    for i in 0..n {
                        let (from, to) = seen(&rows[r + i]);
                        same &= (from, to) == seen(&rows[r]);
                        if from < to {
                            let state = &mut (*states.add(r + i))[0];
                            let row_acc = acc.add((r + i) * d);
                            let score = scores.add((r + i) * CHUNK);
                            softmax::<S>(heads, score, from - base, to - base, state, row_acc);
                        }
                    }
                    if same {
                        let (from, to) = seen(&rows[r]);
                        let (p, o) = (scores.add(r * CHUNK), acc.add(r * d));
                        weigh::<S, ROWS>(p, values, d, from - base, to - base, o);
                    } else {
                        for i in 0..n {
                            let (from, to) = seen(&rows[r + i]);
                            let (p, o) = (scores.add((r + i) * CHUNK), acc.add((r + i) * d));
                            weigh::<S, 1>(p, values, d, from - base, to - base, o);
                        }
                    }
                }
                r += n;
            }
            if (chunk + 1).is_multiple_of(SEGMENT) || last {
                for r in 0..rows.len() {
                    let [segment, total] = &mut *states.add(r);
                    merge(segment, total, acc.add(r * d), merged.add(r * d), d);
                }
            }
        }
        for (r, row) in rows.iter().enumerate() {
            finish(&(*states.add(r))[1], merged.add(r * d), row, d);
        }
    }
}

/// `scores[r][64]` = query r · keys, one fused multiply-add per dimension in order.
#[inline(always)]
unsafe fn score_tile<S: Simd, const R: usize>(rows: &[QueryRow], d: usize, keys: *const f32, scores: *mut f32) {
    unsafe {
        // All four tiles together if the registers hold their sums.
        if const { 4 * R <= S::REGISTERS / 2 } {
            score_part::<S, R, 4>(rows, d, keys, scores);
        } else {
            for t in 0..4 {
                score_part::<S, R, 1>(rows, d, keys.add(16 * t * d), scores.add(16 * t));
            }
        }
    }
}

/// [`score_tile`] for `T` tiles of 16 positions.
#[inline(always)]
unsafe fn score_part<S: Simd, const R: usize, const T: usize>(
    rows: &[QueryRow],
    d: usize,
    keys: *const f32,
    scores: *mut f32,
) {
    unsafe {
        let mut acc = [[S::splat(0.0); T]; R];
        for i in 0..d {
            let mut k = [S::load(keys.add(i * 16)); T];
            for t in 1..T {
                k[t] = S::load(keys.add((t * d + i) * 16));
            }
            for r in 0..R {
                let q = S::splat(*rows[r].query.add(i));
                for t in 0..T {
                    acc[r][t] = S::fma(k[t], q, acc[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                S::store(scores.add(r * CHUNK + 16 * t), acc[r][t]);
            }
        }
    }
}

/// Turns the scores of one row and chunk into weights, and rescales what was accumulated when the maximum grew.
/// Positions outside `from..to` are not seen: their weight is 0.
#[inline(always)]
unsafe fn softmax<S: Simd>(heads: &Heads, scores: *mut f32, from: usize, to: usize, state: &mut State, acc: *mut f32) {
    unsafe {
        if heads.softcap != 0.0 {
            vector::soft_cap::<S>(heads.softcap, std::slice::from_raw_parts_mut(scores, CHUNK));
        }
        for i in (0..from).chain(to..CHUNK) {
            *scores.add(i) = f32::NEG_INFINITY;
        }
        let s: [S::F; 4] = std::array::from_fn(|t| S::load(scores.add(16 * t)));
        let top = S::max_lane(S::max(S::max(S::max(s[0], s[1]), s[2]), s[3]));
        let max = if state.max > top { state.max } else { top };
        if max != state.max {
            // exp(-inf - x) is 0, and 0 * 0 for the first chunk.
            let shrink = crate::kernels::scalar::exp(state.max - max);
            state.sum *= shrink;
            let factor = S::splat(shrink);
            let whole = heads.head_dim / 16 * 16;
            for i in (0..whole).step_by(16) {
                S::store(acc.add(i), S::mul(S::load(acc.add(i)), factor));
            }
            for i in whole..heads.head_dim {
                *acc.add(i) *= shrink;
            }
            state.max = max;
        }
        let mut sum = S::splat(0.0);
        for t in 0..4 {
            let p = vector::exp::<S>(S::sub(s[t], S::splat(max)));
            sum = S::add(sum, p);
            S::store(scores.add(16 * t), p);
        }
        state.sum += S::sum(sum);
    }
}

/// `acc[r] += weights[r] · values[from..to]`, positions in order.
#[inline(always)]
unsafe fn weigh<S: Simd, const R: usize>(
    weights: *const f32,
    values: *const f32,
    d: usize,
    from: usize,
    to: usize,
    acc: *mut f32,
) {
    unsafe {
        let whole = d / 32 * 32;
        for i in (0..whole).step_by(32) {
            let (values, acc) = (values.add(i), acc.add(i));
            // All 32 dimensions together if the registers hold their sums.
            if const { 2 * R <= S::REGISTERS / 2 } {
                weigh_part::<S, R, 2>(weights, values, d, from, to, acc);
            } else {
                weigh_part::<S, R, 1>(weights, values, d, from, to, acc);
                weigh_part::<S, R, 1>(weights, values.add(16), d, from, to, acc.add(16));
            }
        }
        for r in 0..R {
            for i in whole..d {
                let o = acc.add(r * d + i);
                for j in from..to {
                    *o = (*values.add(j * d + i)).mul_add(*weights.add(r * CHUNK + j), *o);
                }
            }
        }
    }
}

/// [`weigh`] for `16 * H` dimensions.
#[inline(always)]
unsafe fn weigh_part<S: Simd, const R: usize, const H: usize>(
    weights: *const f32,
    values: *const f32,
    d: usize,
    from: usize,
    to: usize,
    acc: *mut f32,
) {
    unsafe {
        let mut o = [[S::splat(0.0); H]; R];
        for r in 0..R {
            for h in 0..H {
                o[r][h] = S::load(acc.add(r * d + 16 * h));
            }
        }
        for j in from..to {
            let mut v = [S::load(values.add(j * d)); H];
            for h in 1..H {
                v[h] = S::load(values.add(j * d + 16 * h));
            }
            for r in 0..R {
                let p = S::splat(*weights.add(r * CHUNK + j));
                for h in 0..H {
                    o[r][h] = S::fma(v[h], p, o[r][h]);
                }
            }
        }
        for r in 0..R {
            for h in 0..H {
                S::store(acc.add(r * d + 16 * h), o[r][h]);
            }
        }
    }
}

/// Adds a finished segment to the total, and makes it fresh for the next one.
#[inline(always)]
unsafe fn merge(segment: &mut State, total: &mut State, acc: *mut f32, merged: *mut f32, d: usize) {
    unsafe {
        if segment.sum == 0.0 && segment.max == f32::NEG_INFINITY {
            return;
        }
        let max = if total.max > segment.max { total.max } else { segment.max };
        let (old, new) = (crate::kernels::scalar::exp(total.max - max), crate::kernels::scalar::exp(segment.max - max));
        total.sum = segment.sum.mul_add(new, total.sum * old);
        for i in 0..d {
            *merged.add(i) = (*acc.add(i)).mul_add(new, *merged.add(i) * old);
            *acc.add(i) = 0.0;
        }
        total.max = max;
        *segment = FRESH;
    }
}

#[inline(always)]
unsafe fn finish(total: &State, merged: *const f32, row: &QueryRow, d: usize) {
    unsafe {
        let (mut sum, mut scale) = (total.sum, 1.0);
        if row.sink > f32::NEG_INFINITY {
            let max = if total.max > row.sink { total.max } else { row.sink };
            scale = crate::kernels::scalar::exp(total.max - max);
            sum = sum.mul_add(scale, crate::kernels::scalar::exp(row.sink - max));
        }
        for i in 0..d {
            *row.out.add(i) = *merged.add(i) * scale / sum;
        }
    }
}

/// The keys of a chunk as `[tile][dim][16]` numbers; those of another, which is next, are asked for.
#[inline(always)]
unsafe fn widen_keys<S: Simd>(heads: &Heads, chunk: usize, next: usize, out: *mut f32) {
    unsafe {
        let [p, next] = [chunk, next].map(|chunk| heads.pages[chunk - heads.first_chunk].0.add(heads.keys_at));
        let d = heads.head_dim;
        match heads.format {
            KvFormat::F32 => std::ptr::copy_nonoverlapping(p.cast(), out, CHUNK * d),
            KvFormat::F16 => widen_f16::<S>(p.cast(), next, CHUNK * d, out),
            KvFormat::Q8_0 => {
                let (codes, scales) = (p.cast::<i8>(), p.add(CHUNK * d).cast::<f32>());
                let groups = d.div_ceil(32);
                for tile in 0..CHUNK / 16 {
                    for i in 0..d {
                        for lane in 0..16 {
                            let at = (tile * d + i) * 16 + lane;
                            let scale = *scales.add((tile * groups + i / 32) * 16 + lane);
                            *out.add(at) = f32::from(*codes.add(at)) * scale;
                        }
                    }
                }
            }
        }
    }
}

/// Half-precision numbers, `n` of them, a multiple of 32; as many bytes from `next` on are asked for.
#[inline(always)]
unsafe fn widen_f16<S: Simd>(p: *const u16, next: *const u8, n: usize, out: *mut f32) {
    unsafe {
        for i in (0..n).step_by(32) {
            S::prefetch(next.wrapping_add(2 * i));
            S::store(out.add(i), S::from_f16(p.add(i)));
            S::store(out.add(i + 16), S::from_f16(p.add(i + 16)));
        }
    }
}

/// The values of a chunk as `[position][dim]` numbers; those of another, which is next, are asked for.
#[inline(always)]
unsafe fn widen_values<S: Simd>(heads: &Heads, chunk: usize, next: usize, out: *mut f32) {
    unsafe {
        let [p, next] = [chunk, next].map(|chunk| heads.pages[chunk - heads.first_chunk].0.add(heads.values_at));
        let d = heads.head_dim;
        match heads.format {
            KvFormat::F32 => std::ptr::copy_nonoverlapping(p.cast(), out, CHUNK * d),
            KvFormat::F16 => widen_f16::<S>(p.cast(), next, CHUNK * d, out),
            KvFormat::Q8_0 => {
                let (codes, scales) = (p.cast::<i8>(), p.add(CHUNK * d).cast::<f32>());
                let groups = d.div_ceil(32);
                for position in 0..CHUNK {
                    for i in 0..d {
                        let scale = *scales.add(position * groups + i / 32);
                        *out.add(position * d + i) = f32::from(*codes.add(position * d + i)) * scale;
                    }
                }
            }
        }
    }
}

/// Writes key and value of one position (of one head) into its chunk: `slot` is the position within the chunk.
pub unsafe fn append(
    format: KvFormat,
    head_dim: usize,
    key: *const f32,
    value: *const f32,
    slot: usize,
    keys: *mut u8,
    values: *mut u8,
) {
    unsafe {
        let (d, tile, lane) = (head_dim, slot / 16, slot % 16);
        match format {
            KvFormat::F32 => {
                for i in 0..d {
                    *keys.cast::<f32>().add((tile * d + i) * 16 + lane) = *key.add(i);
                    *values.cast::<f32>().add(slot * d + i) = *value.add(i);
                }
            }
            KvFormat::F16 => {
                let half = |x: f32| half::f16::from_f32(x).to_bits();
                for i in 0..d {
                    *keys.cast::<u16>().add((tile * d + i) * 16 + lane) = half(*key.add(i));
                    *values.cast::<u16>().add(slot * d + i) = half(*value.add(i));
                }
            }
            KvFormat::Q8_0 => {
                let groups = d.div_ceil(32);
                let (key_scales, value_scales) =
                    (keys.add(CHUNK * d).cast::<f32>(), values.add(CHUNK * d).cast::<f32>());
                for g in 0..groups {
                    let (from, n) = (32 * g, (d - 32 * g).min(32));
                    let mut codes = [0i8; 32];
                    let scale = quantize(std::slice::from_raw_parts(key.add(from), n), &mut codes);
                    *key_scales.add((tile * groups + g) * 16 + lane) = scale;
                    for i in 0..n {
                        *keys.cast::<i8>().add((tile * d + from + i) * 16 + lane) = codes[i];
                    }
                    let scale = quantize(std::slice::from_raw_parts(value.add(from), n), &mut codes);
                    *value_scales.add(slot * groups + g) = scale;
                    for i in 0..n {
                        *values.cast::<i8>().add(slot * d + from + i) = codes[i];
                    }
                }
            }
        }
    }
}

/// Codes and scale of up to 32 numbers, by the rule of `quant::activation`.
fn quantize(x: &[f32], codes: &mut [i8; 32]) -> f32 {
    let mut padded = [0.0f32; 32];
    padded[..x.len()].copy_from_slice(x);
    crate::quant::quantize_block(&padded, codes)
}
