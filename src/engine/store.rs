//! The registry of loaded models.
use super::{Error, KvType, ModelInfo, ModelStats, TensorDescription, plan::Pace, process::team, scheduler::Scheduler};
use crate::{
    chat::{ChatTemplate, RenderOptions},
    gguf::{Gguf, TensorInfo},
    model::Network,
    quant,
    registry::{ModelId, Registry, content_id},
    sampling::SamplingParams,
    tokenizer::Tokenizer,
};
use std::{
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

/// Where a model comes from.
pub enum Source {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

/// A model in the registry, with everything read from its file.
pub struct Loaded {
    pub info: ModelInfo,
    pub gguf: Arc<Gguf>,
    /// `None` for a file without a vocabulary.
    pub tokenizer: Option<Tokenizer>,
    /// `None` when the file has none; an error text when it has one that does not compile.
    pub template: Option<Result<ChatTemplate, String>>,
    /// `None` for a file without weights.
    network: Option<Network>,
    /// What the file recommends (`general.sampling.*`), over the defaults of the API.
    pub(super) sampling: SamplingParams,
    /// How keys and values are stored unless a request says otherwise.
    kv_type: Mutex<KvType>,
    pub(super) scheduler: Scheduler,
}

static REGISTRY: LazyLock<Registry<Loaded>> = LazyLock::new(Registry::new);

/// Maps, hashes and checks a model and puts it into the registry. `progress` is called from this thread with fractions
/// 0..=1, at most 20 times a second. `cancelled` is polled. A failed store leaves nothing behind. A `kv_type` becomes the
/// model's default, also if it was stored before.
pub fn store(
    source: Source,
    kv_type: Option<KvType>,
    progress: &mut dyn FnMut(f64),
    cancelled: &dyn Fn() -> bool,
) -> Result<String, Error> {
    let gguf = match source {
        Source::Path(path) => Gguf::open(&path)?,
        Source::Bytes(bytes) => Gguf::from_bytes(bytes)?,
    };
    let mut last: Option<Instant> = None;
    let mut report = |fraction: f64| {
        if fraction < 1.0 && last.is_none_or(|last| last.elapsed() >= Duration::from_millis(50)) {
            last = Some(Instant::now());
            progress(fraction);
        }
    };
    let id = content_id(gguf.shard_bytes(), team().threads(), &mut report, cancelled).ok_or(Error::Cancelled)?;
    let (model, _) = REGISTRY.store(id, || Loaded::new(id, Arc::new(gguf)))?;
    if let Some(kv_type) = kv_type {
        *model.kv_type.lock().unwrap_or_else(|e| e.into_inner()) = kv_type;
    }
    progress(1.0);
    Ok(id.to_string())
}

/// Cheap.
pub fn get(id: &str) -> Result<Arc<Loaded>, Error> {
    let key: ModelId = id.parse()?;
    REGISTRY.get(key).ok_or_else(|| Error::ModelNotFound(id.to_owned()))
}

/// Cheap.
pub fn list() -> Vec<Arc<Loaded>> {
    REGISTRY.list().into_iter().map(|(_, model)| model).collect()
}

/// Releases one reference; true when the model is gone. Fails when there is no such model. Cheap.
pub fn remove(id: &str) -> Result<bool, Error> {
    let key: ModelId = id.parse()?;
    let removed = REGISTRY.remove(key).ok_or_else(|| Error::ModelNotFound(id.to_owned()))?;
    if removed.last {
        removed.model.scheduler.close();
    }
    Ok(removed.last)
}

impl Loaded {
    fn new(id: ModelId, gguf: Arc<Gguf>) -> Result<Self, Error> {
        let metadata = gguf.metadata();
        let tokenizer = Tokenizer::from_metadata(metadata)?;
        let network = if gguf.tensors().is_empty() { None } else { Some(Network::new(gguf.clone())?) };
        if let (Some(tokenizer), Some(network)) = (&tokenizer, &network)
            && tokenizer.vocab_size() > network.vocabulary_size()
        {
            return Err(Error::BadGguf(format!(
                "the vocabulary has {} tokens but 'token_embd.weight' has {} rows",
                tokenizer.vocab_size(),
                network.vocabulary_size()
            )));
        }
        // A damaged template is no reason to refuse text and tokens.
        let template = match metadata.get("tokenizer.chat_template") {
            None => None,
            Some(crate::gguf::Value::String(source)) => Some(ChatTemplate::new(&source).map_err(|e| e.to_string())),
            Some(_) => Some(Err("metadata key 'tokenizer.chat_template' is not a string".into())),
        };
        let info = ModelInfo::new(id.to_string(), &gguf, tokenizer.as_ref(), network.as_ref())?;
        let sampling = sampling_defaults(&gguf)?;
        Ok(Self {
            info,
            gguf,
            tokenizer,
            template,
            sampling,
            kv_type: Mutex::default(),
            scheduler: Scheduler::new(Pace::new(network.as_ref().map(|network| &network.params))),
            network,
        })
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, Error> {
        self.gguf.tensor(name).ok_or_else(|| {
            let shown: String = name.chars().take(100).collect();
            Error::TensorNotFound(format!("model {} has no tensor '{shown}'", self.info.id))
        })
    }

    /// Dequantised, row-major.
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        self.gguf.check_unchanged()?;
        let tensor = self.tensor(name)?;
        let mut out = vec![0.0; tensor.shape.iter().product()];
        quant::dequantize_row(tensor.ty, self.gguf.data(tensor), &mut out)?;
        Ok(out)
    }

    /// The bytes as stored.
    pub fn tensor_bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.gguf.check_unchanged()?;
        Ok(self.gguf.data(self.tensor(name)?).to_vec())
    }

    /// Cheap.
    pub fn tensors(&self) -> Vec<TensorDescription> {
        let describe = |tensor: &TensorInfo| TensorDescription {
            name: tensor.name.clone(),
            ty: tensor.ty.name(),
            shape: tensor.shape.clone(),
            byte_length: tensor.byte_len as u64,
        };
        self.gguf.tensors().iter().map(describe).collect()
    }

    /// The tokenizer, or an error that says the file has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer
            .as_ref()
            .ok_or_else(|| Error::Unsupported(format!("model {} has no vocabulary (tokenizer.ggml.*)", self.info.id)))
    }

    /// The network, or an error that says the file has no weights.
    pub(super) fn network(&self) -> Result<&Network, Error> {
        self.network
            .as_ref()
            .ok_or_else(|| Error::Unsupported(format!("model {} has a vocabulary only, no weights", self.info.id)))
    }

    /// How keys and values are stored unless a request says otherwise.
    pub fn kv_type(&self) -> KvType {
        *self.kv_type.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What the engine has done with this model and does now. Cheap.
    pub fn stats(&self) -> ModelStats {
        let pages = self.scheduler.prefixes.counts();
        let counters = self.scheduler.stats.lock();
        let [step_mean_ms, step_p50_ms, step_p99_ms, step_max_ms] = counters.step_times();
        ModelStats {
            queued: self.scheduler.live().saturating_sub(counters.running),
            running: counters.running,
            paused: counters.paused,
            finished: counters.finished,
            cancelled: counters.cancelled,
            failed: counters.failed,
            preempted: counters.preempted,
            pages_used: counters.own_pages + pages.held,
            pages_cached: pages.held,
            pages_shared: pages.shared,
            pages_evicted: pages.evicted,
            page_bytes: self.network.as_ref().map_or(0, |network| network.layout(self.kv_type()).page_bytes() as u64),
            prompt_tokens: counters.prompt_tokens,
            cached_tokens: counters.cached_tokens,
            completion_tokens: counters.completion_tokens,
            steps: counters.steps,
            step_mean_ms,
            step_p50_ms,
            step_p99_ms,
            step_max_ms,
        }
    }

    /// Renders chat messages with `template` (Jinja source) or the model's own.
    pub fn render_chat(
        &self,
        messages: &serde_json::Value,
        template: Option<&str>,
        mut options: RenderOptions,
    ) -> Result<String, Error> {
        if let Some(tokenizer) = &self.tokenizer {
            let text = |id: Option<u32>| tokenizer.token_text(id?);
            options.bos_token = options.bos_token.or_else(|| text(tokenizer.bos()));
            options.eos_token = options.eos_token.or_else(|| text(tokenizer.eos()));
        }
        let own;
        let template = match (template, &self.template) {
            (Some(source), _) => {
                own = ChatTemplate::new(source)?;
                &own
            }
            (None, Some(Ok(template))) => template,
            (None, Some(Err(text))) => {
                return Err(Error::InvalidArgument(format!("the model's chat template cannot be used: {text}")));
            }
            (None, None) => return Err(crate::chat::Error::NoTemplate.into()),
        };
        Ok(template.render(messages, &options)?)
    }
}

/// `general.sampling.*` of the file over the defaults of the API. Values out of range are ignored.
fn sampling_defaults(gguf: &Gguf) -> Result<SamplingParams, Error> {
    let metadata = gguf.metadata();
    let float = |key: &str, default: f32, range: std::ops::RangeInclusive<f32>| {
        let value = metadata.f32(&format!("general.sampling.{key}")).ok().flatten();
        value.filter(|value| range.contains(value)).unwrap_or(default)
    };
    let int = |key: &str| metadata.u32(&format!("general.sampling.{key}")).ok().flatten();
    Ok(SamplingParams {
        temperature: float("temp", 0.8, 0.0..=f32::MAX),
        top_k: int("top_k").unwrap_or(40),
        top_p: float("top_p", 0.95, 0.0..=1.0),
        min_p: float("min_p", 0.05, 0.0..=1.0),
        repeat_penalty: float("penalty_repeat", 1.0, f32::MIN_POSITIVE..=f32::MAX),
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        penalty_last_n: Some(int("penalty_last_n").unwrap_or(64)),
        logit_bias: Vec::new(),
        seed: 0,
    })
}
