//! Phases that multiply: activations are prepared once per input, then weights meet them.
use super::{
    generic::{
        ahead::prefetch_near,
        columns, float,
        panel::{self, GROUP_ROWS, LONE_TILE, TILE, Tile32, Tile256},
    },
    norm::Norm,
    scalar::Glu,
    tier::{Panels, Tier},
};
use crate::{
    compute::{Aligned, Lane, Phase, Shared},
    gguf::TensorType,
    quant::{self, Act32x8, Act256, Activation},
};
use std::ops::Range;

/// A weight matrix in the file: `rows` rows of `cols` elements each.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    ty: TensorType,
    data: &'a [u8],
    rows: usize,
    cols: usize,
    scale: f32,
}

impl<'a> Weight<'a> {
    /// Panics unless `data` is exactly `rows` × `cols` elements of a type that can be computed with: shapes and types are
    /// checked when a model is loaded.
    pub fn new(ty: TensorType, data: &'a [u8], rows: usize, cols: usize) -> Self {
        assert!(quant::is_supported(ty) && cols.is_multiple_of(ty.block_len()), "{cols} columns of {}", ty.name());
        let weight = Self { ty, data, rows, cols, scale: 1.0 };
        assert_eq!(data.len(), rows * weight.row_bytes(), "bytes of {rows} rows of {cols} {}", ty.name());
        weight
    }

    /// The same elements, all times `scale`: products are multiplied by it, before a bias is added.
    pub fn scaled(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn needs(&self) -> Needs {
        Needs::of(self.ty)
    }

    fn row_bytes(&self) -> usize {
        self.cols / self.ty.block_len() * self.ty.block_bytes()
    }

    fn activation(&self) -> Activation {
        quant::activation(self.ty).expect("checked in `new`")
    }

    /// Dequantises one row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let bytes = self.row_bytes();
        quant::dequantize_row(self.ty, &self.data[row * bytes..(row + 1) * bytes], out).expect("checked in `new`");
        self.multiply(out);
    }

    fn multiply(&self, out: &mut [f32]) {
        if self.scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= self.scale);
        }
    }
}

/// The forms of activations that a set of weights multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    plain: bool,
    a256: bool,
    a32: bool,
    /// Some codes are too large for the narrow sums of [`Simd`](super::simd::Simd).
    wide: bool,
}

impl Needs {
    fn of(ty: TensorType) -> Self {
        let form = quant::activation(ty);
        Self {
            plain: form == Some(Activation::F32),
            a256: form == Some(Activation::A256),
            a32: form == Some(Activation::A32),
            wide: matches!(ty, TensorType::Q8_0 | TensorType::IQ4_NL | TensorType::IQ4_XS),
        }
    }

    pub fn and(self, other: Self) -> Self {
        Self {
            plain: self.plain | other.plain,
            a256: self.a256 | other.a256,
            a32: self.a32 | other.a32,
            wide: self.wide | other.wide,
        }
    }
}

/// Memory for the prepared activations of one input; kept from step to step.
#[derive(Default)]
pub struct InputBuffer {
    plain: Aligned,
    a256: Aligned,
    a32: Aligned,
}

/// Prepared activations: `tokens` rows of `cols` numbers in each of the forms that are needed. With few tokens they are
/// rows, of blocks where the form is quantised; with many they are tiles.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    tokens: usize,
    cols: usize,
    needs: Needs,
    /// Most tokens in a tile, if they are tiled.
    tile: Option<usize>,
    plain: Shared<'a, f32>,
    rows_256: Shared<'a, Act256>,
    rows_32: Shared<'a, Act32x8>,
    tiles_256: Shared<'a, Tile256>,
    tiles_32: Shared<'a, Tile32>,
}

