//! Properties that hold for every file: what was written reads back, and no damage makes the reader panic.
use super::{
    Gguf, TensorType,
    testing::{Owned, Writer},
};
use proptest::{collection::vec, prelude::*, sample::Index};

/// A value of the type with this id; arrays go at most `depth` deep.
fn value_of(type_id: u32, depth: u32) -> BoxedStrategy<Owned> {
    match type_id {
        0 => any::<u8>().prop_map(Owned::U8).boxed(),
        1 => any::<i8>().prop_map(Owned::I8).boxed(),
        2 => any::<u16>().prop_map(Owned::U16).boxed(),
        3 => any::<i16>().prop_map(Owned::I16).boxed(),
        4 => any::<u32>().prop_map(Owned::U32).boxed(),
        5 => any::<i32>().prop_map(Owned::I32).boxed(),
        6 => any::<f32>().prop_map(Owned::F32).boxed(),
        7 => any::<bool>().prop_map(Owned::Bool).boxed(),
        8 => any::<String>().prop_map(Owned::String).boxed(),
        9 => array(depth),
        10 => any::<u64>().prop_map(Owned::U64).boxed(),
        11 => any::<i64>().prop_map(Owned::I64).boxed(),
        _ => any::<f64>().prop_map(Owned::F64).boxed(),
    }
}

fn array(depth: u32) -> BoxedStrategy<Owned> {
    let type_id = (0..13u32).prop_filter("deep enough", move |id| *id != 9 || depth > 1);
    type_id
        .prop_flat_map(move |id| {
            vec(value_of(id, depth.saturating_sub(1)), 0..4).prop_map(move |all| Owned::Array(id, all))
        })
        .boxed()
}

fn value() -> impl Strategy<Value = Owned> {
    (0..13u32).prop_flat_map(|id| value_of(id, 3))
}

fn tensor() -> impl Strategy<Value = (usize, Vec<u64>)> {
    (0..TensorType::ALL.len(), vec(1..4u64, 1..=4))
}

fn file() -> impl Strategy<Value = Writer> {
    (vec(value(), 0..8), vec(tensor(), 0..4)).prop_map(|(values, tensors)| {
        let writer = values
            .into_iter()
            .enumerate()
            .fold(Writer::default(), |writer, (i, value)| writer.pair(&format!("key.{i}"), value));
        tensors.into_iter().enumerate().fold(writer, |writer, (i, (ty, mut dimensions))| {
            let ty = TensorType::ALL[ty];
            dimensions[0] *= ty.block_len() as u64;
            writer.tensor(&format!("tensor.{i}"), ty, &dimensions)
        })
    })
}

/// Touches everything that can be read.
fn walk(gguf: &Gguf) -> usize {
    let values = gguf.metadata().iter().map(|(key, value)| key.len() + format!("{:?}", Owned::from(value)).len());
    let tensors =
        gguf.tensors().iter().map(|tensor| gguf.data(tensor).iter().map(|byte| usize::from(*byte)).sum::<usize>());
    values.chain(tensors).sum()
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Truncate(Index),
    /// Writes over some bytes, often with a number that looks like a length.
    Overwrite(Index, Vec<u8>),
    /// Moves a copy of some bytes elsewhere.
    Splice {
        from: Index,
        len: Index,
        to: Index,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        any::<u64>(),
        (0..64u32).prop_map(|shift| 1 << shift),
        (0..64u32).prop_map(|shift| (1u64 << shift).wrapping_neg()),
        0..100u64
    ];
    prop_oneof![
        4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        1 => any::<Index>().prop_map(Damage::Truncate),
        4 => (any::<Index>(), number).prop_map(|(at, number)| Damage::Overwrite(at, number.to_le_bytes().into())),
        2 => any::<[Index; 3]>().prop_map(|[from, len, to]| Damage::Splice { from, len, to }),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bit;
            }
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Self::Overwrite(at, with) => {
                let at = at.index(bytes.len());
                let len = with.len().min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&with[..len]);
            }
            Self::Splice { from, len, to } => {
                let from = from.index(bytes.len());
                let len = len.index((bytes.len() - from).min(64));
                let copy = bytes[from..from + len].to_vec();
                let to = to.index(bytes.len());
                bytes.splice(to..to, copy);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_was_written_reads_back(writer in file()) {
        let gguf = Gguf::from_bytes(writer.write()).unwrap();
        let read: Vec<_> = gguf.metadata().iter().map(|(key, value)| (key.as_bytes().to_vec(), value.into())).collect();
        prop_assert_eq!(&read, &writer.pairs);
        prop_assert_eq!(gguf.tensors().len(), writer.tensors.len());
        for (tensor, written) in gguf.tensors().iter().zip(&writer.tensors) {
            let shape: Vec<u64> = tensor.shape.iter().rev().map(|&size| size as u64).collect();
            prop_assert_eq!((tensor.name.as_bytes(), tensor.ty as u32, shape), (&*written.name, written.type_id, written.dimensions.clone()));
            prop_assert_eq!(gguf.data(tensor), &writer.data[written.offset as usize..][..tensor.byte_len]);
        }
        walk(&gguf);
    }

    #[test]
    fn damage_never_panics(writer in file(), damages in vec(damage(), 1..6)) {
        let mut bytes = writer.write();
        for damage in damages {
            damage.apply(&mut bytes);
        }
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            walk(&gguf);
        }
    }

    #[test]
    fn noise_behind_a_header_never_panics(counts in any::<[u8; 2]>(), noise in vec(any::<u8>(), 0..300)) {
        let mut bytes = Writer::default().write();
        bytes.truncate(24);
        (bytes[8], bytes[16]) = (counts[0] % 8, counts[1] % 8);
        bytes.extend(noise);
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            walk(&gguf);
        }
    }
}
