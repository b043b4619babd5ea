//! The layer API: the engine's own forward pass, one layer at a time.
use super::{Error, KvType, Loaded, process::team};
use crate::{
    cache::Sequence,
    kernels::attention::{Layout, Span},
    model::{Batch, Network, Scratch},
};
use std::sync::{Arc, Mutex, MutexGuard};

/// Rows that are computed at once: bounds the memory of a call, changes no result.
const ROWS_AT_ONCE: usize = 252;

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

    /// Forgets positions from `len` on. An error while a layer runs on this cache. Cheap.
    pub fn truncate(&self, len: usize) -> Result<(), Error> {
        let state = &mut *self.lock();
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
    fn extend(
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
        let result = sequence.prepare(position, end).map_err(Error::from).and_then(|()| f(&sequence));
        let state = &mut *self.lock();
        if matches!(state.sequence, Content::Lent) {
            state.sequence = Content::Here(sequence);
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

/// `[n, embedding_length]`: the embedding rows of `tokens`. Only those rows are dequantised.
pub fn embed_tokens(model: &Arc<Loaded>, tokens: &[u32]) -> Result<Vec<f32>, Error> {
    let network = model.network()?;
    model.gguf.check_unchanged()?;
    check_tokens(network, tokens)?;
    let mut scratch = Scratch::default();
    network.embed(&team(), tokens, &mut scratch)?;
    Ok(scratch.hidden.get::<f32>(tokens.len() * network.params.embedding_length).to_vec())
}

/// Every id must be a row of the embedding.
pub(super) fn check_tokens(network: &Network, tokens: &[u32]) -> Result<(), Error> {
    let size = network.vocabulary_size();
    match tokens.iter().position(|&token| token as usize >= size) {
        None => Ok(()),
        Some(i) => {
            Err(Error::InvalidArgument(format!("tokens[{i}] is {}, but the model has {size} tokens", tokens[i])))
        }
    }
}

/// The number of rows in `hidden`.
fn rows(network: &Network, hidden: &[f32]) -> Result<usize, Error> {
    let n = network.params.embedding_length;
    if hidden.is_empty() || !hidden.len().is_multiple_of(n) {
        return Err(Error::InvalidArgument(format!(
            "hidden has {} numbers, expected a multiple of the embedding length {n}, at least one row",
            hidden.len()
        )));
    }
    Ok(hidden.len() / n)
}

/// One whole layer over `hidden` `[n, embedding_length]`, whose first row is at `position`.
pub fn forward_layer(
    model: &Arc<Loaded>,
    layer: usize,
    mut hidden: Vec<f32>,
    position: usize,
    cache: Option<&KvCache>,
) -> Result<Vec<f32>, Error> {
    let network = model.network()?;
    let rows = rows(network, &hidden)?;
    let layers = network.params.layers;
    if layer >= layers {
        return Err(Error::InvalidArgument(format!("layer is {layer}, but the model has {layers} layers")));
    }
    let context = network.params.context_length;
    let limit = cache.map_or(context, |cache| cache.max_tokens);
    let end = position.checked_add(rows).filter(|&end| end <= limit).ok_or_else(|| {
        Error::ContextOverflow(format!("{rows} rows from position {position} on do not fit into {limit} positions"))
    })?;
    model.gguf.check_unchanged()?;
    let Some(cache) = cache else {
        // The same arithmetic with a cache of one layer that is thrown away.
        let layout = Layout { layers: 1, ..network.layout(KvType::default()) };
        let mut sequence = Sequence::new(layout, position);
        sequence.prepare(position, end)?;
        run_layer(network, layer, layer, &mut hidden, position, &sequence)?;
        return Ok(hidden);
    };
    if cache.model_id != model.info.id {
        return Err(Error::InvalidArgument(format!(
            "the KvCache was made for model {}, not for {}",
            cache.model_id, model.info.id
        )));
    }
    cache.extend(layer, position, end, |sequence| run_layer(network, layer, 0, &mut hidden, position, sequence))?;
    Ok(hidden)
}

/// Runs all rows of `hidden`, in place, a piece at a time.
fn run_layer(
    network: &Network,
    layer: usize,
    first_layer: usize,
    hidden: &mut [f32],
    position: usize,
    sequence: &Sequence,
) -> Result<(), Error> {
    let (team, n) = (team(), network.params.embedding_length);
    let mut pages = Vec::new();
    sequence.addresses(&mut pages);
    let mut scratch = Scratch::default();
    for (i, piece) in hidden.chunks_mut(ROWS_AT_ONCE * n).enumerate() {
        let rows = piece.len() / n;
        let start = position + i * ROWS_AT_ONCE;
        let spans = [Span { rows: 0..rows, position: start, origin: sequence.origin(), first_page: 0 }];
        let batch = Batch { spans: &spans, pages: &pages, layout: sequence.layout(), first_layer };
        scratch.hidden.get::<f32>(piece.len()).copy_from_slice(piece);
        network.layers(&team, &batch, layer..layer + 1, &mut scratch, &|| false)?;
        piece.copy_from_slice(scratch.hidden.get(piece.len()));
    }
    Ok(())
}

/// `[n, vocabulary_size]`: final norm and output matrix over `hidden` `[n, embedding_length]`.
pub fn compute_logits(model: &Arc<Loaded>, hidden: Vec<f32>) -> Result<Vec<f32>, Error> {
    let network = model.network()?;
    let rows = rows(network, &hidden)?;
    model.gguf.check_unchanged()?;
    let (team, n) = (team(), network.params.embedding_length);
    let mut out = Vec::with_capacity(rows * network.vocabulary_size());
    let mut scratch = Scratch::default();
    for piece in hidden.chunks(ROWS_AT_ONCE * n) {
        scratch.hidden.get::<f32>(piece.len()).copy_from_slice(piece);
        let rows: Vec<u32> = (0..(piece.len() / n) as u32).collect();
        network.logits(&team, &rows, rows.len(), &mut scratch)?;
        out.extend_from_slice(scratch.logits.get::<f32>(rows.len() * network.vocabulary_size()));
    }
    Ok(out)
}