impl Inputs<'_> {
    /// Chunks of the phases that write them: a tile or a row each.
    fn chunks(&self) -> usize {
        chunks(self.tokens, self.tile)
    }

    /// The tokens of a chunk: all tiles are full or one short of it, as even as can be.
    fn tokens_of(&self, chunk: usize) -> Range<usize> {
        let chunks = self.chunks();
        chunk * self.tokens / chunks..(chunk + 1) * self.tokens / chunks
    }

    /// Writes the tokens of a chunk as plain numbers.
    fn set_plain(&self, chunk: usize, rows: &[&[f32]]) {
        let len = if self.tile.is_some() { columns::tile_len(self.cols) } else { self.cols };
        // SAFETY: these tokens, or this tile, are this chunk's.
        let out = unsafe { self.plain.write(chunk * len..(chunk + 1) * len) };
        match self.tile {
            Some(_) => columns::pack(rows, out),
            None => out.copy_from_slice(rows[0]),
        }
    }
}

fn chunks(tokens: usize, tile: Option<usize>) -> usize {
    match tile {
        // There is room for one more, which is better than another tile.
        Some(_) if tokens == LONE_TILE => 1,
        Some(most) => tokens.div_ceil(most),
        None => tokens,
    }
}

impl InputBuffer {
    pub fn inputs(&mut self, tier: &Tier, tokens: usize, cols: usize, needs: Needs) -> Inputs<'_> {
        let tiles = |panels: &Panels| match needs {
            Needs { a256: false, a32: false, .. } => (columns::TILED_FROM, columns::TOKENS),
            Needs { wide: true, .. } => (panels.wide_from, TILE),
            _ => (panels.from, TILE),
        };
        let tiles = tier.panels.as_ref().map(tiles).filter(|&(from, _)| tokens >= from);
        self.laid_out(tiles.map(|(_, most)| most), tokens, cols, needs)
    }

    /// In rows, however many tokens there are: what [`Gather`] takes from.
    pub fn rows(&mut self, tokens: usize, cols: usize, needs: Needs) -> Inputs<'_> {
        self.laid_out(None, tokens, cols, needs)
    }

    fn laid_out(&mut self, tile: Option<usize>, tokens: usize, cols: usize, needs: Needs) -> Inputs<'_> {
        let groups = cols.div_ceil(256);
        let chunks = chunks(tokens, tile);
        let if_needed = |needed: bool, n: usize| if needed { n } else { 0 };
        let (a256, a32) = (if_needed(needs.a256, chunks * groups), if_needed(needs.a32, chunks * groups));
        // One buffer serves both layouts of a form: only one of them is in use.
        let (rows_256, tiles_256, rows_32, tiles_32) = if tile.is_some() {
            let (tiles_256, tiles_32) = (Shared::new(self.a256.get(a256)), Shared::new(self.a32.get(a32)));
            (Shared::new(&mut []), tiles_256, Shared::new(&mut []), tiles_32)
        } else {
            let (rows_256, rows_32) = (Shared::new(self.a256.get(a256)), Shared::new(self.a32.get(a32)));
            (rows_256, Shared::new(&mut []), rows_32, Shared::new(&mut []))
        };
        let plain_len = if tile.is_some() { columns::tile_len(cols) } else { cols };
        let plain = Shared::new(self.plain.get(if_needed(needs.plain, chunks * plain_len)));
        Inputs { tokens, cols, needs, tile, plain, rows_256, rows_32, tiles_256, tiles_32 }
    }
}

/// Phase: norm (if any) and quantise rows of `source`.
pub struct Prepare<'a> {
    pub tier: &'static Tier,
    /// `[tokens, cols]`.
    pub source: Shared<'a, f32>,
    /// Row `i` of the inputs is row `rows[i]` of the source; `None`: row `i`.
    pub rows: Option<&'a [u32]>,
    pub norm: Option<Norm<'a>>,
    pub inputs: Inputs<'a>,
}

