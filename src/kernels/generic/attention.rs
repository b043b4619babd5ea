//! Attention of a few query rows over cached keys and values, 64 positions at a time, with the running maximum and sum
//! of online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867).
//!
//! A row's operations are the same however many rows are computed together and wherever a prompt was cut: chunks begin
//! at multiples of 64, segments at multiples of 1024; a segment starts fresh, and segments are merged in order.
use super::{ahead, vector};
use crate::kernels::{formats::with_count, simd::Simd};
use half::slice::HalfFloatSliceExt;
use std::ops::Range;

/// Positions in a chunk: the unit of the cache's layout and of the softmax.
pub const CHUNK: usize = 64;
/// Chunks in a segment.
pub const SEGMENT: usize = if cfg!(miri) { 1 } else { 16 };
/// Most query rows that the inner loops work on together.
const fn most_rows<S: Simd>() -> usize {
    match S::REGISTERS {
        32.. => 4,
        8.. => 6,
        _ => 1,
    }
}
/// In how many parts of that size rows read F16 as it is stored. With more, it pays to widen a chunk once for all.
const fn most_direct<S: Simd>() -> usize {
    match S::REGISTERS {
        32.. => 1,
        8.. => 2,
        _ => 0,
    }
}
/// Eight heads that share keys and values are common: if those are all rows, many registers hold the sums of all.
const MANY_ROWS: usize = 8;
/// `$body` with the constant `$R` equal to `$n`, the number of rows.
macro_rules! with_rows {
    ($S:ident, $n:expr, $R:ident => $body:expr) => {
        if $S::REGISTERS >= 32 && $n == MANY_ROWS {
            with_count!([8] $n, $R => $body)
        } else if $S::REGISTERS >= 32 {
            with_count!([1 2 3 4] $n, $R => $body)
        } else if $S::REGISTERS >= 8 {
            with_count!([1 2 3 4 5 6] $n, $R => $body)
        } else {
            with_count!([1] $n, $R => $body)
        }
    };
}

/// Vectors of keys or of values that they work on together: as many as the registers hold the sums of.
const fn vectors<S: Simd>(rows: usize) -> usize {
    match S::REGISTERS / 2 / rows {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => 4,
    }
}

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
    /// As many; or the [`sums_len`] of a segment.
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
    /// Where this head's keys lie in a page; its values follow.
    pub keys_at: usize,
    /// `score = cap * tanh(score / cap)` when not 0.
    pub softcap: f32,
}

impl Heads<'_> {
    /// The keys and the values of a chunk.
    unsafe fn of(&self, chunk: usize) -> [*const u8; 2] {
        unsafe {
            let keys = self.pages[chunk - self.first_chunk].0.add(self.keys_at);
            [keys, keys.add(self.format.head_bytes(self.head_dim))]
        }
    }
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

/// Numbers that a row has of a segment: what it accumulated, the maximum, and the sum.
pub fn sums_len(head_dim: usize) -> usize {
    head_dim + 2
}

/// The next chunk.
type Ahead = ahead::Ahead<1>;

/// State of a row's softmax: running maximum, running sum.
#[derive(Clone, Copy)]
struct State {
    max: f32,
    sum: f32,
}
const FRESH: State = State { max: f32::NEG_INFINITY, sum: 0.0 };

/// A number of the cache as the inner loops read it.
trait Stored: Copy {
    /// 16 of them.
    unsafe fn load<S: Simd>(p: *const Self) -> S::F;
    fn number(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        unsafe { S::load(p) }
    }
    #[inline(always)]
    fn number(self) -> f32 {
        self
    }
}

impl Stored for half::f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        unsafe { S::from_f16(p.cast()) }
    }
    #[inline(always)]
    fn number(self) -> f32 {
        self.to_f32()
    }
}

/// Where the rows of a call keep what they have so far.
#[derive(Clone, Copy)]
struct Sums {
    /// `[row][CHUNK]`.
    scores: *mut f32,
    /// `[row][head_dim]`: of the segment.
    acc: *mut f32,
    /// Of the segment, and of those before.
    states: *mut [State; 2],
}

