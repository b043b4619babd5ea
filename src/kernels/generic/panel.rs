//! Matrix times many tokens: weights are unpacked into panels that stay in the first-level cache, activations come in
//! tiles of up to seven tokens, and an inner loop of integer dot products runs over both.
//!
//! One vector of a panel holds four consecutive codes of each of 16 rows; one word of a tile holds four consecutive
//! activations of one token. So a lane is a row, no sum crosses lanes, and the float steps are those of `scalar.rs`.
use super::ahead::{self, prefetch_near};
use crate::{
    kernels::{
        formats::*,
        simd::{Factors256, Simd},
    },
    quant::{Act32x8, Act256, STEPS},
};
use std::ops::Range;

/// Most tokens in a tile.
pub const TILE: usize = 7;
/// Tokens in a tile that is the only one, if they are as many.
pub const LONE_TILE: usize = TILE + 1;
/// Fewest; beside other tiles there are more.
const FEWEST: usize = 3;
/// Rows of a panel, and how many panels the inner loop works on together.
pub const PANEL_ROWS: usize = 16;
pub const PANELS: usize = 2;
/// Rows that one call computes.
pub const GROUP_ROWS: usize = PANEL_ROWS * PANELS;
/// Tokens that the inner loop works on together with one panel, where the registers do not hold the sums of
/// [`PANELS`] × [`TILE`].
const NARROW_TILE: usize = 4;
/// Groups of eight blocks of 32 that are unpacked at a time, so that their sums stay in registers as long: for many tokens
/// as many as the first-level cache holds, which is larger on processors with many registers.
const fn panel_groups<S: Simd>(tiles: usize) -> usize {
    if S::REGISTERS >= 32 && tiles > 2 { MOST_PANEL_GROUPS } else { 1 }
}
const MOST_PANEL_GROUPS: usize = 2;
/// Tiles from which on it pays to compute what a scale times each step is, once for all of them.
const MULTIPLES_FROM: usize = 8;

/// 256 columns of up to seven tokens, quantised with one scale per 256 and steps. The eighth place of each row is padding.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub struct Tile256 {
    /// Word `[k][t]`: the four values of token `t` from column 4 k.
    pub(super) q: [[i32; 8]; 64],
    /// Word `[j][t]`: the sums of the 16 columns from 32 j and from 32 j + 16, as two 16-bit numbers.
    sums: [[i32; 8]; 8],
    /// Word `[i][t]`: the sums of the 32 columns from 64 i and from 64 i + 32 in the same way, if all of them fit.
    sums_32: [[i32; 8]; 4],
    /// `[j][t]`: the step of the 32 columns from 32 j; for narrow sums as two equal 16-bit numbers.
    pub(super) steps: [[i32; 8]; 8],
    /// `[i][t]`: what the sums of the 16 columns from 16 i start from; see [`start`].
    pub(super) starts: [[i32; 8]; 16],
    d: [f32; 8],
    /// Do all of `sums_32` fit? If not, zero.
    sums_32_fit: u32,
    /// No sum of positive or of negative values of a token is larger: of 16 and of 32 columns. For short sums.
    most: [u32; 2],
    padding: [u32; 5],
}

/// As [`Tile256`] with one scale per 32.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub struct Tile32 {
    pub(super) q: [[i32; 8]; 64],
    /// `[j][t]`: what the sums of the 32 columns from 32 j start from; see [`start`].
    pub(super) starts: [[i32; 8]; 8],
    d: [[f32; 8]; 8],
    /// `[j][t]`: `f32(sum) * d`.
    lows: [[f32; 8]; 8],
}

/// 16 rows × 256 columns of a 256-class format.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Panel256 {
    codes: [[u8; 64]; 64],
    /// Its minima stand beside [`Tile256::sums`].
    factors: Factors256,
    /// Per 16 columns (or per 32, then the first eight); as [`Simd::factors`] says where narrow sums meet them. Unused where
    /// [`scales_are_pairs`].
    pub(super) scales: [[i32; 16]; 16],
    /// Minima of 64 columns in formats that have one per 32, beside [`Tile256::sums_32`].
    mins_32: [[i32; 16]; 4],
    /// `[i][s]`: `scales[i]` times the step s + 1; only where there are [`MULTIPLES_FROM`] tiles.
    multiples: [[[i32; 16]; STEPS as usize]; 16],
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Panel32 {
    codes: [[u8; 64]; 64],
    d: [[f32; 16]; 8],
    m: [[f32; 16]; 8],
}

/// Bytes of scratch for the panels of one call.
pub const PANEL_BYTES: usize = {
    let (a, b) = (size_of::<Panel256>(), MOST_PANEL_GROUPS * size_of::<Panel32>());
    PANELS * if a > b { a } else { b }
};