impl Phase for Prepare<'_> {
    fn chunks(&self) -> usize {
        self.inputs.chunks()
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let Inputs { cols, needs, tile, .. } = self.inputs;
        let tiled = tile.is_some();
        let groups = cols.div_ceil(256);
        let range = self.inputs.tokens_of(chunk);
        let n = range.len();
        let all = range.start * cols..range.end * cols;
        let normed: &[f32] = if self.norm.is_none() && self.rows.is_none() {
            // SAFETY: the phase before wrote the source, and this one only reads it.
            unsafe { self.source.read(all.clone()) }
        } else {
            let normed = lane.rows.get::<f32>(n * cols);
            for (token, out) in range.clone().zip(normed.chunks_mut(cols)) {
                let from = self.rows.map_or(token, |rows| rows[token] as usize) * cols;
                // SAFETY: as above.
                let x = unsafe { self.source.read(from..from + cols) };
                match self.norm {
                    Some(norm) => norm.apply(self.tier, x, out),
                    None => out.copy_from_slice(x),
                }
            }
            normed
        };
        if needs.plain {
            let rows: Vec<&[f32]> = normed.chunks(cols).collect();
            self.inputs.set_plain(chunk, &rows);
        }
        if needs.a256 {
            // SAFETY (both): these tokens, or this tile, are this chunk's; the tier fits the processor.
            if tiled {
                let rows = lane.partial.get::<Act256>(n * groups);
                unsafe { (self.tier.quantize_256)(normed, rows) };
                let rows: Vec<&[Act256]> = rows.chunks(groups).collect();
                let kernels = self.tier.panels.as_ref().expect("inputs are tiled only then");
                let tiles = unsafe { self.inputs.tiles_256.write(chunk * groups..(chunk + 1) * groups) };
                unsafe { (kernels.pack_256)(&rows, tiles) };
            } else {
                let out = unsafe { self.inputs.rows_256.write(chunk * groups..(chunk + 1) * groups) };
                unsafe { (self.tier.quantize_256)(normed, out) };
            }
        }
        if needs.a32 {
            // SAFETY: as above.
            if tiled {
                let rows = lane.partial.get::<Act32x8>(n * groups);
                for (x, out) in normed.chunks(cols).zip(rows.chunks_mut(groups)) {
                    unsafe { (self.tier.quantize_32)(x, out) };
                }
                let rows: Vec<&[Act32x8]> = rows.chunks(groups).collect();
                let kernels = self.tier.panels.as_ref().expect("inputs are tiled only then");
                let tiles = unsafe { self.inputs.tiles_32.write(chunk * groups..(chunk + 1) * groups) };
                unsafe { (kernels.pack_32)(&rows, tiles) };
            } else {
                let out = unsafe { self.inputs.rows_32.write(chunk * groups..(chunk + 1) * groups) };
                unsafe { (self.tier.quantize_32)(normed, out) };
            }
        }
    }
}

/// Phase: some rows of prepared activations, as the inputs of products of their own.
pub struct Gather<'a> {
    pub tier: &'static Tier,
    /// Made by [`InputBuffer::rows`], for no fewer needs than `inputs` has.
    pub from: Inputs<'a>,
    /// Row `i` of the inputs is row `rows[i]` of them.
    pub rows: &'a [u32],
    pub inputs: Inputs<'a>,
}

impl Phase for Gather<'_> {
    fn chunks(&self) -> usize {
        self.inputs.chunks()
    }

    fn run(&self, chunk: usize, _: &mut Lane) {
        let Inputs { cols, needs, tile, .. } = self.inputs;
        let tiled = tile.is_some();
        let groups = cols.div_ceil(256);
        let rows = &self.rows[self.inputs.tokens_of(chunk)];
        // SAFETY (of all): the phase before wrote what is read here, and these tokens, or this tile, are this chunk's; the
        // tier fits the processor.
        if needs.plain {
            let at = |row: u32| row as usize * cols..(row as usize + 1) * cols;
            let rows: Vec<&[f32]> = rows.iter().map(|&row| unsafe { self.from.plain.read(at(row)) }).collect();
            self.inputs.set_plain(chunk, &rows);
        }
        let at = |row: u32| row as usize * groups..(row as usize + 1) * groups;
        let chunk = chunk * groups..(chunk + 1) * groups;
        if needs.a256 {
            let rows: Vec<&[Act256]> = rows.iter().map(|&row| unsafe { self.from.rows_256.read(at(row)) }).collect();
            if tiled {
                let kernels = self.tier.panels.as_ref().expect("inputs are tiled only then");
                unsafe { (kernels.pack_256)(&rows, self.inputs.tiles_256.write(chunk.clone())) };
            } else {
                unsafe { self.inputs.rows_256.write(chunk.clone()) }.copy_from_slice(rows[0]);
            }
        }
        if needs.a32 {
            let rows: Vec<&[Act32x8]> = rows.iter().map(|&row| unsafe { self.from.rows_32.read(at(row)) }).collect();
            if tiled {
                let kernels = self.tier.panels.as_ref().expect("inputs are tiled only then");
                unsafe { (kernels.pack_32)(&rows, self.inputs.tiles_32.write(chunk)) };
            } else {
                unsafe { self.inputs.rows_32.write(chunk) }.copy_from_slice(rows[0]);
            }
        }
    }
}

