//! Rendering a model's own Jinja chat template.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the model has no chat template: pass text or tokens, or give a template")]
    NoTemplate,
    /// The template is not valid Jinja, or it failed while rendering (line and reason in the message).
    #[error("{0}")]
    Template(String),
    /// The template itself refused the input with `raise_exception(message)`.
    #[error("the chat template refused the messages: {0}")]
    Raised(String),
}

/// A compiled chat template.
pub struct ChatTemplate {}

/// What a template is rendered with besides the messages.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    pub add_generation_prompt: bool,
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub tools: Option<serde_json::Value>,
    pub documents: Option<serde_json::Value>,
    /// Extra variables; they win over the ones above.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// What `strftime_now` sees, seconds since the epoch (UTC); `None` is the clock.
    pub now: Option<f64>,
}

impl ChatTemplate {
    /// Compiles a template. Fails for a syntax error.
    pub fn new(source: &str) -> Result<Self, Error> {
        todo!("{source}")
    }
    pub fn source(&self) -> &str {
        todo!()
    }
    /// `messages` is an array of objects as in the OpenAI chat API. Work is bounded: an endless template is an error.
    pub fn render(&self, messages: &serde_json::Value, options: &RenderOptions) -> Result<String, Error> {
        todo!("{messages} {options:?}")
    }
}
