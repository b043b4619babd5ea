//! Any bytes: opening them gives an error or a file of which everything can be read.
#![no_main]
use libfuzzer_sys::fuzz_target;
use realm_node::gguf::{Array, Gguf, Value};
use std::hint::black_box;

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::from_bytes(bytes.to_vec()) else { return };
    for (key, value) in gguf.metadata().iter() {
        assert!(gguf.metadata().get(key).is_some());
        read_as_every_type(&gguf, key);
        if let Value::Array(array) = value {
            walk(array);
        }
    }
    for tensor in gguf.tensors() {
        let named = gguf.tensor(&tensor.name).expect("listed tensors are found by name");
        assert_eq!(gguf.data(named).len(), tensor.byte_len);
        black_box(gguf.data(tensor).iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
    }
});

fn read_as_every_type(gguf: &Gguf, key: &str) {
    let metadata = gguf.metadata();
    black_box((metadata.u32(key).is_ok(), metadata.f32(key).is_ok(), metadata.bool(key).is_ok()));
    black_box((metadata.str(key).is_ok(), metadata.array(key).is_ok()));
}

fn walk(array: Array) {
    black_box(array.f32s().map(|numbers| numbers.sum::<f32>()));
    black_box(array.ints().map(|numbers| numbers.fold(0i64, i64::wrapping_add)));
    black_box(array.byte_strings().map(|strings| strings.map(<[u8]>::len).sum::<usize>()));
    assert_eq!(array.values().count(), array.len());
    for value in array.values() {
        if let Value::Array(inner) = value {
            walk(inner);
        }
    }
}