/// Packs the activations of up to seven tokens (`rows[t]` has `blocks` blocks) into tiles.
#[inline(always)]
pub unsafe fn pack_256<S: Simd>(rows: &[&[Act256]], out: &mut [Tile256]) {
    for (b, tile) in out.iter_mut().enumerate() {
        tile.sums_32_fit = 1;
        // SAFETY: the caller's promise.
        unsafe { turn_tokens::<S>(|t| &rows[t][b].q, rows.len(), &mut tile.q) };
        for (t, row) in rows.iter().enumerate() {
            let a = &row[b];
            for (j, pair) in a.sums16.as_chunks::<2>().0.iter().enumerate() {
                tile.sums[j][t] = i32::from(pair[0] as u16) | i32::from(pair[1]) << 16;
            }
            for (i, &[a, b, c, d]) in a.sums16.as_chunks::<4>().0.iter().enumerate() {
                let (low, high) = (i32::from(a) + i32::from(b), i32::from(c) + i32::from(d));
                tile.sums_32[i][t] = low & 0xffff | high << 16;
                tile.sums_32_fit &= u32::from(i16::try_from(low).is_ok() && i16::try_from(high).is_ok());
            }
            for (j, &step) in a.steps.iter().enumerate() {
                tile.steps[j][t] = i32::from(step) * if S::NARROW { 0x1_0001 } else { 1 };
            }
            if !S::SHORT && (S::NARROW || S::FLIP != 0) {
                for (i, fours) in a.q.as_chunks::<4>().0.as_chunks::<4>().0.iter().enumerate() {
                    tile.starts[i][t] = start::<S>(if S::NARROW { CENTRE } else { S::FLIP }, fours);
                }
            }
            tile.d[t] = a.d;
        }
        if S::SHORT {
            // SAFETY: the caller's promise.
            unsafe { sums_of_tokens::<S>(tile) };
        }
    }
}

/// `q[k][t]` = the four values of token `t` from column 4 k. Places beyond the last token repeat it.
#[inline(always)]
unsafe fn turn_tokens<'a, S: Simd>(token: impl Fn(usize) -> &'a [i8; 256], tokens: usize, q: &mut [[i32; 8]; 64]) {
    for half in 0..2 {
        // Sixteen rows: of each token 64 columns, and then those after them.
        let mut rows = [std::ptr::null(); 16];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = token((r % 8).min(tokens - 1))[128 * half + 64 * (r / 8)..].as_ptr().cast();
        }
        let mut words = [[0u8; 64]; 16];
        // SAFETY: the caller's promise.
        unsafe { S::transpose(rows, words.as_mut_ptr()) };
        for (k, words) in words.iter().enumerate() {
            let both: [[i32; 8]; 2] = bytemuck::cast(*words);
            (q[32 * half + k], q[32 * half + 16 + k]) = (both[0], both[1]);
        }
    }
}

/// [`start`] and [`Tile256::most`] of all tokens at a time.
#[inline(always)]
unsafe fn sums_of_tokens<S: Simd>(tile: &mut Tile256) {
    // Of each token, the largest sum of one sign: of 16 and of 32 columns.
    let mut most = [[0; 8]; 2];
    let larger = |most: &mut [i32; 8], sums: &[[i32; 8]; 2]| {
        *most = std::array::from_fn(|t| most[t].max(sums[0][t]).max(sums[1][t]));
    };
    for (two, starts) in tile.q.as_chunks::<8>().0.iter().zip(tile.starts.as_chunks_mut::<2>().0) {
        let mut both = [[0; 8]; 2];
        for (words, start) in two.as_chunks::<4>().0.iter().zip(starts) {
            let mut sums = [[0; 16]; 2];
            // SAFETY: the caller's promise; two words of eight tokens are a vector.
            unsafe {
                let one = S::bload([1; 64].as_ptr());
                let (mut values, mut magnitudes) = (S::isplat(0), S::isplat(0));
                for words in words.as_chunks::<2>().0 {
                    let q = S::bload(words.as_ptr().cast());
                    values = S::dot_bytes(values, one, q);
                    magnitudes = S::dot_bytes(magnitudes, S::magnitudes(q), one);
                }
                S::istore(sums[0].as_mut_ptr(), values);
                S::istore(sums[1].as_mut_ptr(), magnitudes);
            }
            let [values, magnitudes] = sums.map(|sum| -> [i32; 8] { std::array::from_fn(|t| sum[t] + sum[t + 8]) });
            *start = values.map(|value| -i32::from(S::FLIP) * value);
            // Magnitudes are positive values less negative ones.
            let signs: [[i32; 8]; 2] = [
                std::array::from_fn(|t| (magnitudes[t] + values[t]) / 2),
                std::array::from_fn(|t| (magnitudes[t] - values[t]) / 2),
            ];
            larger(&mut most[0], &signs);
            both = [0, 1].map(|i| std::array::from_fn(|t| both[i][t] + signs[i][t]));
        }
        larger(&mut most[1], &both);
    }
    tile.most = most.map(|most| most.iter().fold(0, |a, &b| a.max(b as u32)));
}

/// What small signed codes are made unsigned with for narrow sums, in super-blocks and in blocks of 32.
const CENTRE: u8 = 32;
const CENTRE_32: u8 = 16;

/// What sums over some columns start from so that codes that are too large by `excess` give the same result: the excess
/// times the sum of the activations, subtracted. For narrow sums, of the first and of the last two of each four columns.
fn start<S: Simd>(excess: u8, activations: &[[i8; 4]]) -> i32 {
    let sum = |at: usize| activations.iter().map(|four| i32::from(four[at]) + i32::from(four[at + 1])).sum::<i32>();
    let [low, high] = [0, 2].map(|at| -i32::from(excess) * sum(at));
    if S::NARROW { low & 0xffff | high << 16 } else { low + high }
}

/// As [`pack_256`] for one scale per 32.
#[inline(always)]
pub unsafe fn pack_32<S: Simd>(rows: &[&[Act32x8]], out: &mut [Tile32]) {
    for (b, tile) in out.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { turn_tokens::<S>(|t| &rows[t][b].q, rows.len(), &mut tile.q) };
        for (t, row) in rows.iter().enumerate() {
            let a = &row[b];
            for (j, fours) in a.q.as_chunks::<4>().0.as_chunks::<8>().0.iter().enumerate() {
                tile.starts[j][t] = start::<S>(if S::NARROW { CENTRE_32 } else { S::FLIP }, fours);
                tile.d[j][t] = a.d[j];
                tile.lows[j][t] = a.sums[j] as f32 * a.d[j];
            }
        }
    }
}

