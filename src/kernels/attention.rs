//! Phases of attention: rotate and store, then attend.
use super::{
    generic::attention::{self as kernel, CHUNK, Heads, KvFormat, Page, QueryRow, SEGMENT},
    norm::Norm,
    scalar::Rotation,
    tier::Tier,
};
use crate::compute::{Lane, Phase, Shared};
use std::ops::Range;

/// Rows of a batch that continue one sequence.
#[derive(Debug, Clone)]
pub struct Span {
    /// Rows in the batch.
    pub rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub position: usize,
    /// The first position that is there: rows see none before it.
    pub origin: usize,
    /// Where the sequence's pages start in the list of all pages of the batch; the first holds `origin`.
    pub first_page: usize,
}

/// What heads look like and where the cache keeps them, and the size of what it keeps beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub format: KvFormat,
    pub head_dim: usize,
    pub kv_heads: usize,
    /// Layers with keys and values.
    pub layers: usize,
    /// Of a sequence's recurrent state; 0: none of its layers has one.
    pub state_bytes: usize,
}

impl Span {
    /// Index of the page that holds a position in the list of all pages.
    fn page(&self, position: usize) -> usize {
        self.first_page + position / CHUNK - self.origin / CHUNK
    }
}

impl Layout {
    /// Bytes of a page: [`CHUNK`] positions of all layers.
    pub fn page_bytes(&self) -> usize {
        self.layers * self.kv_heads * 2 * self.format.head_bytes(self.head_dim)
    }

    /// Bytes of a sequence of so many pages.
    pub fn sequence_bytes(&self, pages: usize) -> u64 {
        (pages as u64).saturating_mul(self.page_bytes() as u64).saturating_add(self.state_bytes as u64)
    }

    /// Does a sequence have a recurrent state, which nobody can take back to an earlier position?
    pub fn has_state(&self) -> bool {
        self.state_bytes > 0
    }

    /// Offset of a head's keys in a page; its values follow.
    pub(super) fn keys_at(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * 2 * self.format.head_bytes(self.head_dim)
    }
}

/// Phase: fills the table of rotations of each row: `[row][cos of n pairs, sin of n pairs]`.
pub struct RotationTable<'a> {
    pub spans: &'a [Span],
    /// Angle per position of each pair.
    pub frequencies: &'a [f64],
    /// Multiplies cosine and sine.
    pub magnitude: f64,
    pub table: Shared<'a, f32>,
}

impl Phase for RotationTable<'_> {
    fn chunks(&self) -> usize {
        self.spans.iter().map(|span| span.rows.len()).sum()
    }

    fn run(&self, row: usize, _: &mut Lane) {
        let span = &self.spans[self.spans.partition_point(|span| span.rows.end <= row)];
        let position = (span.position + row - span.rows.start) as f64;
        let n = self.frequencies.len();
        // SAFETY: this row is this chunk's.
        let out = unsafe { self.table.write(row * 2 * n..(row + 1) * 2 * n) };
        let (cos, sin) = out.split_at_mut(n);
        for (i, frequency) in self.frequencies.iter().enumerate() {
            // libm is the same on every platform.
            let angle = position * frequency;
            cos[i] = (libm::cos(angle) * self.magnitude) as f32;
            sin[i] = (libm::sin(angle) * self.magnitude) as f32;
        }
    }
}

/// Phase: normalises (if asked) and rotates queries and keys, scales queries, and stores keys and values in the cache.
pub struct Store<'a> {
    pub tier: &'static Tier,
    pub spans: &'a [Span],
    pub pages: &'a [Page],
    pub layout: Layout,
    /// Layer within the page.
    pub layer: usize,
    pub heads: usize,
    /// `[rows, heads * head_dim]`.
    pub queries: Shared<'a, f32>,
    /// `[rows, kv_heads * head_dim]`.
    pub keys: Shared<'a, f32>,
    pub values: Shared<'a, f32>,
    /// Norms of queries and keys before they are rotated.
    pub norms: Option<[Norm<'a>; 2]>,
    /// These are norms of whole rows, not of each head.
    pub norm_rows: bool,
    pub rotation: Rotation,
    /// See [`RotationTable`]; `pairs` per row.
    pub table: Shared<'a, f32>,
    pub pairs: usize,
    pub query_scale: f32,
    /// Queries grow with their position: by `slope * ln(floor(position / step) + 1) + 1`.
    pub temperature: Option<Temperature>,
}

/// See [`Store::temperature`] (Nakanishi 2025, arXiv 2501.19399).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    pub slope: f32,
    pub step: usize,
}

impl Temperature {
    fn at(self, position: usize) -> f32 {
        (libm::log((position / self.step) as f64 + 1.0) * f64::from(self.slope) + 1.0) as f32
    }
}

