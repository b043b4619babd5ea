//! `KvCache`, the keys and values of one sequence.
use super::{
    args::{Arg, Options},
    bytes::ByteCopy,
    call::{background, promise, settle, sync},
    errors::Checked,
    runtime,
};
use crate::engine::{self, KvType};
use napi::{
    Env,
    bindgen_prelude::{ObjectFinalize, PromiseRaw, TypedArrayType, Uint8Array, Unknown},
};
use napi_derive::napi;
use std::sync::{Arc, Mutex};

/// Words of `type` and `kvType`.
pub const KV_TYPES: [(&str, KvType); 3] = [("f32", KvType::F32), ("f16", KvType::F16), ("q8_0", KvType::Q8_0)];

/// Options of the `KvCache` constructor.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `KvCache::new`.
pub struct KvCacheOptions {
    /// The most tokens it may hold. Default: the model's context length.
    pub max_tokens: Option<f64>,
    /// How keys and values are stored. Default: `'f16'`.
    #[napi(js_name = "type", ts_type = "'f32' | 'f16' | 'q8_0'")]
    pub ty: Option<String>,
}

/// Keys and values of one sequence, for `forwardLayer`. Takes memory as it is used. `dispose()` (or `using`) gives it back
/// at once, otherwise the garbage collector does.
///
/// ```js
/// const cache = new KvCache(id)
/// let hidden = await embedTokens(id, tokens)
/// for (let layer = 0; layer < layerCount; layer++) hidden = await forwardLayer(id, layer, hidden, 0, cache)
/// cache.length // tokens.length
/// ```
#[napi(custom_finalize)]
pub struct KvCache {
    account: Arc<Account>,
}

#[napi]
impl KvCache {
    /// Throws `ERR_REALM_MODEL_NOT_FOUND` or `ERR_REALM_INVALID_ARGUMENT`.
    #[napi(constructor, catch_unwind, ts_args_type = "modelId: ModelId, options?: KvCacheOptions | null")]
    pub fn new<'env>(env: &'env Env, model_id: Unknown<'env>, options: Unknown<'env>) -> napi::Result<Self> {
        sync(env, || {
            let model = Arg::new("modelId", model_id).model()?;
            let options = Options::new("options", options, &["maxTokens", "type"])?;
            let max_tokens = options.read("maxTokens", |arg| arg.integer(1..=u32::MAX.into()))?;
            let ty = options.read("type", |arg| arg.one_of(&KV_TYPES))?.unwrap_or_default();
            Ok(Self::from(engine::KvCache::new(&model, max_tokens, ty)?))
        })
    }

    /// Tokens that every layer holds.
    #[napi(getter, catch_unwind)]
    pub fn length(&self, env: &Env) -> napi::Result<f64> {
        sync(env, || Ok(self.account.cache.len() as f64))
    }

    /// Forgets the tokens from `length` on, if it holds any. Throws when the cache is disposed or a layer runs on it; and for
    /// models with recurrent layers (LFM2, Qwen3.5), whose state cannot go back, unless all or none are forgotten: `fork()`
    /// where you may want to go on from.
    #[napi(catch_unwind, ts_args_type = "length: number")]
    pub fn truncate<'env>(&self, env: &'env Env, length: Unknown<'env>) -> napi::Result<()> {
        sync(env, || {
            let length = Arg::new("length", length).integer(0..=u32::MAX.into())?;
            self.account.cache.truncate(length)?;
            self.account.settle(env)
        })
    }

    /// An independent cache with the same content; memory is shared until one of the two changes it. Throws when the cache
    /// is disposed or a layer runs on it.
    #[napi(catch_unwind)]
    pub fn fork(&self, env: &Env) -> napi::Result<KvCache> {
        sync(env, || {
            let fork = Self::from(self.account.cache.fork()?);
            fork.account.settle(env)?;
            Ok(fork)
        })
    }

    /// What every layer holds, as bytes for `KvCache.load`: versioned, checksummed, and bound to the model. Waits for a
    /// running layer. Rejects with `ERR_REALM_INVALID_ARGUMENT` when the cache is disposed.
    #[napi(catch_unwind, ts_return_type = "Promise<Uint8Array>")]
    pub fn save<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Uint8Array>> {
        promise(env, || {
            let cache = self.account.cache.clone();
            background(env, move || cache.save(), Uint8Array::new)
        })
    }

    /// A cache with what `save()` wrote. `bytes` must not change until the promise settles.
    ///
    /// Rejects with `ERR_REALM_BAD_SNAPSHOT` (damaged, of another version, or of another model), `ERR_REALM_OUT_OF_MEMORY`,
    /// `ERR_REALM_MODEL_NOT_FOUND` or `ERR_REALM_INVALID_ARGUMENT`.
    #[napi(catch_unwind, ts_args_type = "modelId: ModelId, bytes: Uint8Array", ts_return_type = "Promise<KvCache>")]
    pub fn load<'env>(
        env: &'env Env,
        model_id: Unknown<'env>,
        bytes: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, KvCache>> {
        promise(env, || {
            let model = Arg::new("modelId", model_id).model()?;
            let bytes = Arg::new("bytes", bytes);
            if !bytes.is_typed_array(TypedArrayType::Uint8)? {
                return Err(bytes.wrong_type("a Uint8Array"));
            }
            let copy = ByteCopy::begin(env, &bytes)?;
            let loaded = async move {
                let bytes = copy.complete(|| false).await?;
                runtime::start(move || Ok(engine::KvCache::load(&model, &bytes)?)).await
            };
            settle(env, loaded, |env, cache| {
                let cache = Self::from(cache?);
                cache.account.settle(env)?;
                Ok(cache)
            })
        })
    }

    /// Gives the memory back, after work that still uses it has ended. Later use is an error; disposing twice is not.
    #[napi(catch_unwind)]
    pub fn dispose(&self, env: &Env) -> napi::Result<()> {
        sync(env, || {
            self.account.cache.dispose();
            self.account.settle(env)
        })
    }

    /// The same as `dispose()`, for `using`.
    #[napi(catch_unwind, well_known_symbol = "dispose")]
    pub fn symbol_dispose(&self, env: &Env) -> napi::Result<()> {
        self.dispose(env)
    }
}

impl KvCache {
    pub fn account(&self) -> Arc<Account> {
        self.account.clone()
    }
}

impl From<engine::KvCache> for KvCache {
    fn from(cache: engine::KvCache) -> Self {
        Self { account: Arc::new(Account { cache, charged: Mutex::new(Some(0)) }) }
    }
}

impl ObjectFinalize for KvCache {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.account.close(&env)
    }
}

/// A cache with what the garbage collector has been told of its size: a few bytes of JavaScript object may hold hundreds
/// of megabytes, and the collector should know.
pub struct Account {
    pub cache: engine::KvCache,
    /// `None` once the JavaScript object is gone.
    charged: Mutex<Option<i64>>,
}

impl Account {
    /// Tells the garbage collector the present size. On the JavaScript thread only.
    pub fn settle(&self, env: &Env) -> Checked<()> {
        let now = i64::try_from(self.cache.byte_len()).unwrap_or(i64::MAX);
        let mut charged = self.charged.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(charged) = charged.as_mut().filter(|charged| **charged != now) {
            env.adjust_external_memory(now - *charged)?;
            *charged = now;
        }
        Ok(())
    }

    fn close(&self, env: &Env) -> napi::Result<()> {
        let charged = self.charged.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(charged @ 1..) = charged {
            env.adjust_external_memory(-charged)?;
        }
        Ok(())
    }
}
