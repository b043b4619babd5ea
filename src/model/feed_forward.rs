//! The feed-forward half of a layer: one network, or experts of which each row meets the few that its router prefers.
use super::{
    Network,
    family::Activation,
    forward::{Phases, Runner, Stream, part},
    layer::{Dense, Layer, Mixture},
    weights::Experts,
};
use crate::{
    compute::{Aligned, Shared, Stopped},
    kernels::{
        Gate, Gather, Glu, InputBuffer, Inputs, Matmul, Needs, Part,
        mixture::{self, Beside, Combine, Groups, SharedExpert},
        tier,
    },
};

#[derive(Default)]
pub struct Scratch {
    input: InputBuffer,
    shared_input: InputBuffer,
    inner_input: InputBuffer,
    inner: Aligned,
    router_logits: Aligned,
    /// Inputs of each expert's two products.
    expert_inputs: Vec<[InputBuffer; 2]>,
    expert_inner: Aligned,
    expert_results: Aligned,
    shared_gates: Aligned,
    shared_results: Aligned,
}

impl Dense {
    /// What the products with its input need.
    pub fn needs(&self, network: &Network) -> Needs {
        let up = network.needs(&[&self.up.weight]);
        self.gate.as_ref().map_or(up, |gate| up.and(network.needs(&[&gate.weight])))
    }
}

