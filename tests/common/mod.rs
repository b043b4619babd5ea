//! The fixtures beside the project and their reference documents.
use serde_json::Value;
use std::path::{Path, PathBuf};

pub mod fixtures {
    use super::*;

    /// Panics, and so fails the test, when the fixtures are missing.
    pub fn path(name: &str) -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
        assert!(fixtures.is_dir(), "the fixtures must be at ../shared/fixtures, beside the project (CONTRIBUTING.md)");
        fixtures.join(name)
    }

    pub fn json(name: &str) -> Value {
        let text = std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Name and index entry of every model.
    pub fn models() -> Vec<(String, Value)> {
        let Value::Object(models) = json("models/index.json")["models"].take() else { panic!("no models") };
        models.into_iter().collect()
    }
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A reference document and its arrays.
pub struct Reference {
    pub json: Value,
    arrays: Vec<u8>,
}

pub struct Prompt<'a> {
    pub json: &'a Value,
    pub ids: Vec<u32>,
    pub argmax: Vec<usize>,
    pub margin: Vec<f64>,
    arrays: &'a [u8],
}

pub struct Greedy {
    pub ids: Vec<u32>,
    pub margin: Vec<f64>,
}

impl Reference {
    pub fn open(folder: &Path, name: &str) -> Self {
        let json: Value = serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        let arrays = std::fs::read(folder.join(json["bin"].as_str().unwrap())).unwrap();
        Self { json, arrays }
    }

    pub fn prompt(&self, i: usize) -> Prompt<'_> {
        let json = &self.json["prompts"][i];
        Prompt {
            json,
            ids: ids(&json["ids"]),
            argmax: ids(&json["argmax"]).into_iter().map(|id| id as usize).collect(),
            margin: numbers(&json["margin"]),
            arrays: &self.arrays,
        }
    }

    pub fn greedy(&self) -> Greedy {
        let greedy = &self.json["greedy"];
        Greedy { ids: ids(&greedy["exact"]), margin: numbers(&greedy["exact_margin"]) }
    }
}

impl Prompt<'_> {
    /// The exact logits of each position.
    pub fn logits(&self) -> Vec<Vec<f32>> {
        let array = &self.json["logits"];
        let offset = array["offset"].as_u64().unwrap() as usize;
        let [rows, cols] = ids(&array["shape"])[..] else { panic!("logits have two dimensions") };
        let bytes = &self.arrays[offset..offset + (rows * cols) as usize * 4];
        let all: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        all.chunks(cols as usize).map(<[f32]>::to_vec).collect()
    }
}
