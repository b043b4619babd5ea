//! Short causal convolutions: every channel's latest few inputs, weighed.
use super::{attention::Span, generic::attention::Page, scalar::Glu, tier::Tier};
use crate::compute::{Lane, Phase, Shared};

/// What is computed around the convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// A row of the source is three parts b, c and x: the input is `b * x`, the output is multiplied by c (LFM2; `lfm2.cpp`
    /// of llama.cpp).
    Gates,
    /// A row of the source is the input, the output goes through SiLU (a delta net's queries, keys and values).
    Silu,
}

/// Phase: convolves the rows of each sequence with what came before them, and keeps the latest inputs for the next rows.
///
/// An output is the sum of `weight * input` from the oldest input on, each operation rounded by itself, so neither the
/// batch nor the instruction set changes it.
pub struct ShortConv<'a> {
    pub tier: &'static Tier,
    pub spans: &'a [Span],
    /// The state of each span's sequence.
    pub states: &'a [Page],
    /// Where the layer's part of a state begins, in numbers: `[kernel - 1, channels]`, the oldest input first.
    pub state_at: usize,
    /// `[kernel, channels]`, that of the oldest input first.
    pub weight: &'a [f32],
    pub channels: usize,
    pub around: Around,
    /// `[rows, parts * channels]`.
    pub source: Shared<'a, f32>,
    /// `[rows, channels]`.
    pub out: Shared<'a, f32>,
}

/// Channels of a chunk.
const WIDTH: usize = 64;

impl ShortConv<'_> {
    fn blocks(&self) -> usize {
        self.channels.div_ceil(WIDTH)
    }

    fn parts(&self) -> usize {
        match self.around {
            Around::Gates => 3,
            Around::Silu => 1,
        }
    }

    /// Some channels of a part of a row.
    ///
    /// # Safety
    /// As for [`Shared::read`].
    unsafe fn part(&self, row: usize, part: usize, first: usize, width: usize) -> &[f32] {
        let at = (row * self.parts() + part) * self.channels + first;
        // SAFETY: the caller's promise.
        unsafe { self.source.read(at..at + width) }
    }
}

impl Phase for ShortConv<'_> {
    fn chunks(&self) -> usize {
        self.spans.len() * self.blocks()
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let (span, first) = (chunk / self.blocks(), chunk % self.blocks() * WIDTH);
        let (rows, state) = (self.spans[span].rows.clone(), self.states[span].0.cast::<f32>());
        let (n, width) = (self.channels, WIDTH.min(self.channels - first));
        let kernel = self.weight.len() / n;
        let past = kernel - 1;
        // SAFETY: the state has room for this layer, and these channels of it are this chunk's.
        let kept =
            |i: usize| unsafe { std::slice::from_raw_parts_mut(state.add(self.state_at + i * n + first), width) };
        let inputs = lane.rows.get::<f32>((past + rows.len()) * width);
        for (i, input) in inputs.chunks_exact_mut(width).take(past).enumerate() {
            input.copy_from_slice(kept(i));
        }
        for (row, input) in rows.clone().zip(inputs.chunks_exact_mut(width).skip(past)) {
            // SAFETY (both): an earlier phase wrote the source.
            input.copy_from_slice(unsafe { self.part(row, self.parts() - 1, first, width) });
            if self.around == Around::Gates {
                let b = unsafe { self.part(row, 0, first, width) };
                input.iter_mut().zip(b).for_each(|(input, b)| *input *= b);
            }
        }
        for (i, row) in rows.clone().enumerate() {
            let mut sums = [0.0; WIDTH];
            let sums = &mut sums[..width];
            for (k, weight) in self.weight.chunks_exact(n).enumerate() {
                let (weight, input) = (&weight[first..first + width], &inputs[(i + k) * width..(i + k + 1) * width]);
                sums.iter_mut().zip(weight).zip(input).for_each(|((sum, weight), input)| *sum += weight * input);
            }
            // SAFETY (all): these channels of the row are this chunk's; an earlier phase wrote the source; the tier was
            // chosen for this processor.
            let out = unsafe { self.out.write(row * n + first..row * n + first + width) };
            match self.around {
                Around::Gates => {
                    let c = unsafe { self.part(row, 1, first, width) };
                    out.iter_mut().zip(c).zip(sums).for_each(|((out, c), sum)| *out = *sum * c);
                }
                Around::Silu => unsafe { (self.tier.glu)(Glu::Silu, sums, &[1.0; WIDTH][..width], out) },
            }
        }
        for (i, input) in inputs.chunks_exact(width).skip(rows.len()).enumerate() {
            kept(i).copy_from_slice(input);
        }
    }
}