impl Network {
    /// `x += down · (f(gate · norm(x)) * (up · norm(x)))`. `normed`: the input, if it is there already.
    pub(super) fn dense<'a>(
        &'a self,
        dense: &'a Dense,
        layer: &'a Layer,
        normed: Option<Inputs<'a>>,
        stream: Stream<'a>,
        scratch: &'a mut Scratch,
        phases: &mut Phases<'a>,
    ) {
        let rows = stream.hidden.len() / self.params.embedding_length;
        let Scratch { input, inner_input, inner, .. } = scratch;
        let normed = normed.unwrap_or_else(|| {
            self.inputs(stream.hidden, layer.ffn_norm.as_ref(), rows, dense.needs(self), input, phases)
        });
        let ff = dense.up.weight.rows();
        let inner = Shared::new(inner.get(rows * ff));
        phases.push(Box::new(Matmul::new(tier(), normed, vec![self.gate_up(dense, inner)])));
        self.project(inner, &dense.down, layer.ffn_post_norm.as_ref(), inner_input, stream, phases);
    }

    fn gate_up<'a>(&'a self, dense: &'a Dense, inner: Shared<'a, f32>) -> Part<'a> {
        let up = self.linear(&dense.up, inner);
        match &dense.gate {
            Some(gate) => {
                let (weight, bias) = (gate.weight.view(&self.gguf), gate.bias.as_deref());
                Part { gate: Some(Gate { weight, bias, glu: self.glu() }), ..up }
            }
            None => Part { gelu: true, ..up },
        }
    }

    fn glu(&self) -> Glu {
        match self.family.activation {
            Activation::Gated(glu) => glu,
            Activation::Gelu => Glu::Gelu,
        }
    }

    /// Runs `phases`, then the experts: `x += sum of weight * expert(norm(x))` over those that each row chose.
    ///
    /// Rows are grouped by expert, so that each expert's weights are read once; a row's result does not depend on the
    /// rows beside it.
    pub(super) fn experts(
        &self,
        runner: Runner,
        mixture: &Mixture,
        layer: &Layer,
        stream: Stream,
        scratch: &mut Scratch,
        phases: Phases,
    ) -> Result<(), Stopped> {
        let (tier, params) = (tier(), &self.params);
        let (n, used) = (params.embedding_length, params.experts_used);
        let (rows, ff) = (stream.hidden.len() / n, mixture.up.rows());
        let Scratch { input, inner_input, inner, router_logits, shared_gates, shared_results, .. } = scratch;
        let Scratch { expert_inputs, expert_inner, expert_results, shared_input, .. } = scratch;
        let norm = layer.ffn_norm.as_ref();

        let view = |experts: &Experts, expert| experts.view(&self.gguf, expert);

        // These borrow for a shorter time.
        let mut phases: Phases = phases;
        // Which experts: read here, on the calling thread, so this ends a job.
        let logits = router_logits.get::<f32>(rows * params.experts);
        let gates = Shared::new(shared_gates.get(if mixture.shared_gate.is_some() { rows } else { 0 }));
        let mut needs = self.needs(&[&mixture.router.weight]).and(view(&mixture.gate, 0).needs());
        needs = needs.and(view(&mixture.up, 0).needs());
        needs = mixture.shared_gate.as_ref().map_or(needs, |gate| needs.and(self.needs(&[gate])));
        let normed = input.rows(rows, n, needs);
        phases.push(Box::new(self.prepare(stream.hidden, norm, normed)));
        let mut parts = vec![self.linear(&mixture.router, Shared::new(&mut *logits))];
        parts.extend(mixture.shared_gate.as_ref().map(|gate| part(gate.view(&self.gguf), gates)));
        phases.push(Box::new(Matmul::new(tier, normed, parts)));
        runner.run(&phases)?;
        drop(phases);
        let chosen: Vec<(u32, f32)> = logits
            .chunks(params.experts)
            .flat_map(|logits| match &mixture.choice_bias {
                Some(bias) => mixture::choose_by_sigmoid(logits, bias, used),
                None => mixture::choose(logits, used, self.family.weights_sum_to_one),
            })
            .collect();
        let Groups { groups, places } = Groups::new(&chosen, used, params.experts);

        // Each step of all experts is one phase.
        let [mut gather, mut gate_up, mut quantise, mut down] = [const { Phases::new() }; 4];
        let inners = Shared::new(expert_inner.get::<f32>(rows * used * ff));
        let results = Shared::new(expert_results.get(rows * used * n));
        let mut start = 0;
        expert_inputs.resize_with(groups.len().max(expert_inputs.len()), Default::default);
        for ((expert, group), [input, inner_input]) in groups.iter().zip(expert_inputs) {
            let (expert, end) = (*expert, start + group.len());
            let (inner, out) = (inners.part(start * ff..end * ff), results.part(start * n..end * n));
            start = end;
            let (gate, up) = (view(&mixture.gate, expert), view(&mixture.up, expert));
            let inputs = input.inputs(tier, group.len(), n, gate.needs().and(up.needs()));
            gather.push(Box::new(Gather { tier, from: normed, rows: group, inputs }));
            let gate = Gate { weight: gate, bias: mixture.gate.bias(expert), glu: self.glu() };
            let up = Part { gate: Some(gate), bias: mixture.up.bias(expert), ..part(up, inner) };
            gate_up.push(Box::new(Matmul::new(tier, inputs, vec![up])));
            let weight = view(&mixture.down, expert);
            let shrunk = inner_input.inputs(tier, group.len(), ff, weight.needs());
            quantise.push(Box::new(self.prepare(inner, None, shrunk)));
            let project = Part { bias: mixture.down.bias(expert), ..part(weight, out) };
            down.push(Box::new(Matmul::new(tier, shrunk, vec![project])));
        }
        let shared = mixture.shared.as_ref().map(|shared| {
            let ff = shared.up.weight.rows();
            let inner = Shared::new(inner.get(rows * ff));
            let results = Shared::new(shared_results.get(rows * n));
            let normed = shared_input.inputs(tier, rows, n, shared.needs(self));
            gather.push(Box::new(self.prepare(stream.hidden, norm, normed)));
            gate_up.push(Box::new(Matmul::new(tier, normed, vec![self.gate_up(shared, inner)])));
            let shrunk = inner_input.inputs(tier, rows, ff, self.needs(&[&shared.down.weight]));
            quantise.push(Box::new(self.prepare(inner, None, shrunk)));
            down.push(Box::new(Matmul::new(tier, shrunk, vec![self.linear(&shared.down, results)])));
            SharedExpert { results, gates: mixture.shared_gate.as_ref().map(|_| gates) }
        });
        let steps = [gather, gate_up, quantise, down];
        let mut phases: Phases = Vec::new();
        for step in steps {
            phases.push(Box::new(Beside::new(step)));
        }
        phases.push(Box::new(Combine {
            tier,
            slots: used,
            places: &places,
            results,
            shared,
            out: stream.branch,
            cols: n,
        }));
        phases.push(Box::new(self.residual(layer.ffn_post_norm.as_ref(), stream)));
        runner.run(&phases)
    }
}