/// Computes all rows, or one segment of them for [`join`]. Where there are many, keys and values of a chunk are widened
/// once for all of them (see [`most_direct`]).
#[inline(always)]
pub unsafe fn attend<S: Simd>(heads: &Heads, rows: &[QueryRow], segment: Option<usize>, scratch: *mut f32) {
    unsafe {
        let d = heads.head_dim;
        let (keys, values) = (scratch, scratch.add(CHUNK * d));
        let scores = values.add(CHUNK * d);
        let acc = scores.add(rows.len() * CHUNK);
        let merged = acc.add(rows.len() * d);
        let sums = Sums { scores, acc, states: merged.add(rows.len() * d).cast() };
        let (start, end) =
            rows.iter().fold((usize::MAX, 0), |(start, end), row| (start.min(row.start), end.max(row.end)));
        for r in 0..rows.len() {
            *sums.states.add(r) = [FRESH; 2];
            std::ptr::write_bytes(merged.add(r * d), 0, d);
            std::ptr::write_bytes(acc.add(r * d), 0, d);
        }
        let many = S::REGISTERS >= 32 && rows.len() == MANY_ROWS;
        let parts = if many { 1 } else { rows.len().div_ceil(most_rows::<S>()) };
        // For each part one to a dimension of the keys, and as many with the values.
        let steps = parts * 2 * d;
        let mut chunks = start / CHUNK..end.div_ceil(CHUNK);
        if let Some(segment) = segment {
            chunks = chunks.start.max(segment * SEGMENT)..chunks.end.min((segment + 1) * SEGMENT);
        }
        for chunk in chunks.clone() {
            let last = chunk + 1 == chunks.end;
            let [k, v] = heads.of(chunk);
            let mut ahead = Ahead::new(heads.of(if last { chunk } else { chunk + 1 })[0]);
            if !last {
                ahead.allow(2 * heads.format.head_bytes(d), steps);
            }
            match heads.format {
                KvFormat::F32 => all_parts::<S, f32>(heads, rows, parts, chunk, [k.cast(), v.cast()], sums, &mut ahead),
                KvFormat::F16 if parts <= const { most_direct::<S>() } => {
                    all_parts::<S, half::f16>(heads, rows, parts, chunk, [k.cast(), v.cast()], sums, &mut ahead);
                }
                _ => {
                    widen::<S>(heads.format, d, k, v, keys, values);
                    all_parts::<S, f32>(heads, rows, parts, chunk, [keys, values], sums, &mut ahead);
                }
            }
            if segment.is_none() && ((chunk + 1).is_multiple_of(SEGMENT) || last) {
                for r in 0..rows.len() {
                    let [segment, total] = &mut *sums.states.add(r);
                    merge(*segment, total, acc.add(r * d), merged.add(r * d), d);
                    *segment = FRESH;
                    std::ptr::write_bytes(acc.add(r * d), 0, d);
                }
            }
        }
        for (r, row) in rows.iter().enumerate() {
            let [state, total] = *sums.states.add(r);
            if segment.is_some() {
                std::ptr::copy_nonoverlapping(acc.add(r * d), row.out, d);
                (*row.out.add(d), *row.out.add(d + 1)) = (state.max, state.sum);
            } else {
                finish(&total, merged.add(r * d), row, d);
            }
        }
    }
}

/// The results of rows of which each segment was computed apart: `sums` is `[segment][row][sums_len]`, segments in order.
#[inline(always)]
pub unsafe fn join(rows: &[QueryRow], d: usize, segments: usize, sums: *const f32) {
    unsafe {
        for (r, row) in rows.iter().enumerate() {
            let mut total = FRESH;
            std::ptr::write_bytes(row.out, 0, d);
            for segment in 0..segments {
                let acc = sums.add((segment * rows.len() + r) * sums_len(d));
                let state = State { max: *acc.add(d), sum: *acc.add(d + 1) };
                merge(state, &mut total, acc, row.out, d);
            }
            finish(&total, row.out, row, d);
        }
    }
}