/// The matrix that decides how much of another one's output there is; of the same shape.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    pub weight: Weight<'a>,
    pub bias: Option<&'a [f32]>,
    pub glu: Glu,
}

/// One matrix of a [`Matmul`], or two that make one output.
pub struct Part<'a> {
    pub weight: Weight<'a>,
    /// Then the output is `f(gate · x) * (weight · x)`.
    pub gate: Option<Gate<'a>>,
    pub bias: Option<&'a [f32]>,
    /// The output is GELU of `weight · x + bias`.
    pub gelu: bool,
    /// Row `r` of the weight times token `t` goes to `t * stride + r`.
    pub out: Shared<'a, f32>,
    pub stride: usize,
    /// Add to what is there (residual) instead of replacing it.
    pub add: bool,
}

/// Phase: `out = weight · inputs` for every part; the parts' outputs do not overlap.
pub struct Matmul<'a> {
    tier: &'static Tier,
    inputs: Inputs<'a>,
    parts: Vec<Part<'a>>,
    /// Rows in a chunk of each part, and the number of chunks up to and including it.
    plan: Vec<(usize, usize)>,
}

/// Bytes of weights in a chunk when there are few tokens: many enough that memory is read in long runs, few enough that no
/// core waits long for another. Small matrices make small chunks, so that there are some for all cores.
const FEWEST_BYTES: usize = 96 << 10;
const MOST_BYTES: usize = 192 << 10;
const CHUNKS: usize = 16;

impl<'a> Matmul<'a> {
    pub fn new(tier: &'static Tier, inputs: Inputs<'a>, parts: Vec<Part<'a>>) -> Self {
        let mut chunks = 0;
        let bytes: usize = parts.iter().map(|part| part.weight.data.len()).sum();
        let chunk_bytes = (bytes / CHUNKS).clamp(FEWEST_BYTES, MOST_BYTES);
        let plan = parts
            .iter()
            .map(|part| {
                assert_eq!(part.weight.cols, inputs.cols, "columns of weight and input");
                assert!(
                    part.gate.is_none_or(|g| (g.weight.rows, g.weight.cols) == (part.weight.rows, part.weight.cols))
                );
                assert!(part.bias.is_none_or(|b| b.len() == part.weight.rows));
                let plain = part.weight.activation() == Activation::F32;
                let rows = if inputs.tile.is_some() {
                    GROUP_ROWS
                } else if plain && inputs.tokens > float::TOKENS {
                    float::ROWS
                } else {
                    (chunk_bytes / part.weight.row_bytes()).clamp(4, 512).next_multiple_of(4)
                };
                chunks += part.weight.rows.div_ceil(rows);
                (rows, chunks)
            })
            .collect();
        Self { tier, inputs, parts, plan }
    }

