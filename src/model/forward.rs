//! The forward pass: a transformer, read top to bottom (Vaswani et al. 2017; Touvron et al. 2023 for the llama family).
//!
//! A batch is rows of several sequences. Each layer is one job of the team: a list of phases over all rows. The layer
//! API of the package calls the same functions one layer at a time.
use super::{
    Network,
    layer::{Attention, DeltaNet, FeedForward, Mixer, ShortConv},
    weights::{Linear, Matrix, NormWeight},
};
use crate::{
    compute::{Aligned, Phase, Shared, Stopped, Team},
    kernels::{
        self as kernels, Around, GateRows, InputBuffer, Inputs, KvFormat, Lookup, Matmul, Needs, Norm, Page, Part,
        Prepare, Residual, Rotation, ScaleAndCap, Weight,
        attention::{Attend, Join, Layout, RotationTable, Span, Store, Tasks},
        tier,
    },
};
use std::ops::Range;

/// What the rows are: where in which sequence, and where those sequences' pages are.
pub struct Batch<'a> {
    /// Cover the rows in order.
    pub spans: &'a [Span],
    pub pages: &'a [Page],
    /// The recurrent state of each span's sequence; none in models without one.
    pub states: &'a [Page],
    pub layout: Layout,
    /// Layer of the model that pages and states begin with.
    pub first_layer: usize,
    /// Positions that the sequences may grow to: some families rotate long sequences in another way.
    pub context: usize,
}

impl Batch<'_> {
    fn rows(&self) -> usize {
        self.spans.last().map_or(0, |span| span.rows.end)
    }
}

/// Memory of a forward pass, kept from step to step. `hidden` is the residual stream, `[rows, embedding_length]`.
#[derive(Default)]
pub struct Scratch {
    pub hidden: Aligned,
    branch: Aligned,
    /// One table for each kind of rotation.
    rotations: [Aligned; 2],
    mixer: MixerScratch,
    feed_forward: super::feed_forward::Scratch,
    normed: InputBuffer,
    pub logits: Aligned,
}

#[derive(Default)]
struct MixerScratch {
    /// Queries, or what a convolution begins with.
    queries: Aligned,
    keys: Aligned,
    values: Aligned,
    mixed: Aligned,
    gate: Aligned,
    /// Of pieces of attention.
    sums: Aligned,
    input: InputBuffer,
    output: InputBuffer,
}

/// The phases of a job in the making.
pub type Phases<'a> = Vec<Box<dyn Phase + 'a>>;

/// Who runs phases, and who can end that early.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    team: &'a Team,
    stop: &'a dyn Fn() -> bool,
}

impl Runner<'_> {
    pub fn run(&self, phases: &Phases) -> Result<(), Stopped> {
        let phases: Vec<&dyn Phase> = phases.iter().map(|phase| &**phase as &dyn Phase).collect();
        self.team.run_unless(self.stop, &phases)
    }
}

/// The residual stream, and room for what a part of a layer adds to it where that is not added at once.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    pub hidden: Shared<'a, f32>,
    pub branch: Shared<'a, f32>,
}

impl Network {
    /// The layout of the cache's pages for this model.
    pub fn layout(&self, format: KvFormat) -> Layout {
        self.layout_of(format, 0..self.params.layers)
    }

    /// The same for some layers alone.
    pub fn layout_of(&self, format: KvFormat, layers: Range<usize>) -> Layout {
        let params = &self.params;
        let state_bytes = params.state_len(layers.clone()) * size_of::<f32>();
        let layers = params.attention_layers(layers);
        Layout { format, head_dim: params.head_dim, kv_heads: params.kv_heads, layers, state_bytes }
    }

    /// Has it layers whose state cannot be taken back to an earlier position?
    pub fn has_state(&self) -> bool {
        self.params.state_len(0..self.params.layers) > 0
    }