/// Fours of columns whose products a narrow sum can hold, at most `shared` and a power of two; 0 if it cannot hold any. On
/// the way it may wrap: only the whole must fit, for which no code counts more than `largest`.
const fn most_narrow<S: Simd>(largest: usize, shared: usize) -> usize {
    if !S::NARROW {
        return 0;
    }
    let mut run = shared;
    while 2 * run * largest * 127 > i16::MAX as usize {
        run /= 2;
    }
    run
}

/// How many words of a panel of super-blocks narrow sums hold; 0: none.
pub const fn narrow_run_256<S: Simd, W: Format256>() -> usize {
    let shared = words_per_scale::<W>();
    match W::SIGNED {
        true if W::LARGEST > CENTRE as usize => 0,
        // Runs that have a start.
        true => most_narrow::<S>(W::LARGEST, 4),
        false => most_narrow::<S>(W::LARGEST, shared),
    }
}

const fn words_per_scale<W: Format256>() -> usize {
    if W::SCALE_PER_32 { 8 } else { 4 }
}

/// What comes next and is asked for while other things are computed.
#[derive(Clone, Copy)]
pub struct Ahead {
    /// The rows after these, most likely. They lie one after the other; read panel by panel, from 16 places, they would come
    /// too late.
    rows: ahead::Ahead<3>,
    /// The tile after this one, and what it has so far. Tiles lie far apart, so no processor foresees them: asking made
    /// prompts 1.1 to 1.2 times as fast (measured on Emerald Rapids).
    tile: *const u8,
    y: *const f32,
}

impl Ahead {
    fn new(rows: &[*const u8; GROUP_ROWS], row_bytes: usize) -> Self {
        let next = rows[0].wrapping_add(GROUP_ROWS * row_bytes);
        Self { rows: ahead::Ahead::new(next), tile: std::ptr::null(), y: std::ptr::null() }
    }

    /// Tile `i` follows this one, or if there is none, the first one with the next columns, `columns` tiles further on.
    #[inline(always)]
    fn follow<T>(&mut self, tiles: &[(*const T, usize)], i: usize, at: usize, columns: usize, out: *const f32) {
        let tile = tiles.get(i).map_or(tiles[0].0.wrapping_add(at + columns), |&(tile, _)| tile.wrapping_add(at));
        (self.tile, self.y) = (tile.cast(), out.wrapping_add(i * TILE * GROUP_ROWS));
    }

    /// Asks for as much of a tile of `bytes` as `words` of its 64 are.
    #[inline(always)]
    fn step<S: Simd>(&mut self, bytes: usize, words: usize) {
        self.rows.step::<S>();
        if const { S::REGISTERS >= 32 } {
            let lines = (bytes / 64 * words).div_ceil(64);
            for line in 0..lines {
                prefetch_near(self.tile.wrapping_add(64 * line).cast());
            }
            self.tile = self.tile.wrapping_add(64 * lines);
            for line in 0..words / 4 {
                prefetch_near(self.y.wrapping_add(16 * line));
            }
            self.y = self.y.wrapping_add(16 * (words / 4));
        }
    }
}

/// [`unpack_256`] of a format.
pub type Unpack = unsafe fn([*const u8; PANEL_ROWS], &mut Panel256);
/// [`tiles_256`] of a class of formats.
pub type Tiles = unsafe fn(&mut [Panel256; PANELS], &[(*const Tile256, usize)], usize, usize, *mut f32, &mut Ahead);

/// 32 rows (`rows[r]` points to row `r`; rows that do not exist may repeat one that does) of `blocks` super-blocks times
/// a run of tiles. `tiles[i]` starts at block 0 of tile `i`, which has `counts[i]` tokens.
/// `out[i]` receives `[token][32 rows]` for each tile: `out` is `[tiles][TILE][32]`, or `[LONE_TILE][32]`.
///
/// What works is in functions of their own: in one for all formats, it took the compiler many minutes.
pub unsafe fn group_256(
    (unpack, multiply): (Unpack, Tiles),
    block_bytes: usize,
    rows: &[*const u8; GROUP_ROWS],
    blocks: usize,
    tiles: &[(*const Tile256, usize)],
    scratch: *mut u8,
    out: *mut f32,
) {
    unsafe {
        let panels = &mut *scratch.cast::<[Panel256; PANELS]>();
        let mut ahead = Ahead::new(rows, blocks * block_bytes);
        for b in 0..blocks {
            for (g, panel) in panels.iter_mut().enumerate() {
                unpack(std::array::from_fn(|r| rows[PANEL_ROWS * g + r].add(b * block_bytes)), panel);
            }
            multiply(panels, tiles, b, GROUP_ROWS * block_bytes, out, &mut ahead);
        }
    }
}

/// Block `b` of all tiles times two panels, of which `bytes` are asked for ahead.
#[inline(always)]
pub unsafe fn tiles_256<S: Simd, W: Format256>(
    panels: &mut [Panel256; PANELS],
    tiles: &[(*const Tile256, usize)],
    b: usize,
    bytes: usize,
    out: *mut f32,
    ahead: &mut Ahead,
) {
    unsafe {
        ahead.rows.allow(bytes, 64 / words_per_scale::<W>() * part_count::<S>(tiles));
        let many = const { has_multiples::<S, W>() } && tiles.len() >= MULTIPLES_FROM;
        if many {
            for panel in panels.iter_mut() {
                fill_multiples::<S, W>(panel);
            }
        }
        // In registers, not behind a reference.
        let mut own = *ahead;
        for (i, &(tile, count)) in tiles.iter().enumerate() {
            let y = out.add(i * TILE * GROUP_ROWS);
            own.follow(tiles, i + 1, b, 1, out);
            tile_256::<S, W>(panels.each_ref(), &*tile.add(b), count, y, b == 0, many, &mut own);
        }
        *ahead = own;
    }
}

