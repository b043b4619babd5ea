//! What llama.cpp makes of some texts, for every name of a pre-tokenizer and every kind of vocabulary.
//! `scripts/fuzz-tokenizers.py` wrote `vectors.json` and says how the vocabularies came about.
use super::files::tokenizer;
use super::*;
use crate::gguf::testing::{Owned, Writer};
use crate::tokenizer::styles::STYLES;
use serde_json::Value as Json;

/// A metadata value: a list of fractions is one of scores, of other numbers one of kinds; bytes are in hexadecimal.
fn owned(value: &Json) -> Owned {
    let array = |example: Owned, values: Vec<Owned>| Owned::Array(example.type_id(), values);
    match value {
        Json::Bool(value) => Owned::Bool(*value),
        Json::Number(number) => Owned::U32(number.as_u64().unwrap() as u32),
        Json::String(text) => Owned::str(text),
        Json::Array(values) if values[0].is_string() => array(Owned::str(""), values.iter().map(owned).collect()),
        Json::Array(values) if values[0].is_f64() => {
            array(Owned::F32(0.0), values.iter().map(|value| Owned::F32(value.as_f64().unwrap() as f32)).collect())
        }
        Json::Array(values) => {
            array(Owned::I32(0), values.iter().map(|value| Owned::I32(value.as_i64().unwrap() as i32)).collect())
        }
        Json::Object(object) => {
            let digits = object["hex"].as_str().unwrap();
            let byte = |at| Owned::U8(u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            array(Owned::U8(0), (0..digits.len()).step_by(2).map(byte).collect())
        }
        Json::Null => panic!("no value"),
    }
}

fn file(metadata: &serde_json::Map<String, Json>, pre: Option<&str>) -> Writer {
    let pairs = metadata.iter().filter(|(key, _)| pre.is_none() || *key != keys::PRE);
    let writer = pairs.fold(Writer::default(), |writer, (key, value)| writer.pair(key, owned(value)));
    match pre {
        Some(pre) => writer.pair(keys::PRE, Owned::str(pre)),
        None => writer,
    }
}

#[test]
fn every_name_gives_the_ids_of_llama_cpp() {
    let document: Json = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let texts = document["texts"].as_array().unwrap();
    let byte_level = document["vocabularies"][0]["metadata"].as_object().unwrap();
    let mut seen = Vec::new();
    for vocabulary in document["vocabularies"].as_array().unwrap() {
        let own = vocabulary["metadata"].as_object().unwrap();
        for name in vocabulary["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
            // Names without a vocabulary of their own are put into the byte-level one.
            let is_name = own.is_empty() || own == byte_level;
            let file = if is_name { file(byte_level, Some(name)) } else { file(own, None) };
            seen.push(if is_name { name } else { own.get(keys::PRE).map_or("", |pre| pre.as_str().unwrap()) });
            let tokenizer = tokenizer(file);
            for (text, expected) in texts.iter().zip(vocabulary["ids"].as_array().unwrap()) {
                let (text, flags) = (text[0].as_str().unwrap(), text[1].as_u64().unwrap());
                let expected: Vec<u32> =
                    expected.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
                let ids = tokenizer.encode(text, flags & 1 != 0, flags & 2 != 0);
                assert_eq!(ids, expected, "{name}: {text:?}");
            }
        }
    }
    for name in STYLES.iter().flat_map(|style| style.names) {
        assert!(seen.contains(name), "no vectors for {name}");
    }
}