    /// `scratch.hidden` = embedding rows of the tokens.
    pub fn embed(&self, team: &Team, tokens: &[u32], scratch: &mut Scratch) -> Result<(), Stopped> {
        let out = Shared::new(scratch.hidden.get(tokens.len() * self.params.embedding_length));
        let table = self.weights.token_embedding.view(&self.gguf);
        let mut phases: Phases = vec![Box::new(Lookup { table, rows: tokens, out })];
        self.scale_and_cap(self.params.scales.embedding, 0.0, out, &mut phases);
        Runner { team, stop: &|| false }.run(&phases)
    }

    /// Runs `scratch.hidden` through some layers; keys and values go to the batch's pages. When `stop` says so, it ends
    /// within a fraction of a layer, and what it had written is of no use.
    pub fn layers(
        &self,
        team: &Team,
        batch: &Batch,
        layers: Range<usize>,
        scratch: &mut Scratch,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Stopped> {
        let mut tables: Phases = Vec::new();
        for (rope, table) in self.ropes.kinds.iter().zip(&mut scratch.rotations) {
            let frequencies = rope.frequencies(batch.context);
            let table = Shared::new(table.get(batch.rows() * 2 * frequencies.len()));
            let magnitude = rope.magnitude;
            tables.push(Box::new(RotationTable { spans: batch.spans, frequencies, magnitude, table }));
        }
        let runner = Runner { team, stop };
        runner.run(&tables)?;
        drop(tables);
        let tasks = Tasks::new(batch.spans, self.params.heads, self.params.kv_heads, team.threads());
        for index in layers {
            self.layer(runner, batch, index, &tasks, scratch)?;
        }
        Ok(())
    }

    /// One layer: `x += attention(norm(x))` (or what the layer has in its place), then `x += feed_forward(norm(x))`; or both
    /// of one `norm(x)`.
    fn layer(
        &self,
        runner: Runner,
        batch: &Batch,
        index: usize,
        tasks: &Tasks,
        scratch: &mut Scratch,
    ) -> Result<(), Stopped> {
        let layer = &self.weights.layers[index];
        let len = batch.rows() * self.params.embedding_length;
        let Scratch { hidden, branch, rotations, mixer, feed_forward, .. } = scratch;
        let stream = Stream { hidden: Shared::new(hidden.get(len)), branch: Shared::new(branch.get(len)) };
        let mut phases = Phases::new();
        let normed = match &layer.mixer {
            Mixer::Attention(attention) => {
                self.attention(attention, batch, index, tasks, rotations, stream, mixer, &mut phases)
            }
            Mixer::ShortConv(conv) => self.short_conv(conv, batch, index, stream, mixer, &mut phases),
            Mixer::DeltaNet(net) => self.delta_net(net, batch, index, stream, mixer, &mut phases),
        };
        match &layer.ffn {
            FeedForward::Experts(mixture) => self.experts(runner, mixture, layer, stream, feed_forward, phases),
            FeedForward::Dense(dense) => {
                self.dense(dense, layer, layer.parallel.then_some(normed), stream, feed_forward, &mut phases);
                runner.run(&phases)
            }
        }
    }

    /// The attention half of a layer. What it gives back is its normed input.
    #[allow(clippy::too_many_arguments)] // the parts of one scratch memory, borrowed one by one
    fn attention<'a>(
        &'a self,
        attention: &'a Attention,
        batch: &'a Batch,
        index: usize,
        tasks: &'a Tasks,
        rotations: &'a mut [Aligned; 2],
        stream: Stream<'a>,
        scratch: &'a mut MixerScratch,
        phases: &mut Phases<'a>,
    ) -> Inputs<'a> {
        let (tier, params, layer) = (tier(), &self.params, &self.weights.layers[index]);
        let rows = batch.rows();
        let (query_len, kv_len) = (params.heads * params.head_dim, params.kv_heads * params.head_dim);
        let MixerScratch { queries, keys, values, mixed, gate, sums, input, output } = scratch;
        let queries = Shared::new(queries.get(rows * query_len));
        let keys = Shared::new(keys.get(rows * kv_len));
        let values = Shared::new(values.get(rows * kv_len));
        let attended = Shared::new(mixed.get(rows * query_len));
        let gate = Shared::new(gate.get(if attention.gate.is_empty() { 0 } else { rows * query_len }));
        let (rotation, pairs, table) = match self.ropes.of(index, params) {
            Some(kind) => {
                let pairs = self.ropes.kinds[kind].frequencies(batch.context).len();
                (self.family.rotation, pairs, Shared::new(rotations[kind].get(rows * 2 * pairs)))
            }
            None => (Rotation::None, 0, Shared::new(&mut [][..])),
        };