/// A block of 16 rows.
#[inline(always)]
pub unsafe fn unpack_256<S: Simd, W: Format256>(blocks: [*const u8; PANEL_ROWS], panel: &mut Panel256) {
    unsafe {
        S::codes_256::<W>(blocks, const { bias::<S, W>() }, panel.codes.as_mut_ptr());
        pair_codes::<S>(&mut panel.codes);
        unpack_factors::<S, W>(blocks, panel);
    }
}

/// What is added to the codes of a panel.
pub(super) const fn bias<S: Simd, W: Format256>() -> u8 {
    match W::SIGNED {
        true if narrow_run_256::<S, W>() > 0 => CENTRE,
        true => S::FLIP,
        false => 0,
    }
}

/// Where narrow sums meet one scale per 32 columns, the two of a pair are the same, which is what they need.
const fn scales_are_pairs<S: Simd, W: Format256>() -> bool {
    W::SCALE_PER_32 && narrow_run_256::<S, W>() > 0
}

/// All of a panel but its codes.
#[inline(always)]
pub(super) unsafe fn unpack_factors<S: Simd, W: Format256>(blocks: [*const u8; 16], panel: &mut Panel256) {
    unsafe {
        S::factors_256::<W>(blocks, &mut panel.factors);
        let Factors256 { scales, mins, .. } = &panel.factors;
        if const { !scales_are_pairs::<S, W>() } {
            for j in 0..8 {
                let pairs = S::iload(scales[j].as_ptr());
                let [first, second] = if const { narrow_run_256::<S, W>() > 0 } {
                    S::factors(pairs)
                } else {
                    // The lower word of each lane, and the upper one, as numbers.
                    let zero = S::isplat(0);
                    [S::dot_words(zero, pairs, S::isplat(1)), S::dot_words(zero, pairs, S::isplat(1 << 16))]
                };
                if W::SCALE_PER_32 {
                    S::istore(panel.scales[j].as_mut_ptr(), first);
                } else {
                    S::istore(panel.scales[2 * j].as_mut_ptr(), first);
                    S::istore(panel.scales[2 * j + 1].as_mut_ptr(), second);
                }
            }
        }
        if !W::SIGNED && W::SCALE_PER_32 {
            for i in 0..4 {
                let (low, high) = (S::iload(mins[2 * i].as_ptr()), S::iload(mins[2 * i + 1].as_ptr()));
                S::istore(panel.mins_32[i].as_mut_ptr(), S::blend_words(low, high));
            }
        }
    }
}

/// Whether the panels of a format get multiples of their scales, where they meet many tiles: these then have six or seven
/// tokens. (Beside narrow sums, whose factors cost one instruction, the loads make up for it.)
const fn has_multiples<S: Simd, W: Format256>() -> bool {
    S::REGISTERS >= 8 && narrow_run_256::<S, W>() == 0
}

/// Computes the factors that [`wide_sums`] otherwise computes for each token.
#[inline(always)]
unsafe fn fill_multiples<S: Simd, W: Format256>(panel: &mut Panel256) {
    unsafe {
        for (scale, multiples) in panel.scales.iter().zip(&mut panel.multiples).take(64 / words_per_scale::<W>()) {
            let scale = S::iload(scale.as_ptr());
            let mut multiple = S::isplat(0);
            for out in multiples {
                multiple = S::iadd(multiple, scale);
                S::istore(out.as_mut_ptr(), multiple);
            }
        }
    }
}

/// `y[t][32]` += two panels × `count` tokens; starts from zero when `first`. With `many`, the panels have multiples.
#[inline(always)]
unsafe fn tile_256<S: Simd, W: Format256>(
    panels: [&Panel256; PANELS],
    tile: &Tile256,
    count: usize,
    y: *mut f32,
    first: bool,
    many: bool,
    ahead: &mut Ahead,
) {
    unsafe {
        for tokens in parts::<S>(count) {
            let (from, y) = (tokens.start, y.add(GROUP_ROWS * tokens.start));
            let many = const { has_multiples::<S, W>() } && many;
            if together::<S>(tokens.len()) {
                if const { short_run::<S, W>() > 0 } && short_sums_fit::<S, W>(tile) {
                    if many {
                        with_count!([6 7] tokens.len(), T => {
                            part_256::<S, W, PANELS, T, true, true>(panels, tile, from, y, first, ahead);
                        });
                    } else {
                        with_count!([4 5 6 7] tokens.len().max(4), T => {
                            part_256::<S, W, PANELS, T, false, true>(panels, tile, from, y, first, ahead);
                        });
                    }
                } else if const { short_run::<S, W>() == 0 } && many {
                    with_count!([6 7] tokens.len(), T => {
                        part_256::<S, W, PANELS, T, true, false>(panels, tile, from, y, first, ahead);
                    });
                } else {
                    // Three have room for one more, whose result is not used.
                    with_count!([4 5 6 7] tokens.len().max(4), T => {
                        part_256::<S, W, PANELS, T, false, false>(panels, tile, from, y, first, ahead);
                    });
                }
            } else {
                for g in 0..PANELS {
                    let y = y.add(PANEL_ROWS * g);
                    if const { S::REGISTERS >= 32 } {
                        part_256::<S, W, 1, LONE_TILE, false, false>([panels[g]], tile, from, y, first, ahead);
                    } else if many {
                        with_count!([3 4] tokens.len(), T => {
                            part_256::<S, W, 1, T, true, false>([panels[g]], tile, from, y, first, ahead);
                        });
                    } else {
                        with_count!([2 3 4] tokens.len(), T => {
                            part_256::<S, W, 1, T, false, false>([panels[g]], tile, from, y, first, ahead);
                        });
                    }
                }
            }
        }
    }
}

