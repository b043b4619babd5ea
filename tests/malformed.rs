//! The files of `../shared/fixtures/malformed` at the layer that reads GGUF: which ones it must open, which ones it must
//! refuse, and what an attempt may allocate. Refusals about hyper-parameters and vocabularies belong to other layers.
use realm_node::{
    gguf::{Gguf, Value},
    model::Network,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What must be refused here. The other files of the manifest whose `expect` is `reject` are well-formed GGUF.
const REFUSED: &[&str] = &[
    "truncation-one-byte",
    "truncation-mid-magic",
    "truncation-after-magic",
    "truncation-mid-key-length",
    "truncation-mid-key",
    "truncation-mid-value-type",
    "truncation-mid-tensor-name",
    "truncation-mid-tensor-offset",
    "truncation-after-half-of-infos",
    "truncation-before-padding",
    "truncation-no-data",
    "truncation-mid-first-tensor",
    "truncation-last-byte-missing",
    "header-magic-ggml",
    "header-version-1",
    "header-version-big-endian",
    "header-kv-count-2p40",
    "header-tensor-count-2p40",
    "header-kv-count-plus-1",
    "header-tensor-count-plus-1",
    "metadata-key-length-2p63",
    "metadata-key-length-max",
    "metadata-key-length-file-size",
    "metadata-value-type-255",
    "metadata-value-type-4294967295",
    "metadata-string-length-2p31",
    "metadata-array-count-u8-2p62",
    "metadata-array-count-u64-2p61",
    "metadata-array-count-f32-max",
    "metadata-array-count-u8-2p33",
    "metadata-array-element-type-99",
    "metadata-array-nested-open",
    "metadata-alignment-0",
    "metadata-alignment-2147483648",
    "metadata-alignment-4294967295",
    "metadata-alignment-string",
    "hparams-split-count-2",
    "tensors-dims-count-0",
    "tensors-dims-count-max",
    "tensors-dim-first-zero",
    "tensors-dim-negative",
    "tensors-dim-2p63",
    "tensors-dims-transposed-vocab",
    "tensors-dims-too-large",
    "tensors-dims-row-not-block",
    "tensors-type-5",
    "tensors-type-31",
    "tensors-type-37",
    "tensors-offset-max",
    "tensors-offset-2p63",
    "tensors-offset-last-short",
    "tensors-offset-misaligned-1",
    "tensors-name-invalid-utf8",
];

/// Where the specification says that a file is invalid and others accept it, we refuse it.
const REFUSED_THOUGH_EITHER: &[&str] = &["metadata-key-too-long", "metadata-key-invalid-utf8", "metadata-bool-2"];

/// No opening may allocate more than this, all allocations added up.
const MOST_ALLOCATED: usize = 64 << 20;

/// The system's allocator, counting the bytes that each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().saturating_add(layout.size()));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on; `at` came from `alloc` above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Case {
    name: String,
    path: PathBuf,
    expect: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/malformed");
    let manifest = fs::read_to_string(folder.join("manifest.json"))
        .expect("the fixtures must be at ../shared/fixtures, beside the project (see CONTRIBUTING.md)");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("manifest.json should be JSON");
    let case = |file: &serde_json::Value| {
        let text =
            |key: &str| file[key].as_str().expect("manifest entries should have names and expectations").to_string();
        let name = text("file").trim_end_matches(".gguf").to_string();
        Case { path: folder.join(text("file")), expect: text("expect"), name }
    };
    manifest["files"].as_array().expect("manifest.json should list files").iter().map(case).collect()
}

/// Reads everything, as other layers would.
fn walk(gguf: &Gguf) {
    for (key, value) in gguf.metadata().iter() {
        assert!(gguf.metadata().get(key).is_some());
        walk_value(value);
    }
    for tensor in gguf.tensors() {
        assert_eq!(gguf.data(tensor).len(), tensor.byte_len);
    }
}

fn walk_value(value: Value) {
    if let Value::Array(array) = value {
        assert_eq!(array.values().count(), array.len());
        array.values().for_each(walk_value);
    }
}

#[test]
fn every_file_opens_or_is_refused_as_it_should() {
    let cases = cases();
    for known in REFUSED.iter().chain(REFUSED_THOUGH_EITHER) {
        assert!(cases.iter().any(|case| case.name == *known), "{known} is not in the manifest");
    }
    for Case { name, path, expect } in cases {
        let refused = REFUSED.contains(&&*name) || REFUSED_THOUGH_EITHER.contains(&&*name);
        assert!(!(refused && expect == "accept"), "{name}: the manifest accepts it");
        match Gguf::open(&path) {
            Ok(gguf) => {
                assert!(!refused, "{name} should be refused");
                walk(&gguf);
            }
            Err(error) => assert!(refused, "{name} should open here, but: {error}"),
        }
    }
}

