//! From Rust failures to JavaScript errors with a stable `code`.
use crate::engine;
use napi::{
    Env, JsError, JsRangeError, JsTypeError, Unknown,
    bindgen_prelude::{FromNapiValue, Function, JsValuesTupleIntoVec, ToNapiValue},
    sys,
};

/// `code` of every complaint about an argument.
const INVALID_ARGUMENT: &str = "ERR_REALM_INVALID_ARGUMENT";

pub type Checked<T> = Result<T, Failure>;

/// Why a call failed. Can travel between threads; becomes a JavaScript value in [`Failure::into_error`].
#[derive(Debug)]
pub enum Failure {
    /// An argument of the wrong type: a `TypeError`.
    Type(String),
    /// An argument of the right type that is out of range: a `RangeError`.
    Range(String),
    Engine(engine::Error),
    /// A value that JavaScript code threw (a getter, a callback, `signal.reason`): handed on as it is.
    Thrown(napi::Error),
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<napi::Error> for Failure {
    fn from(error: napi::Error) -> Self {
        Self::Thrown(error)
    }
}

impl Failure {
    /// The JavaScript value to throw or to reject with. On the JavaScript thread only.
    pub fn into_error(self, env: &Env) -> napi::Error {
        let value = match self {
            Self::Thrown(error) => return take_pending_exception(env, error),
            Self::Type(message) => JsTypeError::from(coded(INVALID_ARGUMENT, message)).into_unknown(*env),
            Self::Range(message) => JsRangeError::from(coded(INVALID_ARGUMENT, message)).into_unknown(*env),
            Self::Engine(error) => {
                let coded = coded(error.code(), error.to_string());
                match error {
                    // What the engine refuses has the right type: it is a value that this model cannot take.
                    engine::Error::InvalidArgument(_) => JsRangeError::from(coded).into_unknown(*env),
                    _ => JsError::from(coded).into_unknown(*env),
                }
            }
        };
        napi::Error::from_unknown_without_coercion(value)
    }
}

/// Calls a function that belongs to the caller. What it throws comes back as it is, even where it is not an `Error`.
pub fn call_js<Args: JsValuesTupleIntoVec, Return: FromNapiValue>(
    env: &Env,
    function: Function<Args, Return>,
    this: impl ToNapiValue,
    args: Args,
) -> Result<Return, napi::Error> {
    function.apply(this, args).map_err(|error| take_pending_exception(env, error))
}

fn coded(code: &'static str, message: String) -> napi::Error<&'static str> {
    napi::Error::new(code, message)
}

/// Node-API reports that JavaScript code threw as one failure or another and leaves the exception pending, and nothing
/// else works until it is taken.
pub fn take_pending_exception(env: &Env, error: napi::Error) -> napi::Error {
    let (mut pending, mut exception) = (false, std::ptr::null_mut());
    // SAFETY: `env` is the live environment of this thread, and the value is wrapped only after napi filled it in.
    unsafe {
        let asked = sys::napi_is_exception_pending(env.raw(), &mut pending);
        if asked != sys::Status::napi_ok || !pending {
            return error;
        }
        match sys::napi_get_and_clear_last_exception(env.raw(), &mut exception) {
            sys::Status::napi_ok => {
                napi::Error::from_unknown_without_coercion(Unknown::from_raw_unchecked(env.raw(), exception))
            }
            _ => error,
        }
    }
}