/// `G` panels × tokens `from..from + T` of [`tile_256`].
#[inline(always)]
unsafe fn part_256<S: Simd, W: Format256, const G: usize, const T: usize, const MANY: bool, const SHORT: bool>(
    panels: [&Panel256; G],
    a: &Tile256,
    from: usize,
    y: *mut f32,
    first: bool,
    ahead: &mut Ahead,
) {
    unsafe {
        let sums = if const { narrow_run_256::<S, W>() > 0 } {
            narrow_sums::<S, W, G, T>(panels, a, from, ahead)
        } else {
            wide_sums::<S, W, G, T, MANY, SHORT>(panels, a, from, ahead)
        };
        for g in 0..G {
            finish_256::<S, W, T>(panels[g], a, from, &sums[g], y.add(PANEL_ROWS * g), first);
        }
    }
}

/// `y` += what the integer sums of a block and its minima make; starts from zero when `fresh`.
#[inline(always)]
pub(super) unsafe fn finish_256<S: Simd, W: Format256, const T: usize>(
    panel: &Panel256,
    a: &Tile256,
    from: usize,
    sums: &[S::I; T],
    y: *mut f32,
    fresh: bool,
) {
    unsafe {
        let Factors256 { mins, d, dmin, .. } = &panel.factors;
        let (d, dmin) = (S::load(d.as_ptr()), S::load(dmin.as_ptr()));
        let mut lows = [S::isplat(0); T];
        if !W::SIGNED {
            if W::SCALE_PER_32 && a.sums_32_fit != 0 {
                add_minima::<S, T, 4>(&mut lows, &panel.mins_32, &a.sums_32, from);
            } else {
                add_minima::<S, T, 8>(&mut lows, mins, &a.sums, from);
            }
        }
        for t in 0..T {
            let mut x = S::mul(S::to_float(sums[t]), d);
            if !W::SIGNED {
                x = S::fma(S::sub(S::splat(-0.0), S::to_float(lows[t])), dmin, x);
            }
            let p = y.add(GROUP_ROWS * t);
            let before = if fresh { S::splat(0.0) } else { S::load(p) };
            S::store(p, S::fma(x, S::splat(of(&a.d, from + t)), before));
        }
    }
}

/// Adds minima times sums of activations.
#[inline(always)]
unsafe fn add_minima<S: Simd, const T: usize, const N: usize>(
    lows: &mut [S::I; T],
    mins: &[[i32; 16]; N],
    sums: &[[i32; 8]; N],
    from: usize,
) {
    unsafe {
        for j in 0..N {
            let mins = S::iload(mins[j].as_ptr());
            for t in 0..T {
                lows[t] = S::dot_words(lows[t], mins, S::isplat(of(&sums[j], from + t)));
            }
        }
    }
}

/// `sum(scale * step * sum(code * q))` of a block, by narrow sums.
#[inline(always)]
unsafe fn narrow_sums<S: Simd, W: Format256, const G: usize, const T: usize>(
    panels: [&Panel256; G],
    a: &Tile256,
    from: usize,
    ahead: &mut Ahead,
) -> [[S::I; T]; G] {
    unsafe {
        let (run, words) = const { (narrow_run_256::<S, W>(), words_per_scale::<W>()) };
        let mut sums = [[S::isplat(0); T]; G];
        for j in 0..64 / words {
            ahead.step::<S>(size_of::<Tile256>(), words);
            for first in (j * words..(j + 1) * words).step_by(run) {
                let mut acc = [[S::isplat(0); T]; G];
                if W::SIGNED {
                    for t in 0..T {
                        acc[0][t] = S::isplat(of(&a.starts[first / 4], from + t));
                    }
                    acc = [acc[0]; G];
                }
                let codes = panels.map(|panel| &panel.codes);
                if W::SIGNED {
                    narrow_run::<S, G, T, false>(&mut acc, codes, &a.q, first..first + run, from);
                } else {
                    narrow_run::<S, G, T, true>(&mut acc, codes, &a.q, first..first + run, from);
                }
                for t in 0..T {
                    let step = S::isplat(of(&a.steps[j * words / 8], from + t));
                    for g in 0..G {
                        let scales = match const { scales_are_pairs::<S, W>() } {
                            true => &panels[g].factors.scales[j],
                            false => &panels[g].scales[j],
                        };
                        let factor = S::word_mul(S::iload(scales.as_ptr()), step);
                        sums[g][t] = S::narrow_scale(sums[g][t], acc[g][t], factor);
                    }
                }
            }
        }
        sums
    }
}

/// Adds the products of some words of the panels with those of the tokens to narrow sums, which are zero where they are
/// `FRESH`.
#[inline(always)]
unsafe fn narrow_run<S: Simd, const G: usize, const T: usize, const FRESH: bool>(
    acc: &mut [[S::I; T]; G],
    codes: [&[[u8; 64]; 64]; G],
    q: &[[i32; 8]; 64],
    words: Range<usize>,
    from: usize,
) {
    unsafe {
        for g in 0..G {
            let at = |k: usize| (codes[g].as_ptr().add(k), q.as_ptr().add(k).byte_add(4 * from));
            let (first, tokens) = at(words.start);
            S::narrow_four::<T, FRESH>(&mut acc[g], first, tokens);
            for k in (words.start + 4..words.end).step_by(4) {
                let (codes, tokens) = at(k);
                S::narrow_four::<T, false>(&mut acc[g], codes, tokens);
            }
        }
    }
}