impl Phase for Store<'_> {
    fn chunks(&self) -> usize {
        self.spans.iter().map(|span| span.rows.len()).sum()
    }

    fn run(&self, row: usize, lane: &mut Lane) {
        let span = &self.spans[self.spans.partition_point(|span| span.rows.end <= row)];
        let position = span.position + row - span.rows.start;
        let d = self.layout.head_dim;
        let (query_len, kv_len) = (self.heads * d, self.layout.kv_heads * d);
        // SAFETY: this row of the three is this chunk's; the table was written by an earlier phase.
        let (queries, keys, values, table) = unsafe {
            (
                self.queries.write(row * query_len..(row + 1) * query_len),
                self.keys.write(row * kv_len..(row + 1) * kv_len),
                self.values.read(row * kv_len..(row + 1) * kv_len),
                self.table.read(row * 2 * self.pairs..(row + 1) * 2 * self.pairs),
            )
        };
        if let Some([query_norm, key_norm]) = &self.norms {
            let scratch = lane.rows.get::<f32>(query_len.max(kv_len));
            let (query_width, key_width) = if self.norm_rows { (query_len, kv_len) } else { (d, d) };
            query_norm.apply_to_each(self.tier, query_width, queries, scratch);
            key_norm.apply_to_each(self.tier, key_width, keys, scratch);
        }
        let (cos, sin) = table.split_at(self.pairs);
        for head in queries.chunks_mut(d).chain(keys.chunks_mut(d)) {
            // SAFETY: the tier was chosen for this processor.
            unsafe { (self.tier.rotate)(self.rotation, head, cos, sin) };
        }
        let scale = self.query_scale * self.temperature.map_or(1.0, |temperature| temperature.at(position));
        for x in queries {
            *x *= scale;
        }
        let page = self.pages[span.page(position)];
        let head_bytes = self.layout.format.head_bytes(d);
        for head in 0..self.layout.kv_heads {
            let at = self.layout.keys_at(self.layer, head);
            let (key, value) = (keys[head * d..].as_ptr(), values[head * d..].as_ptr());
            // SAFETY: the page has room for the layout, and this position of it is this chunk's.
            unsafe {
                let keys = page.0.add(at);
                (self.tier.append)(self.layout.format, d, key, value, position % CHUNK, keys, keys.add(head_bytes));
            }
        }
    }
}

/// A piece of attention: some rows of a span, one key/value head with all its query heads.
#[derive(Debug, Clone)]
struct Task {
    span: usize,
    rows: Range<usize>,
    head: usize,
}

/// A batch cut into tasks; the same for all layers.
pub struct Tasks {
    tasks: Vec<Task>,
    /// Where tasks are too few for all threads and long, what they do: those of a task beside each other, in order.
    pieces: Vec<Piece>,
}

/// A segment of a task.
#[derive(Debug, Clone, Copy)]
struct Piece {
    task: usize,
    segment: usize,
    /// Query rows of the pieces before.
    first: usize,
}

/// Positions in a segment.
const SEGMENT_LEN: usize = SEGMENT * CHUNK;
/// Query rows that share one widening of keys and values.
const ROWS_TOGETHER: usize = 32;
/// With as many tasks for each thread, all threads end at about the same time.
const TASKS_PER_THREAD: usize = 2;

impl Tasks {
    pub fn new(spans: &[Span], heads: usize, kv_heads: usize, threads: usize) -> Self {
        let group = heads / kv_heads;
        let step = (ROWS_TOGETHER / group).max(1);
        let mut tasks = Vec::new();
        for (i, span) in spans.iter().enumerate() {
            for start in span.rows.clone().step_by(step) {
                let rows = start..(start + step).min(span.rows.end);
                tasks.extend((0..kv_heads).map(|head| Task { span: i, rows: rows.clone(), head }));
            }
        }
        let end = |task: &Task| spans[task.span].position + task.rows.end - spans[task.span].rows.start;
        // The longest come first, so that none is left over at the end.
        tasks.sort_by_key(|task| std::cmp::Reverse(end(task) * task.rows.len()));
        let mut pieces = Vec::new();
        if threads > 1 && tasks.len() < TASKS_PER_THREAD * threads {
            let mut first = 0;
            for (i, task) in tasks.iter().enumerate() {
                for segment in spans[task.span].origin / SEGMENT_LEN..end(task).div_ceil(SEGMENT_LEN) {
                    pieces.push(Piece { task: i, segment, first });
                    first += task.rows.len() * group;
                }
            }
            if pieces.len() == tasks.len() {
                pieces.clear();
            }
        }
        Self { tasks, pieces }
    }

    /// Are there pieces, which [`Join`] puts together?
    pub fn are_cut(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Numbers in the sums of all pieces.
    pub fn sums_len(&self, heads: usize, layout: Layout) -> usize {
        let Some(last) = self.pieces.last() else { return 0 };
        let rows = last.first + self.tasks[last.task].rows.len() * heads / layout.kv_heads;
        rows * kernel::sums_len(layout.head_dim)
    }
}

/// Phase: every row attends to the cached positions up to its own. Before [`Join`] if the tasks are cut.
#[derive(Clone, Copy)]
pub struct Attend<'a> {
    pub tier: &'static Tier,
    pub spans: &'a [Span],
    pub tasks: &'a Tasks,
    pub pages: &'a [Page],
    pub layout: Layout,
    pub layer: usize,
    pub heads: usize,
    /// Positions a row sees, its own included; `None`: all.
    pub window: Option<usize>,
    pub softcap: f32,
    /// One per head.
    pub sinks: Option<&'a [f32]>,
    /// `[rows, heads * head_dim]`, rotated and scaled.
    pub queries: Shared<'a, f32>,
    /// Same shape.
    pub out: Shared<'a, f32>,
    /// [`Tasks::sums_len`] numbers.
    pub sums: Shared<'a, f32>,
}

