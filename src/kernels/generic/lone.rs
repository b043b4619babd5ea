//! A matrix times a lone tile: codes meet its tokens as they are unpacked, since there are no others to keep them for.
//! The layout and the float steps are those of `panel.rs`.
use super::panel::{
    GROUP_ROWS, PANEL_ROWS, PANELS, Panel256, Tile32, Tile256, bias, finish_32, finish_256, short_run, short_sums_fit,
    unpack_factors,
};
use crate::kernels::{
    formats::{Format32, Format256},
    simd::Simd,
};
use std::ops::Range;

/// Asks for some lines of the 16 rows that come next, in one of `steps`. Not [`Ahead`](super::ahead::Ahead): the number of
/// lines is known here, so there is no branch between the products.
#[inline(always)]
unsafe fn ahead<S: Simd>(next: *const u8, bytes: usize, steps: usize, step: usize) {
    let lines = bytes.div_ceil(64 * steps);
    for line in lines * step..lines * (step + 1) {
        S::prefetch(next.wrapping_add(64 * line));
    }
}

/// Runs `$body` with the constant `$T`: no fewer than the tokens of a lone tile. Results beyond them are not used.
#[cfg(not(debug_assertions))]
macro_rules! with_lone_count {
    ($count:expr, $T:ident => $body:expr) => {
        $crate::kernels::formats::with_count!([4 6 8] $count.next_multiple_of(2), $T => $body)
    };
}
/// One kernel for all counts: with debug assertions the compiler takes minutes for each.
#[cfg(debug_assertions)]
macro_rules! with_lone_count {
    ($count:expr, $T:ident => $body:expr) => {{
        debug_assert!($count <= 8);
        const $T: usize = 8;
        $body
    }};
}
pub(crate) use with_lone_count;

/// Whether [`group_256`] may be used: where it has short sums, all of them fit.
#[inline(always)]
pub unsafe fn may_use<S: Simd, W: Format256>(tile: *const Tile256, blocks: usize) -> bool {
    let no_short_sums = const { short_run::<S, W>() == 0 };
    no_short_sums || (0..blocks).all(|b| short_sums_fit::<S, W>(unsafe { &*tile.add(b) }))
}

/// [`group_256`](super::panel::group_256) of a tile of `T` tokens.
#[inline(always)]
pub unsafe fn group_256<S: Simd, W: Format256, const T: usize>(
    rows: &[*const u8; GROUP_ROWS],
    blocks: usize,
    tile: *const Tile256,
    scratch: *mut u8,
    out: *mut f32,
) {
    unsafe {
        let factors = &mut *scratch.cast::<Panel256>();
        for g in 0..PANELS {
            let rows = &rows[PANEL_ROWS * g..PANEL_ROWS * (g + 1)];
            for b in 0..blocks {
                let block = std::array::from_fn(|r| rows[r].add(b * W::BYTES));
                let next = rows[0].wrapping_add(PANEL_ROWS * (blocks + b) * W::BYTES);
                unpack_factors::<S, W>(block, factors);
                let a = &*tile.add(b);
                let mut sums = [S::isplat(0); T];
                two_eighths::<S, W, T, 0>(block, next, factors, a, &mut sums);
                two_eighths::<S, W, T, 1>(block, next, factors, a, &mut sums);
                two_eighths::<S, W, T, 2>(block, next, factors, a, &mut sums);
                two_eighths::<S, W, T, 3>(block, next, factors, a, &mut sums);
                finish_256::<S, W, T>(factors, a, 0, &sums, out.add(PANEL_ROWS * g), b == 0);
            }
        }
    }
}

/// Adds what the pair `I` of eighths of a block makes.
#[inline(always)]
unsafe fn two_eighths<S: Simd, W: Format256, const T: usize, const I: usize>(
    block: [*const u8; 16],
    next: *const u8,
    factors: &Panel256,
    a: &Tile256,
    sums: &mut [S::I; T],
) {
    unsafe {
        let mut acc = [[S::isplat(0); T]; 2];
        half::<S, W, T, I, 0>(block, next, factors, a, &mut acc, sums);
        half::<S, W, T, I, 1>(block, next, factors, a, &mut acc, sums);
    }
}