/// As [`narrow_sums`] for codes of any size; where the products take unsigned codes, signed ones are [`Simd::FLIP`] too
/// large. With `SHORT`, the sums of a run fit 16 bits.
#[inline(always)]
unsafe fn wide_sums<S: Simd, W: Format256, const G: usize, const T: usize, const MANY: bool, const SHORT: bool>(
    panels: [&Panel256; G],
    a: &Tile256,
    from: usize,
    ahead: &mut Ahead,
) -> [[S::I; T]; G] {
    unsafe {
        let words = const { words_per_scale::<W>() };
        let run = if SHORT { const { short_run::<S, W>() } } else { words };
        let codes = panels.map(|panel| &panel.codes);
        let mut sums = [[S::isplat(0); T]; G];
        for j in 0..64 / words {
            for first in (words * j..words * (j + 1)).step_by(run) {
                let mut acc = [[S::isplat(0); T]; G];
                if W::SIGNED && S::FLIP != 0 {
                    for t in 0..T {
                        for i in first / 4..(first + run) / 4 {
                            acc[0][t] = S::iadd(acc[0][t], S::isplat(of(&a.starts[i], from + t)));
                        }
                    }
                    acc = [acc[0]; G];
                }
                ahead.step::<S>(size_of::<Tile256>(), run);
                products::<S, G, T>(&mut acc, codes, &a.q, first..first + run, from);
                for t in 0..T {
                    // For narrow sums it is there twice.
                    let step = of(&a.steps[j * words / 8], from + t) & if S::NARROW { 0xffff } else { !0 };
                    for g in 0..G {
                        let scale = panels[g].scales[j].as_ptr();
                        let factor = if MANY {
                            S::iload(panels[g].multiples[j].get_unchecked(step as usize - 1).as_ptr())
                        } else if SHORT {
                            S::word_mul(S::iload(scale), S::isplat(step))
                        } else {
                            S::imul(S::iload(scale), S::isplat(step))
                        };
                        sums[g][t] = if SHORT {
                            S::dot_words(sums[g][t], acc[g][t], factor)
                        } else {
                            S::iadd(sums[g][t], S::imul(acc[g][t], factor))
                        };
                    }
                }
            }
        }
        sums
    }
}

/// How many words of a panel of unsigned codes short sums hold, for activations of both signs; 0: none. More of one sign make
/// them too large, which [`short_sums_fit`] finds out.
pub(super) const fn short_run<S: Simd, W: Format256>() -> usize {
    let mut run = words_per_scale::<W>();
    while 4 * run * 127 / 2 * W::LARGEST > i16::MAX as usize {
        run /= 2;
    }
    // Those of eight columns would cost more loads than they save.
    if S::SHORT && !W::SIGNED && run >= 4 { run } else { 0 }
}

pub(super) fn short_sums_fit<S: Simd, W: Format256>(a: &Tile256) -> bool {
    let most = a.most[const { short_run::<S, W>() / 8 }];
    most as usize * W::LARGEST <= i16::MAX as usize
}

/// Makes the codes what [`products`] takes.
#[inline(always)]
unsafe fn pair_codes<S: Simd>(codes: &mut [[u8; 64]; 64]) {
    if S::PAIRS {
        for two in codes.as_chunks_mut::<2>().0 {
            unsafe { S::pair_codes(two.as_mut_ptr()) };
        }
    }
}

/// Adds the products of four or eight words of the panels with those of the tokens.
#[inline(always)]
unsafe fn products<S: Simd, const G: usize, const T: usize>(
    acc: &mut [[S::I; T]; G],
    codes: [&[[u8; 64]; 64]; G],
    q: &[[i32; 8]; 64],
    words: Range<usize>,
    from: usize,
) {
    unsafe {
        if const { S::PAIRS } {
            let mut pairs = [[[S::isplat(0); 2]; 4]; G];
            for k in words.step_by(2) {
                for i in 0..T.div_ceil(2) {
                    // Beside the last of an odd number of tokens is one whose sum is not used.
                    let tokens = [q[k].as_ptr().add(from + 2 * i), q[k + 1].as_ptr().add(from + 2 * i)];
                    for g in 0..G {
                        pairs[g][i] = S::pair_dot(pairs[g][i], codes[g][k..].as_ptr(), tokens);
                    }
                }
            }
            for g in 0..G {
                for t in 0..T {
                    acc[g][t] = S::iadd(acc[g][t], S::unpair(pairs[g][t / 2])[t % 2]);
                }
            }
            return;
        }
        if const { S::FOURS } {
            for k in words.step_by(4) {
                for g in 0..G {
                    S::dot_four(&mut acc[g], codes[g].as_ptr().add(k), q.as_ptr().add(k).byte_add(4 * from));
                }
            }
            return;
        }
        // Addresses from here on differ by constants, which cost no instructions.
        let codes = codes.map(|codes| codes.as_ptr().add(words.start));
        let q = q.as_ptr().add(words.start).cast::<i32>().add(from);
        four_words::<S, G, T>(acc, codes, q);
        if words.len() == 8 {
            four_words::<S, G, T>(acc, codes.map(|codes| codes.add(4)), q.add(4 * 8));
        }
    }
}

