//! The layer API: one forward pass, in pieces.
use super::{
    args::Arg,
    cache::KvCache,
    call::{background, promise, settle},
    runtime,
};
use crate::engine;
use napi::{
    Env,
    bindgen_prelude::{ClassInstance, Float32Array, PromiseRaw, Unknown},
};
use napi_derive::napi;

/// The embedding rows of `tokens`: `[n, embeddingLength]`, row-major. Dequantises only the rows asked for.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND` or `ERR_REALM_INVALID_ARGUMENT` (a token that the vocabulary does not have).
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, tokens: Tokens | number[]",
    ts_return_type = "Promise<Float32Array>"
)]
pub fn embed_tokens<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    tokens: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Float32Array>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let tokens = Arg::new("tokens", tokens).tokens()?;
        background(env, move || engine::embed_tokens(&model, &tokens), Float32Array::new)
    })
}

/// One whole layer (attention, feed-forward or experts, norms, residuals) over `hidden`: `[n, embeddingLength]` in and
/// out. The first row is at `position`, counted from 0.
///
/// With a `cache` the rows attend to everything that it holds before them and are added to it, layer by layer; positions
/// must be contiguous. Without one they attend to each other only, and nothing is kept. Calls with different caches may
/// run at once. `hidden` is copied.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND`, `ERR_REALM_INVALID_ARGUMENT` (layer, length or position), or
/// `ERR_REALM_CONTEXT_OVERFLOW` (more tokens than the cache may hold).
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, layer: number, hidden: Float32Array, position: number, cache?: KvCache | null",
    ts_return_type = "Promise<Float32Array>"
)]
pub fn forward_layer<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    layer: Unknown<'env>,
    hidden: Unknown<'env>,
    position: Unknown<'env>,
    cache: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Float32Array>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let layer = Arg::new("layer", layer).integer(0..=u32::MAX.into())?;
        let hidden = Arg::new("hidden", hidden).floats()?;
        let position = Arg::new("position", position).integer(0..=u32::MAX.into())?;
        let cache = match Arg::new("cache", cache).present()? {
            Some(cache) => Some(cache.instance::<ClassInstance<KvCache>>("a KvCache")?.account()),
            None => None,
        };
        let account = cache.clone();
        let work = move || {
            let cache = cache.as_deref().map(|account| &account.cache);
            Ok(engine::forward_layer(&model, layer, hidden, position, cache)?)
        };
        settle(env, runtime::start(work), move |env, outcome| {
            if let Some(account) = account {
                account.settle(env)?;
            }
            outcome.map(Float32Array::new)
        })
    })
}

/// Final norm and output matrix over `hidden` `[n, embeddingLength]`: logits `[n, vocabularySize]`, row-major, the very
/// numbers that `generate` samples from.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND` or `ERR_REALM_INVALID_ARGUMENT` (length).
#[napi(catch_unwind, ts_args_type = "modelId: ModelId, hidden: Float32Array", ts_return_type = "Promise<Float32Array>")]
pub fn compute_logits<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    hidden: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Float32Array>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let hidden = Arg::new("hidden", hidden).floats()?;
        background(env, move || engine::compute_logits(&model, hidden), Float32Array::new)
    })
}