    /// `weight[rows] · tokens` into `out[t * rows.len() + r]`.
    fn few(&self, weight: &Weight, rows: Range<usize>, scratch: &mut Aligned, out: &mut [f32]) {
        let (n, row_bytes, cols, tokens) = (rows.len(), weight.row_bytes(), self.inputs.cols, self.inputs.tokens);
        let data = weight.data[rows.start * row_bytes..rows.end * row_bytes].as_ptr();
        let groups = cols.div_ceil(256);
        assert!(out.len() >= tokens * n);
        let out = out.as_mut_ptr();
        // SAFETY: the weights' rows and the output have these sizes; the inputs were written by the phase before and
        // are only read now; the tier fits the processor.
        unsafe {
            match weight.activation() {
                Activation::F32 => {
                    let x = self.inputs.plain.read(0..tokens * cols).as_ptr();
                    let scratch = scratch.get::<f32>(float::scratch_len(cols)).as_mut_ptr();
                    (self.tier.rows_float)(weight.ty, data, n, cols, x, tokens, scratch, out, n);
                }
                Activation::A256 => {
                    let x = self.inputs.rows_256.read(0..tokens * groups);
                    let rows: Vec<*const Act256> = x.chunks(groups).map(|row| row.as_ptr()).collect();
                    (self.tier.rows_256)(weight.ty, data, row_bytes, n, &rows, out, n);
                }
                Activation::A32 => {
                    let x = self.inputs.rows_32.read(0..tokens * groups);
                    let rows: Vec<*const Act32x8> = x.chunks(groups).map(|row| row.as_ptr()).collect();
                    (self.tier.rows_32)(weight.ty, data, row_bytes, n, &rows, out, n);
                }
            }
        }
    }

    /// `weight[rows] · tokens of some tiles` into `out[tile][token][GROUP_ROWS]`.
    fn many(&self, weight: &Weight, rows: Range<usize>, tiles: Range<usize>, scratch: &mut Aligned, out: &mut [f32]) {
        let (row_bytes, cols) = (weight.row_bytes(), self.inputs.cols);
        assert!(out.len() >= tiles.len() * LONE_TILE * GROUP_ROWS);
        let data = &weight.data[rows.start * row_bytes..rows.end * row_bytes];
        // Rows beyond the last repeat it; what they give is not used.
        let pointers = std::array::from_fn(|r| data[r.min(rows.len() - 1) * row_bytes..].as_ptr());
        let blocks = cols / weight.ty.block_len();
        let kernels = self.tier.panels.as_ref().expect("inputs are tiled only then");
        let out = out.as_mut_ptr();
        // SAFETY: as in `few`.
        unsafe {
            match weight.activation() {
                Activation::F32 => {
                    let list = self.tiles(self.inputs.plain, columns::tile_len(cols), tiles);
                    let scratch = scratch.get::<f32>(columns::scratch_len(cols, list.len())).as_mut_ptr();
                    (kernels.group_float)(weight.ty, &pointers, cols, &list, scratch, out);
                }
                Activation::A256 => {
                    let list = self.tiles(self.inputs.tiles_256, cols.div_ceil(256), tiles);
                    let scratch = scratch.get::<u8>(panel::PANEL_BYTES).as_mut_ptr();
                    (kernels.group_256)(weight.ty, &pointers, blocks, &list, scratch, out);
                }
                Activation::A32 => {
                    let list = self.tiles(self.inputs.tiles_32, cols.div_ceil(256), tiles);
                    let scratch = scratch.get::<u8>(panel::PANEL_BYTES).as_mut_ptr();
                    (kernels.group_32)(weight.ty, &pointers, blocks, &list, scratch, out);
                }
            }
        }
    }

    /// Where some tiles of `len` elements each begin, and how many tokens they have.
    ///
    /// # Safety
    /// The phase before wrote them, and they are only read now.
    unsafe fn tiles<T: bytemuck::Pod>(
        &self,
        all: Shared<T>,
        len: usize,
        tiles: Range<usize>,
    ) -> Vec<(*const T, usize)> {
        // SAFETY: the caller's promise.
        let all = unsafe { all.read(0..self.inputs.chunks() * len) };
        tiles.map(|i| (all[i * len..].as_ptr(), self.inputs.tokens_of(i).len())).collect()
    }

    /// Asks for the memory where `n` results of a token will be written.
    fn prefetch(&self, part: &Part, token: usize, first: usize, n: usize) {
        let at = token * part.stride + first;
        // SAFETY: rows `first..` of this part belong to this chunk.
        let out = unsafe { part.out.write(at..at + n) };
        out.chunks(16).for_each(|line| prefetch_near(line.as_ptr()));
    }

