//! The layer API: the engine's own forward pass, one layer at a time.
use super::{Error, KvCache, KvType, Loaded, process::team};
use crate::{
    cache::Sequence,
    kernels::attention::Span,
    model::{Batch, Network, Scratch},
};
use std::sync::Arc;

/// Rows that are computed at once: bounds the memory of a call, changes no result.
const ROWS_AT_ONCE: usize = super::plan::ROWS;

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
    let limit = cache.map_or(context, KvCache::max_tokens);
    let end = position.checked_add(rows).filter(|&end| end <= limit).ok_or_else(|| {
        Error::ContextOverflow(format!("{rows} rows from position {position} on do not fit into {limit} positions"))
    })?;
    model.gguf.check_unchanged()?;
    let Some(cache) = cache else {
        // The same arithmetic with a cache of one layer that is thrown away.
        let layout = network.layout_of(KvType::default(), layer..layer + 1);
        let mut sequence = Sequence::new(layout, position);
        sequence.prepare(position, end)?;
        run_layer(network, layer, layer, &mut hidden, position, &sequence, limit)?;
        return Ok(hidden);
    };
    if cache.model_id() != model.info.id {
        return Err(Error::InvalidArgument(format!(
            "the KvCache was made for model {}, not for {}",
            cache.model_id(),
            model.info.id
        )));
    }
    cache.extend(layer, position, end, |sequence| {
        run_layer(network, layer, 0, &mut hidden, position, sequence, limit)
    })?;
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
    context: usize,
) -> Result<(), Error> {
    let (team, n) = (team(), network.params.embedding_length);
    let (mut pages, mut states) = (Vec::new(), Vec::new());
    sequence.addresses(&mut pages);
    sequence.state_address(&mut states);
    let mut scratch = Scratch::default();
    for (i, piece) in hidden.chunks_mut(ROWS_AT_ONCE * n).enumerate() {
        let rows = piece.len() / n;
        let start = position + i * ROWS_AT_ONCE;
        let spans = [Span { rows: 0..rows, position: start, origin: sequence.origin(), first_page: 0 }];
        let layout = sequence.layout();
        let batch = Batch { spans: &spans, pages: &pages, states: &states, layout, first_layer, context };
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