impl Attend<'_> {
    /// The query rows of a task; `out` says where the result of one goes, given its number and its place in the queries.
    fn rows(&self, task: &Task, out: impl Fn(usize, Range<usize>) -> *mut f32) -> Vec<QueryRow> {
        let Task { span, rows, head } = task;
        let span = &self.spans[*span];
        let d = self.layout.head_dim;
        let (group, len) = (self.heads / self.layout.kv_heads, self.heads * d);
        let mut list = Vec::with_capacity(rows.len() * group);
        // Tokens change slowest: rows beside each other mostly see the same positions.
        for row in rows.clone() {
            let end = span.position + row - span.rows.start + 1;
            let start = self.window.map_or(0, |window| end.saturating_sub(window)).max(span.origin);
            for query_head in head * group..(head + 1) * group {
                let at = row * len + query_head * d;
                // SAFETY: the queries were written by an earlier phase.
                let query = unsafe { self.queries.read(at..at + d).as_ptr() };
                let sink = self.sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[query_head]);
                list.push(QueryRow { query, out: out(list.len(), at..at + d), start, end, sink });
            }
        }
        list
    }

    /// The rows of a task whose results nobody else writes now.
    fn own_rows(&self, task: &Task) -> Vec<QueryRow> {
        // SAFETY: these rows and heads are this chunk's.
        self.rows(task, |_, at| unsafe { self.out.write(at).as_mut_ptr() })
    }
}

impl Phase for Attend<'_> {
    fn chunks(&self) -> usize {
        if self.tasks.are_cut() { self.tasks.pieces.len() } else { self.tasks.tasks.len() }
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let (d, sums_len) = (self.layout.head_dim, kernel::sums_len(self.layout.head_dim));
        let piece = self.tasks.pieces.get(chunk);
        let task = &self.tasks.tasks[piece.map_or(chunk, |piece| piece.task)];
        let list = match piece {
            None => self.own_rows(task),
            Some(piece) => self.rows(task, |i, _| {
                let at = (piece.first + i) * sums_len;
                // SAFETY: the sums of this piece are this chunk's.
                unsafe { self.sums.write(at..at + sums_len).as_mut_ptr() }
            }),
        };
        let span = &self.spans[task.span];
        let last = span.page(span.position + task.rows.end - span.rows.start - 1);
        let heads = Heads {
            format: self.layout.format,
            head_dim: d,
            pages: &self.pages[span.first_page..=last],
            first_chunk: span.origin / CHUNK,
            keys_at: self.layout.keys_at(self.layer, task.head),
            softcap: self.softcap,
        };
        let scratch = lane.partial.get::<f32>(kernel::scratch_len(d, list.len())).as_mut_ptr();
        // SAFETY: the pages hold every position that is read, written by earlier phases and steps; the tier fits.
        unsafe { (self.tier.attend)(&heads, &list, piece.map(|piece| piece.segment), scratch) }
    }
}

/// Phase: puts the pieces of each task together.
pub struct Join<'a>(pub Attend<'a>);

impl Phase for Join<'_> {
    fn chunks(&self) -> usize {
        self.0.tasks.tasks.len()
    }

    fn run(&self, task: usize, _: &mut Lane) {
        let Attend { tier, tasks, layout, sums, .. } = self.0;
        let rows = self.0.own_rows(&tasks.tasks[task]);
        let from = tasks.pieces.partition_point(|piece| piece.task < task);
        let to = tasks.pieces.partition_point(|piece| piece.task <= task);
        let (at, len) = (tasks.pieces[from].first, (to - from) * rows.len());
        let sums_len = kernel::sums_len(layout.head_dim);
        // SAFETY: the phase before wrote the sums; the tier fits.
        unsafe {
            let sums = sums.read(at * sums_len..(at + len) * sums_len);
            (tier.join)(&rows, layout.head_dim, to - from, sums.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_long_tasks_are_cut() {
        let cut = |rows, position, threads| {
            let spans = [Span { rows: 0..rows, position, origin: 0, first_page: 0 }];
            Tasks::new(&spans, 8, 2, threads).pieces.len()
        };
        let three = 3 * SEGMENT_LEN - 20;
        // Two heads with four queries each.
        assert_eq!(cut(1, three, 2), 6);
        assert_eq!(cut(1, SEGMENT_LEN - 1, 2), 0);
        assert_eq!(cut(1, SEGMENT_LEN, 2), 4);
        // One thread, or work for all.
        assert_eq!(cut(1, three, 1), 0);
        assert_eq!(cut(16, three, 2), 0);
        assert_eq!(cut(16, three, 3), 12);
    }
}
