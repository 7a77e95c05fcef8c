//! Bindings of the guest contract, and the format of printed results.

wit_bindgen::generate!({ path: "../../wit", world: "program" });

pub use strongroom::training::{context, secrets};

/// Returns the arguments after the program's name.
pub fn args() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// Returns the `n`th argument, or an empty string.
pub fn arg(n: usize) -> String {
    args().get(n).cloned().unwrap_or_default()
}

/// Formats a result as the tests expect it: `ok: ...` or `error: <kind>: ...`.
pub fn show<T: std::fmt::Debug>(result: &Result<T, secrets::Error>) -> String {
    use secrets::Error;
    let (kind, text) = match result {
        Ok(value) => return format!("ok: {value:?}"),
        Err(Error::Denied(text)) => ("denied", text.clone()),
        Err(Error::NotFound(text)) => ("not-found", text.clone()),
        Err(Error::InvalidName(text)) => ("invalid-name", text.clone()),
        Err(Error::InvalidValue(text)) => ("invalid-value", text.clone()),
        Err(Error::Exhausted(text)) => ("exhausted", text.clone()),
        Err(Error::Expired(text)) => ("expired", text.clone()),
        Err(Error::InvalidBatch(text)) => ("invalid-batch", text.clone()),
        Err(Error::Conflict(text)) => ("conflict", text.clone()),
        Err(Error::Partial(names)) => ("partial", names.join(" ")),
        Err(Error::Unavailable(text)) => ("unavailable", text.clone()),
    };
    format!("error: {kind}: {text}")
}
