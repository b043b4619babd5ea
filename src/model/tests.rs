//! Small models of many families against llama.cpp: `testdata/make.py` describes them and records its logits.
use super::*;
use crate::{
    compute::Team,
    gguf::{
        TensorType,
        testing::{Owned, Tensor, Writer},
    },
    kernels::{KvFormat, attention::Span, page::PageMemory},
};
use serde_json::Value as Json;

/// As in `testdata/make.py`.
fn weights(name: &str, count: usize, mean: f64, spread: f64) -> impl Iterator<Item = f32> {
    let seed =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        (mean + spread * ((z >> 40) as f64 / f64::from(1 << 23) - 1.0)) as f32
    })
}

fn number(json: &Json) -> usize {
    json.as_u64().unwrap() as usize
}

fn list(json: &Json) -> &Vec<Json> {
    json.as_array().unwrap()
}

fn owned(value: &Json) -> Owned {
    match value {
        Json::Bool(value) => Owned::Bool(*value),
        Json::String(value) => Owned::str(value),
        Json::Array(values) => {
            let values: Vec<_> = values.iter().map(owned).collect();
            Owned::Array(values[0].type_id(), values)
        }
        value => value.as_u64().map_or_else(|| Owned::F32(value.as_f64().unwrap() as f32), |n| Owned::U32(n as u32)),
    }
}