/// Not a loop, which might not be unrolled.
#[inline(always)]
unsafe fn four_words<S: Simd, const G: usize, const T: usize>(
    acc: &mut [[S::I; T]; G],
    codes: [*const [u8; 64]; G],
    q: *const i32,
) {
    unsafe {
        // Products of one sum wait for each other: where there are few sums, every other word has its own.
        if const { S::REGISTERS >= 32 && G * T <= 8 } {
            let mut others = [[S::isplat(0); T]; G];
            word::<S, G, T, 0>(acc, codes, q);
            word::<S, G, T, 1>(&mut others, codes, q);
            word::<S, G, T, 2>(acc, codes, q);
            word::<S, G, T, 3>(&mut others, codes, q);
            for g in 0..G {
                for t in 0..T {
                    acc[g][t] = S::iadd(acc[g][t], others[g][t]);
                }
            }
        } else {
            word::<S, G, T, 0>(acc, codes, q);
            word::<S, G, T, 1>(acc, codes, q);
            word::<S, G, T, 2>(acc, codes, q);
            word::<S, G, T, 3>(acc, codes, q);
        }
    }
}

#[inline(always)]
unsafe fn word<S: Simd, const G: usize, const T: usize, const K: usize>(
    acc: &mut [[S::I; T]; G],
    codes: [*const [u8; 64]; G],
    q: *const i32,
) {
    unsafe {
        let mut w = [S::bload(codes[0].add(K).cast()); G];
        for g in 1..G {
            w[g] = S::bload(codes[g].add(K).cast());
        }
        for t in 0..T {
            let q = S::bsplat(q.add(8 * K + t));
            for g in 0..G {
                acc[g][t] = S::dot_bytes(acc[g][t], w[g], q);
            }
        }
    }
}

/// The number of a token, which is below eight.
#[inline(always)]
unsafe fn of<N: Copy>(row: &[N; 8], token: usize) -> N {
    unsafe { *row.get_unchecked(token) }
}

/// How many [`parts`] all tiles have; one that meets the panels one after the other counts for each.
#[inline(always)]
fn part_count<S: Simd>(tiles: &[(*const impl Sized, usize)]) -> usize {
    tiles.iter().map(|&(_, count)| if together::<S>(count) { 1 } else { PANELS * parts::<S>(count).len() }).sum()
}

/// Whether the registers hold the sums of that many tokens with all panels.
#[inline(always)]
fn together<S: Simd>(tokens: usize) -> bool {
    S::REGISTERS >= 32 && tokens <= TILE
}

/// The tokens of a tile, of which there are at least [`FEWEST`], in parts that the registers hold the sums of, as even as
/// can be.
#[inline(always)]
fn parts<S: Simd>(count: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    debug_assert!((FEWEST..=LONE_TILE).contains(&count), "{count} tokens in a tile");
    let parts = count.div_ceil(if const { S::REGISTERS >= 32 } { LONE_TILE } else { NARROW_TILE });
    (0..parts).map(move |i| i * count / parts..(i + 1) * count / parts)
}

/// As [`group_256`] for formats with blocks of 32; `blocks` counts blocks of 32.
#[inline(always)]
pub unsafe fn group_32<S: Simd, W: Format32>(
    rows: &[*const u8; GROUP_ROWS],
    blocks: usize,
    tiles: &[(*const Tile32, usize)],
    scratch: *mut u8,
    out: *mut f32,
) {
    unsafe {
        let panels = scratch.cast::<Panel32>();
        let groups = blocks.div_ceil(8);
        let mut ahead = Ahead::new(rows, blocks * W::BYTES);
        let at_once = panel_groups::<S>(tiles.len());
        for first in (0..groups).step_by(at_once) {
            let n = at_once.min(groups - first);
            for g in 0..PANELS {
                for b in 0..n {
                    let at = 8 * (first + b);
                    let block: [*const u8; 16] = std::array::from_fn(|r| rows[PANEL_ROWS * g + r].add(at * W::BYTES));
                    unpack_32::<S, W>(block, (blocks - at).min(8), &mut *panels.add(n * g + b));
                }
            }
            let pair = [panels.cast_const(), panels.add(n).cast_const()];
            let blocks = (blocks - 8 * first).min(8 * n);
            ahead.rows.allow(GROUP_ROWS * blocks * W::BYTES, blocks * part_count::<S>(tiles));
            for (i, &(tile, count)) in tiles.iter().enumerate() {
                let y = out.add(i * TILE * GROUP_ROWS);
                ahead.follow(tiles, i + 1, first, n, out);
                tile_32::<S, W>(pair, blocks, tile.add(first), count, y, first == 0, &mut ahead);
            }
        }
    }
}

#[inline(always)]
unsafe fn unpack_32<S: Simd, W: Format32>(blocks: [*const u8; 16], n: usize, panel: &mut Panel32) {
    unsafe {
        let bias = match const { narrow_run_32::<S, W>() } {
            0 => S::FLIP,
            // Codes beside minima are not negative.
            _ if W::BIAS == 0 => 0,
            _ => CENTRE_32,
        };
        S::codes_32::<W>(blocks, n, bias, panel.codes.as_mut_ptr());
        pair_codes::<S>(&mut panel.codes);
        for j in 0..n {
            S::factors_32::<W>(blocks.map(|block| block.add(j * W::BYTES)), &mut panel.d[j], &mut panel.m[j]);
        }
    }
}

#[inline(always)]
unsafe fn tile_32<S: Simd, W: Format32>(
    panels: [*const Panel32; PANELS],
    blocks: usize,
    tile: *const Tile32,
    count: usize,
    y: *mut f32,
    first: bool,
    ahead: &mut Ahead,
) {
    unsafe {
        for tokens in parts::<S>(count) {
            let (from, y) = (tokens.start, y.add(GROUP_ROWS * tokens.start));
            if together::<S>(tokens.len()) {
                with_count!([4 5 6 7] tokens.len(), T => {
                    part_32::<S, W, PANELS, T>(panels, blocks, tile, from, y, first, ahead);
                });
            } else {
                for g in 0..PANELS {
                    let y = y.add(PANEL_ROWS * g);
                    if const { S::REGISTERS >= 32 } {
                        part_32::<S, W, 1, LONE_TILE>([panels[g]], blocks, tile, from, y, first, ahead);
                    } else {
                        with_count!([2 3 4] tokens.len(), T => {
                            part_32::<S, W, 1, T>([panels[g]], blocks, tile, from, y, first, ahead);
                        });
                    }
                }
            }
        }
    }
}