        let [attn_k, attn_v] = [&attention.attn_k, &attention.attn_v];
        let mut needs = self.needs(&[&attention.attn_q[0].weight, &attn_k.weight, &attn_v.weight]);
        if let (true, FeedForward::Dense(dense)) = (layer.parallel, &layer.ffn) {
            needs = needs.and(dense.needs(self));
        }
        let normed = self.inputs(stream.hidden, layer.attn_norm.as_ref(), rows, needs, input, phases);
        let mut qkv = vec![self.linear(attn_k, keys), self.linear(attn_v, values)];
        for (linears, out) in [(&attention.attn_q, queries), (&attention.gate, gate)] {
            qkv.extend(linears.iter().scan(0, |at, linear| {
                let part = self.linear(linear, out.part(*at..out.len()));
                *at += linear.weight.rows();
                Some(Part { stride: query_len, ..part })
            }));
        }
        phases.push(Box::new(Matmul::new(tier, normed, qkv)));
        let cached = params.attention_layers(batch.first_layer..index);
        phases.push(Box::new(Store {
            tier,
            spans: batch.spans,
            pages: batch.pages,
            layout: batch.layout,
            layer: cached,
            heads: params.heads,
            queries,
            keys,
            values,
            norms: attention.qk_norm.as_ref().map(|[q, k]| [self.norm(q), self.norm(k)]),
            norm_rows: self.family.norms_rows(),
            rotation,
            table,
            pairs,
            query_scale: params.scales.attention,
            temperature: params.temperature,
        }));
        let attend = Attend {
            tier,
            spans: batch.spans,
            tasks,
            pages: batch.pages,
            layout: batch.layout,
            layer: cached,
            heads: params.heads,
            window: params.window(index),
            softcap: params.attention_cap,
            sinks: attention.attn_sinks.as_deref(),
            queries,
            out: attended,
            sums: Shared::new(sums.get(tasks.sums_len(params.heads, batch.layout))),
        };
        phases.push(Box::new(attend));
        if tasks.are_cut() {
            phases.push(Box::new(Join(attend)));
        }
        if !attention.gate.is_empty() {
            phases.push(Box::new(GateRows { tier, gate, values: attended, cols: query_len }));
        }
        self.project(attended, &attention.attn_output, layer.attn_post_norm.as_ref(), output, stream, phases);
        normed
    }

    /// A gated short convolution in the place of attention (LFM2). What it gives back is its normed input.
    fn short_conv<'a>(
        &'a self,
        conv: &'a ShortConv,
        batch: &'a Batch,
        index: usize,
        stream: Stream<'a>,
        scratch: &'a mut MixerScratch,
        phases: &mut Phases<'a>,
    ) -> Inputs<'a> {
        let (tier, params, layer) = (tier(), &self.params, &self.weights.layers[index]);
        let (rows, n) = (batch.rows(), params.embedding_length);
        let MixerScratch { queries, mixed, input, output, .. } = scratch;
        let (source, out) = (Shared::new(queries.get(rows * 3 * n)), Shared::new(mixed.get(rows * n)));
        let needs = self.needs(&[&conv.in_proj.weight]);
        let normed = self.inputs(stream.hidden, layer.attn_norm.as_ref(), rows, needs, input, phases);
        phases.push(Box::new(Matmul::new(tier, normed, vec![self.linear(&conv.in_proj, source)])));
        phases.push(Box::new(kernels::ShortConv {
            tier,
            around: Around::Gates,
            spans: batch.spans,
            states: batch.states,
            state_at: params.state_len(batch.first_layer..index),
            weight: &conv.conv,
            channels: n,
            source,
            out,
        }));
        self.project(out, &conv.out_proj, layer.attn_post_norm.as_ref(), output, stream, phases);
        normed
    }

    /// A gated delta net in the place of attention (Qwen3.5). What it gives back is its normed input.
    fn delta_net<'a>(
        &'a self,
        net: &'a DeltaNet,
        batch: &'a Batch,
        index: usize,
        stream: Stream<'a>,
        scratch: &'a mut MixerScratch,
        phases: &mut Phases<'a>,
    ) -> Inputs<'a> {
        let (tier, params, layer) = (tier(), &self.params, &self.weights.layers[index]);
        let (rows, shape) = (batch.rows(), net.shape);
        let (qkv_len, value_len) = (shape.qkv_len(), shape.value_len());
        let MixerScratch { queries, keys, values, mixed, gate, input, output, .. } = scratch;
        let source = Shared::new(queries.get(rows * qkv_len));
        let qkv = Shared::new(keys.get(rows * qkv_len));
        let of_heads = Shared::new(values.get(rows * 2 * shape.value_heads));
        let [alpha, beta] = [0, 1].map(|i| of_heads.part(i * of_heads.len() / 2..(i + 1) * of_heads.len() / 2));
        let (gate, out) = (Shared::new(gate.get(rows * value_len)), Shared::new(mixed.get(rows * value_len)));
        let products =
            [(&net.attn_qkv, source), (&net.attn_gate, gate), (&net.ssm_alpha, alpha), (&net.ssm_beta, beta)];
        let needs = self.needs(&products.map(|(linear, _)| &linear.weight));
        let normed = self.inputs(stream.hidden, layer.attn_norm.as_ref(), rows, needs, input, phases);
        let products = products.map(|(linear, out)| self.linear(linear, out));
        phases.push(Box::new(Matmul::new(tier, normed, products.into())));
        let state_at = params.state_len(batch.first_layer..index);
        phases.push(Box::new(kernels::ShortConv {
            tier,
            around: Around::Silu,
            spans: batch.spans,
            states: batch.states,
            state_at,
            weight: &net.ssm_conv1d,
            channels: qkv_len,
            source,
            out: qkv,
        }));
        phases.push(Box::new(kernels::DeltaNet {
            tier,
            spans: batch.spans,
            states: batch.states,
            state_at: state_at + net.ssm_conv1d.len() - qkv_len,
            shape,
            eps: params.norm_eps,
            qkv,
            alpha,
            beta,
            ssm_dt: &net.ssm_dt,
            ssm_a: &net.ssm_a,
            norm: self.norm(&net.ssm_norm),
            gate,
            out,
        }));
        self.project(out, &net.ssm_out, layer.attn_post_norm.as_ref(), output, stream, phases);
        normed
    }

    /// What products need of some rows, after a norm if there is one.
    pub(super) fn inputs<'a>(
        &'a self,
        source: Shared<'a, f32>,
        norm: Option<&'a NormWeight>,
        rows: usize,
        needs: Needs,
        buffer: &'a mut InputBuffer,
        phases: &mut Phases<'a>,
    ) -> Inputs<'a> {
        let inputs = buffer.inputs(tier(), rows, source.len() / rows, needs);
        phases.push(Box::new(self.prepare(source, norm, inputs)));
        inputs
    }

    /// The last product of a part of a layer, added to the residual stream: at once, or after its norm and scale.
    pub(super) fn project<'a>(
        &'a self,
        source: Shared<'a, f32>,
        linear: &'a Linear,
        norm: Option<&'a NormWeight>,
        buffer: &'a mut InputBuffer,
        stream: Stream<'a>,
        phases: &mut Phases<'a>,
    ) {
        let rows = stream.hidden.len() / self.params.embedding_length;
        let inputs = self.inputs(source, None, rows, self.needs(&[&linear.weight]), buffer, phases);
        let add = norm.is_none() && self.params.scales.residual == 1.0;
        let out = if add { stream.hidden } else { stream.branch };
        phases.push(Box::new(Matmul::new(tier(), inputs, vec![Part { add, ..self.linear(linear, out) }])));
        if !add {
            phases.push(Box::new(self.residual(norm, stream)));
        }
    }

    pub(super) fn residual<'a>(&'a self, norm: Option<&'a NormWeight>, stream: Stream<'a>) -> Residual<'a> {
        Residual {
            tier: tier(),
            branch: stream.branch,
            norm: norm.map(|norm| self.norm(norm)),
            scale: self.params.scales.residual,
            out: stream.hidden,
            cols: self.params.embedding_length,
        }
    }

    /// `scratch.logits` = logits of some rows of `scratch.hidden`, `[rows.len(), vocabulary]`.
    pub fn logits(&self, team: &Team, rows: &[u32], of: usize, scratch: &mut Scratch) -> Result<(), Stopped> {
        let (params, n, output) = (&self.params, self.params.embedding_length, &self.weights.output);
        let Scratch { hidden, logits, normed, .. } = scratch;
        let logits = Shared::new(logits.get(rows.len() * self.vocabulary_size()));
        let normed = normed.inputs(tier(), rows.len(), n, self.needs(&[&output.weight]));
        let norm = self.prepare(Shared::new(hidden.get(of * n)), Some(&self.weights.output_norm), normed);
        let mut phases: Phases = vec![
            Box::new(Prepare { rows: Some(rows), ..norm }),
            Box::new(Matmul::new(tier(), normed, vec![self.linear(output, logits)])),
        ];
        self.scale_and_cap(params.scales.logits, params.logit_cap, logits, &mut phases);
        Runner { team, stop: &|| false }.run(&phases)
    }

    fn scale_and_cap<'a>(&self, scale: f32, cap: f32, values: Shared<'a, f32>, phases: &mut Phases<'a>) {
        if scale != 1.0 || cap != 0.0 {
            phases.push(Box::new(ScaleAndCap { tier: tier(), scale, cap, values }));
        }
    }

    pub(super) fn needs(&self, matrices: &[&Matrix]) -> Needs {
        matrices.iter().fold(Needs::default(), |needs, matrix| needs.and(matrix.view(&self.gguf).needs()))
    }

    pub(super) fn norm<'a>(&self, norm: &'a NormWeight) -> Norm<'a> {
        norm.norm(self.family.norm, self.params.norm_eps)
    }

    /// Norm (if any) and quantise rows of `source`.
    pub(super) fn prepare<'a>(
        &'a self,
        source: Shared<'a, f32>,
        norm: Option<&'a NormWeight>,
        inputs: Inputs<'a>,
    ) -> Prepare<'a> {
        Prepare { tier: tier(), source, rows: None, norm: norm.map(|norm| self.norm(norm)), inputs }
    }

    pub(super) fn linear<'a>(&'a self, linear: &'a Linear, out: Shared<'a, f32>) -> Part<'a> {
        Part { bias: linear.bias.as_deref(), ..part(linear.weight.view(&self.gguf), out) }
    }
}

/// A whole matrix whose output rows lie one after the other.
pub(super) fn part<'a>(weight: Weight<'a>, out: Shared<'a, f32>) -> Part<'a> {
    Part { stride: weight.rows(), weight, gate: None, bias: None, gelu: false, out, add: false }
}