/// Adds the products of the first or the last half of both eighths to `acc`, and those to `sums` once they are all of a
/// scale.
#[inline(always)]
unsafe fn half<S: Simd, W: Format256, const T: usize, const I: usize, const HALF: usize>(
    block: [*const u8; 16],
    next: *const u8,
    factors: &Panel256,
    a: &Tile256,
    acc: &mut [[S::I; T]; 2],
    sums: &mut [S::I; T],
) {
    unsafe {
        ahead::<S>(next, PANEL_ROWS * W::BYTES, 8, 2 * I + HALF);
        let [(i, first), (j, second)] = S::words_256::<W, I, HALF>(block, const { bias::<S, W>() });
        acc[0] = four::<S, T>(acc[0], first, &a.q[8 * i + 4 * HALF..]);
        acc[1] = four::<S, T>(acc[1], second, &a.q[8 * j + 4 * HALF..]);
        if const { !W::SCALE_PER_32 || short_run::<S, W>() == 4 } {
            add_scaled::<S, W, T>(sums, acc[0], factors, a, 2 * i + HALF..2 * i + HALF + 1);
            add_scaled::<S, W, T>(sums, acc[1], factors, a, 2 * j + HALF..2 * j + HALF + 1);
            *acc = [[S::isplat(0); T]; 2];
        } else if HALF == 1 {
            add_scaled::<S, W, T>(sums, acc[0], factors, a, 2 * i..2 * i + 2);
            add_scaled::<S, W, T>(sums, acc[1], factors, a, 2 * j..2 * j + 2);
        }
    }
}

/// Adds the products of some sixteens of columns, which share a scale.
#[inline(always)]
unsafe fn add_scaled<S: Simd, W: Format256, const T: usize>(
    sums: &mut [S::I; T],
    mut acc: [S::I; T],
    factors: &Panel256,
    a: &Tile256,
    sixteens: Range<usize>,
) {
    unsafe {
        let scale = if W::SCALE_PER_32 { sixteens.start / 2 } else { sixteens.start };
        let scale = S::iload(factors.scales[scale].as_ptr());
        let steps = &a.steps[sixteens.start / 2];
        for t in 0..T {
            let step = S::isplat(steps[t]);
            if const { short_run::<S, W>() > 0 } {
                sums[t] = S::dot_words(sums[t], acc[t], S::word_mul(scale, step));
                continue;
            }
            if W::SIGNED && S::FLIP != 0 {
                for starts in &a.starts[sixteens.clone()] {
                    acc[t] = S::iadd(acc[t], S::isplat(starts[t]));
                }
            }
            sums[t] = S::iadd(sums[t], S::imul(acc[t], S::imul(scale, step)));
        }
    }
}

/// Adds the products of four vectors of codes. Not a loop, which might not be unrolled.
#[inline(always)]
unsafe fn four<S: Simd, const T: usize>(mut acc: [S::I; T], codes: [S::B; 4], q: &[[i32; 8]]) -> [S::I; T] {
    unsafe {
        let q = q.as_ptr().cast::<i32>();
        S::dot_each(&mut acc, codes[0], q);
        S::dot_each(&mut acc, codes[1], q.add(8));
        S::dot_each(&mut acc, codes[2], q.add(16));
        S::dot_each(&mut acc, codes[3], q.add(24));
        acc
    }
}

/// [`group_32`](super::panel::group_32) of a tile of `T` tokens.
#[inline(always)]
pub unsafe fn group_32<S: Simd, W: Format32, const T: usize>(
    rows: &[*const u8; GROUP_ROWS],
    blocks: usize,
    tile: *const Tile32,
    out: *mut f32,
) {
    unsafe {
        for g in 0..PANELS {
            let rows = &rows[PANEL_ROWS * g..PANEL_ROWS * (g + 1)];
            let mut sums = [S::splat(0.0); T];
            for b in 0..blocks {
                let block = std::array::from_fn(|r| rows[r].add(b * W::BYTES));
                ahead::<S>(rows[0].wrapping_add(PANEL_ROWS * (blocks + b) * W::BYTES), PANEL_ROWS * W::BYTES, 1, 0);
                let (a, j) = (&*tile.add(b / 8), b % 8);
                let codes = S::words_32::<W>(block, S::FLIP);
                let mut dots = [S::isplat(0); T];
                if S::FLIP != 0 {
                    for t in 0..T {
                        dots[t] = S::isplat(a.starts[j][t]);
                    }
                }
                let [c0, c1, c2, c3, c4, c5, c6, c7] = codes;
                let dots = four::<S, T>(dots, [c0, c1, c2, c3], &a.q[8 * j..]);
                let dots = four::<S, T>(dots, [c4, c5, c6, c7], &a.q[8 * j + 4..]);
                let (mut d, mut m) = ([0.0; 16], [0.0; 16]);
                S::factors_32::<W>(block, &mut d, &mut m);
                let d = S::load(d.as_ptr());
                for t in 0..T {
                    sums[t] = finish_32::<S, W>(sums[t], dots[t], d, &m, a, j, t);
                }
            }
            for t in 0..T {
                S::store(out.add(GROUP_ROWS * t + PANEL_ROWS * g), sums[t]);
            }
        }
    }
}