/// One chunk of [`attend`]: the rows in parts that are as even as can be. Rows of a part share each load of a key and of a
/// value, and are independent of each other.
#[inline(always)]
unsafe fn all_parts<S: Simd, X: Stored>(
    heads: &Heads,
    rows: &[QueryRow],
    parts: usize,
    chunk: usize,
    [keys, values]: [*const X; 2],
    sums: Sums,
    ahead: &mut Ahead,
) {
    let (d, base) = (heads.head_dim, chunk * CHUNK);
    let seen = |row: &QueryRow| [row.start, row.end].map(|at| at.clamp(base, base + CHUNK) - base);
    for i in 0..parts {
        let these = i * rows.len() / parts..(i + 1) * rows.len() / parts;
        let (first, n) = (these.start, these.len());
        let rows = &rows[these];
        let some = rows.iter().map(seen).filter(|[from, to]| from < to);
        let Some([first_seen, end]) = some.reduce(|[a, b], [from, to]| [a.min(from), b.max(to)]) else { continue };
        unsafe {
            let (scores, acc) = (sums.scores.add(first * CHUNK), sums.acc.add(first * d));
            with_rows!(S, n, R => score::<S, X, R>(rows, d, keys, first_seen..end, scores, ahead));
            for (r, row) in rows.iter().enumerate() {
                let [from, to] = seen(row);
                if from < to {
                    let state = &mut (*sums.states.add(first + r))[0];
                    softmax::<S>(heads, scores.add(r * CHUNK), from, to, state, acc.add(r * d));
                }
            }
            // What all of them see they add together, what only some see each for itself, in the order of positions.
            let [from, to] = rows.iter().map(seen).fold([0, CHUNK], |[a, b], [from, to]| [a.max(from), b.min(to)]);
            let common = [from, to.max(from)];
            for within in [[0, common[0]], common, [common[1], CHUNK]] {
                let at_once = if within == common { n } else { 1 };
                for r in (0..n).step_by(at_once) {
                    let (scores, acc, [from, to]) = (scores.add(r * CHUNK), acc.add(r * d), seen(&rows[r]));
                    let seen = [from.max(within[0]), to.min(within[1])];
                    with_rows!(S, at_once, R => weigh::<S, X, R>(scores, values, d, seen, acc, ahead));
                }
            }
        }
    }
}

/// `scores[r][64]` = query r · keys, one fused multiply-add per dimension in order; of the tiles that some row sees.
#[inline(always)]
unsafe fn score<S: Simd, X: Stored, const R: usize>(
    rows: &[QueryRow],
    d: usize,
    keys: *const X,
    seen: Range<usize>,
    scores: *mut f32,
    ahead: &mut Ahead,
) {
    unsafe {
        let together = const { vectors::<S>(R) };
        let first = seen.start / (16 * together) * together;
        for t in (first..seen.end.div_ceil(16)).step_by(together) {
            let (keys, scores) = (keys.add(16 * t * d), scores.add(16 * t));
            with_count!([1 2 4] together, T => score_tiles::<S, X, R, T>(rows, d, keys, scores, ahead));
        }
    }
}

