//! The real files of `../shared/fixtures` open with the tensors and the metadata that their index says they have.
use realm_node::gguf::Gguf;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn fixture(path: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    assert!(fixtures.is_dir(), "the fixtures must be at ../shared/fixtures, beside the project (see CONTRIBUTING.md)");
    fixtures.join(path)
}

fn open(path: &str) -> Gguf {
    Gguf::open(&fixture(path)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn models_have_the_tensors_of_their_index() {
    let index = fs::read_to_string(fixture("models/index.json")).expect("models/index.json should be readable");
    let index: serde_json::Value = serde_json::from_str(&index).expect("index.json should be JSON");
    for (name, model) in index["models"].as_object().expect("index.json should map names to models") {
        let gguf = open(&format!("models/{}", model["file"].as_str().expect("every model has a file")));
        assert_eq!(Some(gguf.file_size()), model["bytes"].as_u64(), "{name}");
        let architecture = gguf.metadata().str("general.architecture").unwrap();
        assert_eq!(architecture.as_deref(), model["architecture"].as_str(), "{name}");

        // The index writes `q6_K` where GGUF tools write `Q6_K`.
        let counts = model["tensor_types"].as_object().expect("every model has tensor types");
        let expected: BTreeMap<_, _> = counts.iter().map(|(ty, n)| (ty.to_uppercase(), n.as_u64().unwrap())).collect();
        let mut types: BTreeMap<String, u64> = BTreeMap::new();
        for tensor in gguf.tensors() {
            *types.entry(tensor.ty.name().into()).or_default() += 1;
            assert_eq!(gguf.data(tensor).len(), tensor.byte_len);
        }
        assert_eq!(types, expected, "{name}");

        let (rows, columns) = (&model["hparams"]["n_vocab"], &model["hparams"]["n_embd"]);
        let embedding = gguf.tensor("token_embd.weight").expect("every model has token embeddings");
        assert_eq!(serde_json::json!(embedding.shape), serde_json::json!([rows, columns]), "{name}");
    }
}

#[test]
fn vocabularies_need_no_tensors() {
    let gguf = open("tokenizers/ggml-vocab-llama-spm.gguf");
    assert!(gguf.tensors().is_empty());
    let tokens = gguf.metadata().array("tokenizer.ggml.tokens").unwrap().expect("a vocabulary has tokens");
    let scores = gguf.metadata().array("tokenizer.ggml.scores").unwrap().expect("a vocabulary has scores");
    assert_eq!((tokens.len(), scores.len()), (32_000, 32_000));
    assert_eq!(tokens.byte_strings().unwrap().nth(1), Some(&b"<s>"[..]));
    assert_eq!(scores.f32s().unwrap().nth(260), Some(-1.0));
    assert_eq!(scores.f32s().unwrap().last(), Some(-31_740.0));
}
