//! What a model's engine has done and does now.
use super::{args::Arg, call::sync};
use crate::engine;
use napi::{Env, bindgen_prelude::Unknown};
use napi_derive::napi;

/// What `getStats` tells. Counts are since the model was stored.
#[napi(object, object_from_js = false)]
pub struct ModelStats {
    /// Requests that were asked for and wait for their turn.
    pub queued: f64,
    /// Requests that run, paused ones included.
    pub running: f64,
    /// Requests that wait for their reader.
    pub paused: f64,
    pub finished: f64,
    pub cancelled: f64,
    /// Requests that ended with an error, those that were refused included.
    pub failed: f64,
    /// Times that a request gave its memory up for another, and computed its tokens again later.
    pub preempted: f64,
    /// Pages of 64 tokens that are held now.
    pub pages_used: f64,
    /// Of these, pages that later requests with the same tokens will find.
    pub pages_cached: f64,
    /// Of the cached pages, those that requests use now.
    pub pages_shared: f64,
    /// Cached pages that were given up because memory was needed.
    pub pages_evicted: f64,
    /// Bytes of a page in the model's own `kvType`.
    pub page_bytes: f64,
    /// Tokens in the prompts of ended requests.
    pub prompt_tokens: f64,
    /// Of these, tokens that were in the cache already.
    pub cached_tokens: f64,
    /// Tokens that ended requests were given.
    pub completion_tokens: f64,
    /// Batches that were computed.
    pub steps: f64,
    /// Milliseconds of a batch, all of them.
    pub step_mean_ms: f64,
    /// Milliseconds of a batch: median of the latest 512.
    pub step_p50_ms: f64,
    /// Their 99th percentile.
    pub step_p99_ms: f64,
    /// The longest of them.
    pub step_max_ms: f64,
}

/// What the engine has done with a model and does now. Throws `ERR_REALM_MODEL_NOT_FOUND`.
#[napi(catch_unwind, ts_args_type = "modelId: ModelId")]
pub fn get_stats<'env>(env: &'env Env, model_id: Unknown<'env>) -> napi::Result<ModelStats> {
    sync(env, || Ok(ModelStats::from(Arg::new("modelId", model_id).model()?.stats())))
}

impl From<engine::ModelStats> for ModelStats {
    fn from(stats: engine::ModelStats) -> Self {
        Self {
            queued: stats.queued as f64,
            running: stats.running as f64,
            paused: stats.paused as f64,
            finished: stats.finished as f64,
            cancelled: stats.cancelled as f64,
            failed: stats.failed as f64,
            preempted: stats.preempted as f64,
            pages_used: stats.pages_used as f64,
            pages_cached: stats.pages_cached as f64,
            pages_shared: stats.pages_shared as f64,
            pages_evicted: stats.pages_evicted as f64,
            page_bytes: stats.page_bytes as f64,
            prompt_tokens: stats.prompt_tokens as f64,
            cached_tokens: stats.cached_tokens as f64,
            completion_tokens: stats.completion_tokens as f64,
            steps: stats.steps as f64,
            step_mean_ms: stats.step_mean_ms,
            step_p50_ms: stats.step_p50_ms,
            step_p99_ms: stats.step_p99_ms,
            step_max_ms: stats.step_max_ms,
        }
    }
}