/// The file that a model of `families.json` describes.
fn describe(model: &Json) -> Writer {
    let mut writer = Writer::default().pair("general.architecture", owned(&model["architecture"]));
    for pair in list(&model["keys"]) {
        writer = writer.pair(pair[0].as_str().unwrap(), owned(&pair[1]));
    }
    for tensor in list(&model["tensors"]) {
        let name = tensor[0].as_str().unwrap();
        let layers = if name.contains('*') { number(&model["layers"]) } else { 1 };
        let dimensions: Vec<u64> = list(&tensor[1]).iter().rev().map(|size| size.as_u64().unwrap()).collect();
        let count = dimensions.iter().product::<u64>() as usize;
        for layer in 0..layers {
            let name = name.replace('*', &layer.to_string());
            writer = writer.tensor(&name, TensorType::F32, &dimensions);
            let at = writer.data.len() - 4 * count;
            let values = weights(&name, count, tensor[2].as_f64().unwrap(), tensor[3].as_f64().unwrap());
            for (bytes, value) in writer.data[at..].as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
    }
    writer
}

fn network(writer: &Writer) -> Result<Network, Error> {
    Network::new(Arc::new(Gguf::from_bytes(writer.write()).unwrap()))
}

/// Logits of all positions, `at_once` rows at a time.
fn logits(network: &Network, team: &Team, ids: &[u32], context: usize, at_once: usize) -> Vec<Vec<f32>> {
    let layout = network.layout(KvFormat::F32);
    let memory: Vec<_> = ids.chunks(64).map(|_| PageMemory::new(layout.page_bytes()).unwrap()).collect();
    let pages: Vec<_> = memory.iter().map(|page| page.address()).collect();
    let state = layout.has_state().then(|| PageMemory::new(layout.state_bytes).unwrap());
    let states: Vec<_> = state.iter().map(|state| state.address()).collect();
    let mut scratch = Scratch::default();
    let mut found = Vec::new();
    for (i, ids) in ids.chunks(at_once).enumerate() {
        let spans = [Span { rows: 0..ids.len(), position: i * at_once, origin: 0, first_page: 0 }];
        let batch = Batch { spans: &spans, pages: &pages, states: &states, layout, first_layer: 0, context };
        let rows: Vec<u32> = (0..ids.len() as u32).collect();
        network.embed(team, ids, &mut scratch).unwrap();
        network.layers(team, &batch, 0..network.params.layers, &mut scratch, &|| false).unwrap();
        network.logits(team, &rows, ids.len(), &mut scratch).unwrap();
        let size = network.vocabulary_size();
        found.extend(scratch.logits.get::<f32>(ids.len() * size).chunks(size).map(<[f32]>::to_vec));
    }
    found
}

fn document() -> Json {
    serde_json::from_str(include_str!("testdata/families.json")).unwrap()
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let document = document();
    let ids: Vec<u32> = list(&document["ids"]).iter().map(|id| number(id) as u32).collect();
    let context = number(&document["context"]);
    let team = Team::new(2);
    let mut wrong = Vec::new();
    for model in list(&document["models"]) {
        let name = model["name"].as_str().unwrap();
        let network = network(&describe(model)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let whole = logits(&network, &team, &ids, context, ids.len());
        for at_once in [1, 23] {
            assert!(
                whole == logits(&network, &team, &ids, context, at_once),
                "{name}: {at_once} rows at a time differ"
            );
        }
        // llama.cpp looks GELU up in a table of half precision.
        let gelu = ["gemma", "phi2", "starcoder2"].iter().any(|family| name.starts_with(family));
        let granted = if gelu { 3e-3 } else { 3e-5 };
        for (row, expected) in list(&document["rows"]).iter().zip(list(&model["logits"])) {
            let expected: Vec<f64> = list(expected).iter().map(|x| x.as_f64().unwrap()).collect();
            let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
            let found = &whole[number(row)];
            let apart = square(&mut found.iter().zip(&expected).map(|(&a, &b)| f64::from(a) - b));
            let error = (apart / square(&mut expected.iter().copied())).sqrt();
            println!("{name}, row {row}: {error:.1e}");
            if error.is_nan() || error > granted {
                wrong.push(format!("{name}, row {row}: {error:.1e}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whatever the numbers in the file, an error and no panic, or a model that computes something.
#[test]
fn damaged_hyper_parameters_are_errors() {
    let document = document();
    let team = Team::new(1);
    let bad = |value: &Owned| -> Vec<Owned> {
        match value {
            Owned::U32(n) => [0, 1, 3, n + 1, n / 2, 1 << 24, u32::MAX].map(Owned::U32).into(),
            Owned::F32(_) => [0.0, -1.0, 1e-40, f32::MAX, f32::NAN, f32::INFINITY].map(Owned::F32).into(),
            Owned::Bool(b) => vec![Owned::Bool(!b), Owned::U32(2)],
            Owned::Array(ty, values) => vec![Owned::Array(*ty, values[1..].to_vec()), Owned::Array(*ty, Vec::new())],
            _ => vec![Owned::str("nothing"), Owned::U32(1)],
        }
    };
    for model in list(&document["models"]).iter().filter(|model| number(&model["layers"]) < 10) {
        let writer = describe(model);
        for i in 0..writer.pairs.len() {
            for value in bad(&writer.pairs[i].1) {
                let mut damaged = writer.clone();
                damaged.pairs[i].1 = value;
                if let Ok(network) = network(&damaged) {
                    logits(&network, &team, &[1, 2, 3], 3, 2);
                }
            }
            let mut damaged = writer.clone();
            damaged.pairs.remove(i);
            drop(network(&damaged));
        }
    }
}

/// A file with `scale` tensors beside its weights is one with larger weights: by a power of two, so that no bit differs.
#[test]
fn scales_beside_weights_multiply_them() {
    let document = document();
    let team = Team::new(2);
    let scaled = ["llama, biases, wide heads", "qwen2moe", "phi2", "phi3, shared keys", "gpt-oss"];
    for model in list(&document["models"]).iter().filter(|model| scaled.contains(&model["name"].as_str().unwrap())) {
        let (mut beside, mut within) = (describe(model), describe(model));
        for tensor in within.tensors.clone() {
            let name = String::from_utf8(tensor.name).unwrap();
            let Some(stem) = name.strip_suffix("weight").filter(|_| tensor.dimensions.len() > 1) else { continue };
            let experts = tensor.dimensions.get(2).map_or(1, |&n| n as usize);
            let scales: Vec<f32> = (0..experts).map(|expert| [0.5, 2.0, 4.0][(expert + name.len()) % 3]).collect();
            beside = beside.tensor(&format!("{stem}input_scale"), TensorType::F32, &[experts as u64]).tensor(
                &format!("{stem}scale"),
                TensorType::F32,
                &[experts as u64],
            );
            let at = beside.data.len() - 4 * experts;
            beside.data[at..].copy_from_slice(bytemuck::cast_slice(&scales));
            let count = tensor.dimensions.iter().product::<u64>() as usize;
            let bytes = &mut within.data[tensor.offset as usize..][..4 * count];
            for (i, bytes) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *bytes = (f32::from_le_bytes(*bytes) * scales[i / (count / experts)]).to_le_bytes();
            }
        }
        let found = [beside, within].map(|writer| logits(&network(&writer).unwrap(), &team, &[1, 2, 3, 4, 5], 5, 5));
        assert!(found[0] == found[1], "{}", model["name"]);
    }
}

/// llama.cpp's converter can write the gates of experts and what they act on as one tensor.
#[test]
fn experts_in_one_tensor_are_those_in_two() {
    let document = document();
    let team = Team::new(2);
    let mut models = 0;
    for model in list(&document["models"]) {
        let apart = describe(model);
        let of = |part: &str| {
            let of_part = |tensor: &&Tensor| String::from_utf8_lossy(&tensor.name).contains(part);
            apart.tensors.iter().filter(of_part).cloned().collect::<Vec<_>>()
        };
        let (gates, ups) = (of("ffn_gate_exps."), of("ffn_up_exps."));
        if gates.is_empty() {
            continue;
        }
        models += 1;
        let mut fused = apart.clone();
        fused.tensors.retain(|tensor| !gates.iter().chain(&ups).any(|part| part.name == tensor.name));
        for (gate, up) in gates.iter().zip(&ups) {
            let mut dimensions = gate.dimensions.clone();
            let experts = *dimensions.last().unwrap() as usize;
            let rows = dimensions.len() - 2;
            dimensions[rows] *= 2;
            let name = String::from_utf8_lossy(&gate.name).replace("gate", "gate_up");
            fused = fused.tensor(&name, TensorType::F32, &dimensions);
            let each = 4 * gate.dimensions.iter().product::<u64>() as usize / experts;
            let at = fused.data.len() - 2 * each * experts;
            for (i, half) in fused.data[at..].chunks_mut(each).enumerate() {
                let part = [gate, up][i % 2];
                half.copy_from_slice(&apart.data[part.offset as usize + i / 2 * each..][..each]);
            }
        }
        let found = [&apart, &fused].map(|writer| logits(&network(writer).unwrap(), &team, &[1, 2, 3, 4, 5], 5, 5));
        assert!(found[0] == found[1], "{}", model["name"]);
    }
    assert_eq!(models, 8, "models with experts");
}

#[test]
fn tensors_without_a_place_are_refused_by_name() {
    let document = document();
    let llama = &list(&document["models"])[0];
    for name in ["blk.0.attn_q_norm.weight", "blk.1.ssm_in.weight", "blk.1.ssm_in.scale", "blk.2.nextn.eh_proj.weight"]
    {
        let writer = describe(llama).tensor(name, TensorType::F32, &[4]);
        let error = network(&writer).err().unwrap();
        assert!(matches!(&error, Error::Unsupported(text) if text.contains(name)), "{error}");
    }
    let missing = Writer { tensors: describe(llama).tensors[1..].to_vec(), ..describe(llama) };
    assert!(matches!(network(&missing).err().unwrap(), Error::Bad(text) if text.contains("token_embd.weight")));
}
