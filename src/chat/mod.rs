//! Rendering a model's own Jinja chat template.
//!
//! A template comes from a model file, so it is untrusted: it may be malformed, endless or hostile, and the answer is an
//! error. `minijinja` runs the templates; around it
//! - `scan` finds the tags, `harden` rewrites them so that everything whose cost depends on data is charged,
//! - `budget` keeps the account, `python` prints values as Python does, `library` has the functions, filters and methods
//!   that templates expect, `clock` is `strftime_now`.
//!
//! Begin at [`ChatTemplate::render`].

mod budget;
mod clock;
mod harden;
mod library;
mod python;
mod scan;

#[cfg(test)]
mod tests;

use minijinja::{Environment, UndefinedBehavior, Value};
use serde_json::{Map, Value as Json};
use std::error::Error as StdError;

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
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
}

/// What a template is rendered with besides the messages.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    pub add_generation_prompt: bool,
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub tools: Option<Json>,
    pub documents: Option<Json>,
    /// Extra variables; they win over the ones above.
    pub variables: Map<String, Json>,
    /// What `strftime_now` sees, seconds since the epoch (UTC); `None` is the clock.
    pub now: Option<f64>,
}

/// The name under which the one template of an environment is known. It has no extension, so nothing is escaped.
const NAME: &str = "chat_template";
/// Instructions that one rendering may execute. A conversation of a thousand messages takes some hundred thousand.
const FUEL: u64 = 5_000_000;
/// The most that a rendering may write.
const MAX_OUTPUT: usize = 64 << 20;
/// The deepest that messages, tools, documents and variables may be nested.
const MAX_CONTEXT_DEPTH: usize = 100;
/// `minijinja` recurses along a template's nesting, its longest expression and its macros. What `harden` lets through
/// needed between 8 and 16 MiB when measured, optimised. Only touched pages cost memory.
const STACK_BYTES: usize = 64 << 20;

impl ChatTemplate {
    /// Compiles a template. Fails for a syntax error.
    pub fn new(source: &str) -> Result<Self, Error> {
        let hardened = harden::harden(source)?;
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        library::install(&mut environment);
        let environment = on_deep_stack(move || {
            environment.add_template_owned(NAME, hardened).map_err(|error| describe(&error))?;
            Ok(environment)
        })?;
        Ok(Self { source: source.to_owned(), environment })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// `messages` is an array of objects as in the OpenAI chat API. Work is bounded: an endless template is an error.
    pub fn render(&self, messages: &Json, options: &RenderOptions) -> Result<String, Error> {
        let now = options.now.unwrap_or_else(clock::seconds_since_epoch);
        self.render_variables(variables(messages, options)?, now)
    }

    /// Renders with exactly these variables (and the functions that every template has); later ones win.
    fn render_variables(&self, variables: Vec<(&str, Value)>, now: f64) -> Result<String, Error> {
        on_deep_stack(|| {
            let template = self.environment.get_template(NAME).map_err(|error| describe(&error))?;
            // First: a caller may put a clock of its own in its place.
            let clock = ("strftime_now", library::strftime_now(now));
            let variables: Value = [clock].into_iter().chain(variables).collect();

            let mut output = Output::default();
            match template.render_captured_to(variables, &mut output) {
                Ok(_) => String::from_utf8(output.bytes).map_err(|error| Error::Template(error.to_string())),
                Err(_) if output.is_full => {
                    Err(Error::Template(format!("the chat template writes more than {MAX_OUTPUT} bytes")))
                }
                Err(error) => Err(describe(&error)),
            }
        })
    }
}

/// The variables that `transformers.apply_chat_template` gives to a template, and the caller's.
fn variables<'a>(messages: &Json, options: &'a RenderOptions) -> Result<Vec<(&'a str, Value)>, Error> {
    let mut variables = vec![
        ("messages", variable("messages", messages)?),
        ("tools", variable("tools", options.tools.as_ref().unwrap_or(&Json::Null))?),
        ("documents", variable("documents", options.documents.as_ref().unwrap_or(&Json::Null))?),
        ("add_generation_prompt", Value::from(options.add_generation_prompt)),
    ];
    // Left out when the model has none: templates ask `is defined`, and undefined prints nothing.
    for (name, token) in [("bos_token", &options.bos_token), ("eos_token", &options.eos_token)] {
        variables.extend(token.as_deref().map(|token| (name, Value::from(token))));
    }
    for (name, value) in &options.variables {
        variables.push((name, variable(name, value)?));
    }
    Ok(variables)
}

fn variable(name: &str, value: &Json) -> Result<Value, Error> {
    if !is_shallow(value, MAX_CONTEXT_DEPTH) {
        return Err(Error::Template(format!("`{name}` is nested deeper than {MAX_CONTEXT_DEPTH} levels")));
    }
    Ok(Value::from_serialize(value))
}

fn is_shallow(value: &Json, levels: usize) -> bool {
    match value {
        Json::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Json::Object(items) => levels > 0 && items.values().all(|item| is_shallow(item, levels - 1)),
        _ => true,
    }
}

/// Runs on a thread of its own: the caller's stack may be small, and a panic inside ends that thread only.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::Template(format!("no thread for the chat template: {error}")))?;
        let panicked = |_| Error::Template("the chat template made its interpreter panic".to_owned());
        thread.join().map_err(panicked)?
    })
}

/// The message of an error of `minijinja`: the line and every cause once.
fn describe(error: &minijinja::Error) -> Error {
    let mut causes = Vec::new();
    let mut line = None;
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(raised) = cause.downcast_ref::<library::Raised>() {
            return Error::Raised(raised.0.clone());
        }
        match cause.downcast_ref::<minijinja::Error>() {
            // The innermost line is where it happened.
            Some(cause) => {
                line = cause.line().or(line);
                causes.push(match cause.detail() {
                    Some(detail) => format!("{}: {detail}", cause.kind()),
                    None => cause.kind().to_string(),
                });
            }
            None => causes.push(cause.to_string()),
        }
        next = cause.source();
    }
    // An error in an inclusion of an inclusion says the same at every level.
    causes.dedup();
    let line = line.map_or(String::new(), |line| format!(", line {line}"));
    Error::Template(format!("chat template{line}: {}", causes.join(": ")))
}

/// What a rendering writes to, up to `MAX_OUTPUT`.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.bytes.len() {
            self.is_full = true;
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