#[test]
fn bytes_are_judged_like_files() {
    for Case { name, path, .. } in cases() {
        let bytes = fs::read(&path).expect("fixtures should be readable");
        let (opened, read) = (Gguf::open(&path), Gguf::from_bytes(bytes));
        assert_eq!(opened.is_ok(), read.is_ok(), "{name}");
    }
}

#[test]
fn errors_say_where() {
    for Case { name, path, .. } in cases() {
        if let Err(error) = Gguf::open(&path) {
            let message = error.to_string();
            assert!(message.contains("(at byte ") && message.contains(&*path.to_string_lossy()), "{name}: {message}");
            assert!(message.len() < 500, "{name}: {message}");
        }
    }
}

#[test]
fn no_opening_allocates_much() {
    for Case { name, path, .. } in cases() {
        let before = ALLOCATED.get();
        let opened = Gguf::open(&path).is_ok();
        let allocated = ALLOCATED.get() - before;
        assert!(allocated < MOST_ALLOCATED, "{name} (opened: {opened}) allocated {allocated} bytes");
    }
}

#[test]
fn no_model_allocates_much_before_it_runs() {
    for Case { name, path, expect } in cases() {
        let Ok(gguf) = Gguf::open(&path) else { continue };
        let before = ALLOCATED.get();
        let network = Network::new(Arc::new(gguf));
        let allocated = ALLOCATED.get() - before;
        assert!(allocated < MOST_ALLOCATED, "{name} (a model: {}) allocated {allocated} bytes", network.is_ok());
        // What is wrong with a vocabulary is not seen here.
        let known = expect == "either" || name.starts_with("tokenizer-");
        assert!(known || network.is_ok() == (expect == "accept"), "{name}: {:?}", network.err());
    }
}

/// As many tensors and keys as are supported, their names as long as is allowed, and a long list of tokens.
fn largest_directory() -> Vec<u8> {
    const TENSORS: u64 = 1 << 16;
    const PAIRS: u64 = 1 << 14;
    const TOKENS: u64 = 1 << 21;
    let string = |text: String| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend([TENSORS, PAIRS].iter().flat_map(|count| count.to_le_bytes()));
    file.extend([string("tokens".into()), [9u32, 8].iter().flat_map(|id| id.to_le_bytes()).collect()].concat());
    file.extend(TOKENS.to_le_bytes());
    (0..TOKENS).for_each(|i| file.extend(string(format!("{i:08}"))));
    for i in 1..PAIRS {
        // Type 0, u8; its value is 0.
        file.extend([string(format!("{i:0255}")), vec![0; 5]].concat());
    }
    for i in 0..TENSORS {
        // Four dimensions of 1, type 24, one byte at the beginning of the data section.
        file.extend([string(format!("{i:0128}")), 4u32.to_le_bytes().into(), 1u64.to_le_bytes().repeat(4)].concat());
        file.extend([&24u32.to_le_bytes()[..], &[0; 8]].concat());
    }
    file.resize((file.len() + 1).next_multiple_of(32) + 1, 0);
    file
}

#[test]
fn the_largest_directory_allocates_little() {
    let bytes = largest_directory();
    let before = ALLOCATED.get();
    let gguf = Gguf::from_bytes(bytes).expect("it is valid");
    let allocated = ALLOCATED.get() - before;
    assert_eq!(gguf.tensors().len(), 1 << 16);
    assert!(allocated < MOST_ALLOCATED, "it allocated {allocated} bytes");
}

#[test]
fn strings_are_not_decoded_when_a_file_is_opened() {
    const LEN: usize = 30 << 20;
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([0u64, 1, 1].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend([&b"k"[..], &8u32.to_le_bytes(), &(LEN as u64).to_le_bytes()].concat());
    // Not UTF-8, so decoding would make three bytes of each.
    bytes.resize(bytes.len() + LEN, 0xff);
    let before = ALLOCATED.get();
    let gguf = Gguf::from_bytes(bytes).expect("it is valid");
    let allocated = ALLOCATED.get() - before;
    assert!(allocated < 4096, "it allocated {allocated} bytes");
    assert!(matches!(gguf.metadata().get("k"), Some(Value::String(text)) if text.len() == 3 * LEN));
}