    /// Writes the results of one token: `y` are rows `first..` of the part.
    fn write(&self, part: &Part, token: usize, first: usize, y: &mut [f32], gate: Option<&mut [f32]>) {
        let add = |y: &mut [f32], bias: Option<&[f32]>| {
            y.iter_mut().zip(bias.map_or(&[][..], |bias| &bias[first..])).for_each(|(y, bias)| *y += bias);
        };
        part.weight.multiply(y);
        add(y, part.bias);
        if part.gelu {
            // SAFETY: the tier fits the processor.
            unsafe { (self.tier.gelu)(y) };
        }
        let at = token * part.stride + first;
        // SAFETY: rows `first..` of this part belong to this chunk.
        let out = unsafe { part.out.write(at..at + y.len()) };
        match part.gate.zip(gate) {
            Some((Gate { weight, bias, glu }, gate)) => {
                weight.multiply(gate);
                add(gate, bias);
                // SAFETY: the tier fits the processor.
                unsafe { (self.tier.glu)(glu, gate, y, out) };
            }
            None if part.add => out.iter_mut().zip(y).for_each(|(out, y)| *out += *y),
            None => out.copy_from_slice(y),
        }
    }
}

/// Full tiles that are computed together, so that their activations stay in the second-level cache. Two times as many
/// hold a prompt of 512.
pub const TILES_TOGETHER: usize = 37;

/// By how many tokens memory is asked for before results are written to it. Those of one token lie a row away from those of
/// the next, which no processor foresees.
const WRITE_AHEAD: usize = 12;

impl Phase for Matmul<'_> {
    fn chunks(&self) -> usize {
        self.plan.last().map_or(0, |&(_, end)| end)
    }

    fn in_runs(&self) -> bool {
        true
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let index = self.plan.partition_point(|&(_, end)| end <= chunk);
        let before = if index == 0 { 0 } else { self.plan[index - 1].1 };
        let (part, size) = (&self.parts[index], self.plan[index].0);
        let first = (chunk - before) * size;
        let rows = first..(first + size).min(part.weight.rows);
        let (n, tokens) = (rows.len(), self.inputs.tokens);
        if let Some(most) = self.inputs.tile {
            let (together, all) = ((TILES_TOGETHER * TILE).div_ceil(most), self.inputs.chunks());
            let len = together * LONE_TILE * GROUP_ROWS;
            let (ys, gates) = lane.partial.get::<f32>(2 * len).split_at_mut(len);
            for start in (0..all).step_by(together) {
                let tiles = start..all.min(start + together);
                self.many(&part.weight, rows.clone(), tiles.clone(), &mut lane.panel, ys);
                if let Some(gate) = &part.gate {
                    self.many(&gate.weight, rows.clone(), tiles.clone(), &mut lane.panel, gates);
                }
                for (i, tile) in tiles.enumerate() {
                    for (t, token) in self.inputs.tokens_of(tile).enumerate() {
                        self.prefetch(part, (token + WRITE_AHEAD).min(tokens - 1), first, n);
                        let at = (i * TILE + t) * GROUP_ROWS;
                        let gate = part.gate.map(|_| &mut gates[at..at + n]);
                        self.write(part, token, first, &mut ys[at..at + n], gate);
                    }
                }
            }
        } else {
            let (ys, gates) = lane.partial.get::<f32>(2 * tokens * n).split_at_mut(tokens * n);
            self.few(&part.weight, rows.clone(), &mut lane.panel, ys);
            if let Some(gate) = &part.gate {
                self.few(&gate.weight, rows, &mut lane.panel, gates);
            }
            for token in 0..tokens {
                let at = token * n..(token + 1) * n;
                let gate = part.gate.map(|_| &mut gates[at.clone()]);
                self.write(part, token, first, &mut ys[at], gate);
            }
        }
    }
}

/// Phase: rows of a table (the embedding), dequantised.
pub struct Lookup<'a> {
    pub table: Weight<'a>,
    pub rows: &'a [u32],
    /// `[rows, cols]`.
    pub out: Shared<'a, f32>,
}

impl Phase for Lookup<'_> {
    fn chunks(&self) -> usize {
        self.rows.len()
    }

    fn run(&self, i: usize, _: &mut Lane) {
        let cols = self.table.cols;
        // SAFETY: this row is this chunk's.
        let out = unsafe { self.out.write(i * cols..(i + 1) * cols) };
        self.table.row(self.rows[i] as usize, out);
    }
}