/// [`score`] of `T` tiles of 16 positions.
#[inline(always)]
unsafe fn score_tiles<S: Simd, X: Stored, const R: usize, const T: usize>(
    rows: &[QueryRow],
    d: usize,
    keys: *const X,
    scores: *mut f32,
    ahead: &mut Ahead,
) {
    unsafe {
        let mut queries = [rows[0].query; R];
        for r in 1..R {
            queries[r] = rows[r].query;
        }
        let mut sums = [[S::splat(0.0); T]; R];
        for i in 0..d {
            if i.is_multiple_of(4 / T) {
                ahead.step::<S>();
            }
            let mut k = [X::load::<S>(keys.add(i * 16)); T];
            for t in 1..T {
                k[t] = X::load::<S>(keys.add((t * d + i) * 16));
            }
            for r in 0..R {
                if T == 1 {
                    sums[r][0] = S::fma_number(k[0], queries[r], i, sums[r][0]);
                    continue;
                }
                let q = S::splat(*queries[r].add(i));
                for t in 0..T {
                    sums[r][t] = S::fma(k[t], q, sums[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                S::store(scores.add(r * CHUNK + 16 * t), sums[r][t]);
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

/// `acc[r] += weights[r] · values[from..to]`, positions in order; nothing where there are none.
#[inline(always)]
unsafe fn weigh<S: Simd, X: Stored, const R: usize>(
    weights: *const f32,
    values: *const X,
    d: usize,
    seen: [usize; 2],
    acc: *mut f32,
    ahead: &mut Ahead,
) {
    if seen[0] >= seen[1] {
        return;
    }
    unsafe {
        let together = const { vectors::<S>(R) };
        let mut i = 0;
        while i + 16 <= d {
            let (values, acc) = (values.add(i), acc.add(i));
            let n = if i + 16 * together <= d { together } else { 1 };
            with_count!([1 2 4] n, H => weigh_vectors::<S, X, R, H>(weights, values, d, seen, acc, ahead));
            i += 16 * n;
        }
        for r in 0..R {
            for i in i..d {
                let o = acc.add(r * d + i);
                for j in seen[0]..seen[1] {
                    *o = (*values.add(j * d + i)).number().mul_add(*weights.add(r * CHUNK + j), *o);
                }
            }
        }
    }
}

/// [`weigh`] of `16 * H` dimensions.
#[inline(always)]
unsafe fn weigh_vectors<S: Simd, X: Stored, const R: usize, const H: usize>(
    weights: *const f32,
    values: *const X,
    d: usize,
    [from, to]: [usize; 2],
    acc: *mut f32,
    ahead: &mut Ahead,
) {
    unsafe {
        let mut sums = [[S::splat(0.0); H]; R];
        for r in 0..R {
            for h in 0..H {
                sums[r][h] = S::load(acc.add(r * d + 16 * h));
            }
        }
        for j in from..to {
            if j.is_multiple_of(4 / H) {
                ahead.step::<S>();
            }
            let mut v = [X::load::<S>(values.add(j * d)); H];
            for h in 1..H {
                v[h] = X::load::<S>(values.add(j * d + 16 * h));
            }
            for r in 0..R {
                if H == 1 {
                    sums[r][0] = S::fma_number(v[0], weights.add(r * CHUNK), j, sums[r][0]);
                    continue;
                }
                let p = S::splat(*weights.add(r * CHUNK + j));
                for h in 0..H {
                    sums[r][h] = S::fma(v[h], p, sums[r][h]);
                }
            }
        }
        for r in 0..R {
            for h in 0..H {
                S::store(acc.add(r * d + 16 * h), sums[r][h]);
            }
        }
    }
}

/// Adds a finished segment to the total.
#[inline(always)]
unsafe fn merge(segment: State, total: &mut State, acc: *const f32, merged: *mut f32, d: usize) {
    unsafe {
        if segment.sum == 0.0 && segment.max == f32::NEG_INFINITY {
            return;
        }
        let max = if total.max > segment.max { total.max } else { segment.max };
        let (old, new) = (crate::kernels::scalar::exp(total.max - max), crate::kernels::scalar::exp(segment.max - max));
        total.sum = segment.sum.mul_add(new, total.sum * old);
        for i in 0..d {
            *merged.add(i) = (*acc.add(i)).mul_add(new, *merged.add(i) * old);
        }
        total.max = max;
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

/// Keys and values of a chunk as numbers, in the order they have.
#[inline(always)]
unsafe fn widen<S: Simd>(format: KvFormat, d: usize, k: *const u8, v: *const u8, keys: *mut f32, values: *mut f32) {
    unsafe {
        match format {
            KvFormat::F32 => unreachable!("these are numbers"),
            KvFormat::F16 => {
                for (p, out) in [(k, keys), (v, values)] {
                    for i in (0..CHUNK * d).step_by(32) {
                        S::store(out.add(i), S::from_f16(p.cast::<u16>().add(i)));
                        S::store(out.add(i + 16), S::from_f16(p.cast::<u16>().add(i + 16)));
                    }
                }
            }
            KvFormat::Q8_0 => {
                let groups = d.div_ceil(32);
                let (codes, scales) = (k.cast::<i8>(), k.add(CHUNK * d).cast::<f32>());
                for tile in 0..CHUNK / 16 {
                    for i in 0..d {
                        for lane in 0..16 {
                            let at = (tile * d + i) * 16 + lane;
                            let scale = *scales.add((tile * groups + i / 32) * 16 + lane);
                            *keys.add(at) = f32::from(*codes.add(at)) * scale;
                        }
                    }
                }
                let (codes, scales) = (v.cast::<i8>(), v.add(CHUNK * d).cast::<f32>());
                for position in 0..CHUNK {
                    for i in 0..d {
                        let scale = *scales.add(position * groups + i / 32);
                        *values.add(position * d + i) = f32::from(*codes.add(position * d + i)) * scale;
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
                let value = std::slice::from_raw_parts(value, d);
                std::slice::from_raw_parts_mut(values.cast::<half::f16>().add(slot * d), d)
                    .convert_from_f32_slice(value);
                for (g, key) in std::slice::from_raw_parts(key, d).chunks(32).enumerate() {
                    let mut halves = [half::f16::ZERO; 32];
                    halves[..key.len()].convert_from_f32_slice(key);
                    for (i, half) in halves[..key.len()].iter().enumerate() {
                        *keys.cast::<half::f16>().add((tile * d + 32 * g + i) * 16 + lane) = *half;
                    }
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