/// `G` panels × tokens `from..from + T` of [`tile_32`].
#[inline(always)]
unsafe fn part_32<S: Simd, W: Format32, const G: usize, const T: usize>(
    panels: [*const Panel32; G],
    blocks: usize,
    tile: *const Tile32,
    from: usize,
    y: *mut f32,
    first: bool,
    ahead: &mut Ahead,
) {
    unsafe {
        let mut sums = [[S::splat(0.0); T]; G];
        if !first {
            for g in 0..G {
                for t in 0..T {
                    sums[g][t] = S::load(y.add(GROUP_ROWS * t + PANEL_ROWS * g));
                }
            }
        }
        for (b, first) in (0..blocks).step_by(8).enumerate() {
            let a = &*tile.add(b);
            let panels = panels.map(|panel| &*panel.add(b));
            for j in 0..(blocks - first).min(8) {
                let dots = block_sums::<S, W, G, T>(panels, a, j, from, ahead);
                for g in 0..G {
                    let d = S::load(panels[g].d[j].as_ptr());
                    for t in 0..T {
                        sums[g][t] = finish_32::<S, W>(sums[g][t], dots[g][t], d, &panels[g].m[j], a, j, from + t);
                    }
                }
            }
        }
        for g in 0..G {
            for t in 0..T {
                S::store(y.add(GROUP_ROWS * t + PANEL_ROWS * g), sums[g][t]);
            }
        }
    }
}

/// `y` + what the integer sum of block `j` and its minimum make for a token.
#[inline(always)]
pub(super) unsafe fn finish_32<S: Simd, W: Format32>(
    y: S::F,
    sum: S::I,
    d: S::F,
    m: &[f32; 16],
    a: &Tile32,
    j: usize,
    token: usize,
) -> S::F {
    unsafe {
        let x = S::mul(S::to_float(sum), d);
        let y = S::fma(x, S::splat(of(&a.d[j], token)), y);
        if W::HAS_MIN { S::fma(S::load(m.as_ptr()), S::splat(of(&a.lows[j], token)), y) } else { y }
    }
}

/// `sum(code * q)` of block `j` of the panels.
#[inline(always)]
unsafe fn block_sums<S: Simd, W: Format32, const G: usize, const T: usize>(
    panels: [&Panel32; G],
    a: &Tile32,
    j: usize,
    from: usize,
    ahead: &mut Ahead,
) -> [[S::I; T]; G] {
    unsafe {
        let run = const { narrow_run_32::<S, W>() };
        let mut dots = [[S::isplat(0); T]; G];
        ahead.step::<S>(size_of::<Tile32>(), 8);
        if run == 0 {
            if S::FLIP != 0 {
                for t in 0..T {
                    dots[0][t] = S::isplat(of(&a.starts[j], from + t));
                }
                dots = [dots[0]; G];
            }
            products::<S, G, T>(&mut dots, panels.map(|panel| &panel.codes), &a.q, 8 * j..8 * (j + 1), from);
            return dots;
        }
        for first in (8 * j..8 * (j + 1)).step_by(run) {
            let mut acc = [[S::isplat(0); T]; G];
            if W::BIAS > 0 {
                for t in 0..T {
                    acc[0][t] = S::isplat(of(&a.starts[j], from + t));
                }
                acc = [acc[0]; G];
            }
            let codes = panels.map(|panel| &panel.codes);
            if W::BIAS > 0 {
                narrow_run::<S, G, T, false>(&mut acc, codes, &a.q, first..first + run, from);
            } else {
                narrow_run::<S, G, T, true>(&mut acc, codes, &a.q, first..first + run, from);
            }
            for g in 0..G {
                for t in 0..T {
                    dots[g][t] = S::narrow_scale(dots[g][t], acc[g][t], S::isplat(0x1_0001));
                }
            }
        }
        dots
    }
}

/// How many words of a panel of blocks of 32 narrow sums hold; 0: none.
const fn narrow_run_32<S: Simd, W: Format32>() -> usize {
    let (below, above) = (W::BIAS as usize, W::LARGEST - W::BIAS as usize);
    if below > CENTRE_32 as usize {
        return 0;
    }
    let run = most_narrow::<S>(if below > above { below } else { above }, 8);
    // Where there is a start, it is that of a whole block.
    assert!(!S::NARROW || run == 8 || W::BIAS == 0);
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::portable::Portable, quant::testing::TYPES_256};

    /// What a format looks like once it is unpacked, on every kind of machine.
    fn look<W: Format256>() -> impl PartialEq + std::fmt::Debug {
        let run = narrow_run_256::<Portable, W>();
        #[cfg(target_arch = "x86_64")]
        let run = (run, crate::kernels::x86_64::narrow_runs::<W>());
        (W::SIGNED, W::SCALE_PER_32, run)
    }

    #[test]
    fn formats_of_a_class_look_the_same() {
        for ty in TYPES_256 {
            let own = with_format_256!(ty, W => format!("{:?}", look::<W>()));
            assert_eq!(own, with_class_256!(ty, W => format!("{:?}", look::<W>())), "{}", ty.name());
        }
    }
}
