//! `KvCache`: keys and values that a caller holds by hand.
use super::{Error, KvType, Loaded};
use crate::{
    cache::{
        Sequence,
        snapshot::{self, Origin},
    },
    kernels::attention::Layout,
    registry::ModelId,
};
use std::sync::{Arc, Mutex, MutexGuard};

/// Keys and values of one sequence, owned by the caller. Cloning a handle shares it; [`KvCache::fork`] copies.
///
/// Nothing here waits for a running layer except another layer on the same cache.
#[derive(Clone)]
pub struct KvCache {
    model_id: String,
    max_tokens: usize,
    layout: Layout,
    state: Arc<Mutex<State>>,
    /// Held by a running layer: layers on one cache take turns.
    turn: Arc<Mutex<()>>,
}

struct State {
    sequence: Content,
    /// Positions that each layer holds.
    filled: Vec<usize>,
}

enum Content {
    Here(Sequence),
    /// A running layer has it.
    Lent,
    Disposed,
}

fn disposed() -> Error {
    Error::InvalidArgument("the KvCache was disposed".into())
}

impl KvCache {
    /// Cheap: memory is taken as positions are added. `max_tokens` defaults to the model's context length.
    pub fn new(model: &Arc<Loaded>, max_tokens: Option<usize>, ty: KvType) -> Result<Self, Error> {
        let network = model.network()?;
        let max_tokens = max_tokens.unwrap_or(network.params.context_length);
        if max_tokens == 0 {
            return Err(Error::InvalidArgument("maxTokens is 0, expected at least 1".into()));
        }
        let layout = network.layout(ty);
        let filled = vec![0; network.params.layers];
        Ok(Self::with(model.info.id.clone(), max_tokens, layout, Sequence::pinned(layout), filled))
    }

    fn with(model_id: String, max_tokens: usize, layout: Layout, sequence: Sequence, filled: Vec<usize>) -> Self {
        let state = Arc::new(Mutex::new(State { sequence: Content::Here(sequence), filled }));
        Self { model_id, max_tokens, layout, state, turn: Arc::default() }
    }

    /// The cache that [`KvCache::save`] wrote, for the same model.
    pub fn load(model: &Arc<Loaded>, bytes: &[u8]) -> Result<Self, Error> {
        let network = model.network()?;
        let id: ModelId = model.info.id.parse()?;
        let (sequence, len, max_tokens) = snapshot::load(bytes, id.0, |format| network.layout(format))?;
        let filled = vec![len; network.params.layers];
        Ok(Self::with(model.info.id.clone(), max_tokens, sequence.layout(), sequence, filled))
    }

    /// Everything that every layer holds, as bytes. Waits for a running layer.
    pub fn save(&self) -> Result<Vec<u8>, Error> {
        let (sequence, len) = {
            let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
            let state = &mut *self.lock();
            let len = state.filled.iter().copied().min().unwrap_or(0);
            if self.layout.has_state() && state.filled.iter().any(|&filled| filled != len) {
                return Err(Error::InvalidArgument(
                    "the layers of the KvCache hold different numbers of positions, and a recurrent state cannot be cut: \
                     run all layers before save()"
                        .into(),
                ));
            }
            // Shared: whoever writes from now on writes to a copy.
            (state.sequence.here()?.clone(), len)
        };
        let id: ModelId = self.model_id.parse()?;
        let origin = Origin { model: id.0, layout: self.layout, max_tokens: self.max_tokens as u64 };
        Ok(snapshot::save(&origin, &sequence, len))
    }

    pub fn model_id(&self) -> &str {
        &self.model_id
    }

    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Positions held by every layer; 0 when disposed. Cheap.
    pub fn len(&self) -> usize {
        self.lock().filled.iter().copied().min().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets positions from `len` on; of a model with recurrent layers all or none. An error while a layer runs on this
    /// cache. Cheap.
    pub fn truncate(&self, len: usize) -> Result<(), Error> {
        let state = &mut *self.lock();
        if self.layout.has_state() && len > 0 && state.filled.iter().any(|&filled| filled > len) {
            return Err(Error::Unsupported(format!(
                "the KvCache of a model with recurrent layers cannot go back to {len} positions: truncate it to 0, or fork() \
                 it where it is to be continued from"
            )));
        }
        state.sequence.here()?.truncate(len);
        state.filled.iter_mut().for_each(|filled| *filled = len.min(*filled));
        Ok(())
    }

    /// An independent cache with the same content; pages are shared until one of the two writes to them. An error while
    /// a layer runs on this cache. Cheap.
    pub fn fork(&self) -> Result<Self, Error> {
        let state = &mut *self.lock();
        let sequence = state.sequence.here()?.clone();
        Ok(Self::with(self.model_id.clone(), self.max_tokens, self.layout, sequence, state.filled.clone()))
    }

    /// Gives the memory back (at once, or when a running layer ends); later use is an error. Cheap.
    pub fn dispose(&self) {
        let mut state = self.lock();
        state.sequence = Content::Disposed;
        state.filled.clear();
    }

    /// Bytes of memory held now; 0 while a layer runs. Cheap.
    pub fn byte_len(&self) -> u64 {
        self.lock().sequence.here().map_or(0, |sequence| sequence.byte_len())
    }

    /// Runs `f` on the content, which nobody else can change meanwhile, for rows of `layer` at `position..end`.
    pub(super) fn extend(
        &self,
        layer: usize,
        position: usize,
        end: usize,
        f: impl FnOnce(&Sequence) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        let mut sequence = {
            let state = &mut *self.lock();
            state.sequence.here()?;
            let filled = state.filled[layer];
            if position != filled {
                return Err(Error::InvalidArgument(format!(
                    "position is {position}, but layer {layer} of the KvCache holds {filled} positions: positions must \
                     be contiguous (truncate it to go back)"
                )));
            }
            let Content::Here(sequence) = std::mem::replace(&mut state.sequence, Content::Lent) else {
                unreachable!("checked above, under the same lock")
            };
            sequence
        };
        let prepared = sequence.prepare(position, end).map_err(Error::from);
        let begun = prepared.is_ok();
        let result = prepared.and_then(|()| f(&sequence));
        let state = &mut *self.lock();
        if matches!(state.sequence, Content::Lent) {
            // A recurrent state that was left between two positions is of no use.
            let is_broken = begun && result.is_err() && self.layout.has_state();
            state.sequence = if is_broken { Content::Disposed } else { Content::Here(sequence) };
            if result.is_ok() {
                state.filled[layer] = end;
            }
        }
        result
    }
}

impl Content {
    fn here(&mut self) -> Result<&mut Sequence, Error> {
        match self {
            Self::Here(sequence) => Ok(sequence),
            Self::Disposed => Err(disposed()),
            Self::Lent => Err(Error::InvalidArgument("a forwardLayer call on this KvCache is still running".into())),
        }
    }
}
