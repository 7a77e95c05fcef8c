//! What the guests share: the bindings of the guest contract, and how answers are printed.

wit_bindgen::generate!({ path: "../../wit", world: "program" });

pub use strongroom::training::{context, secrets};

/// The arguments after the program's name.
pub fn args() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// The `n`th argument, or nothing.
pub fn arg(n: usize) -> String {
    args().get(n).cloned().unwrap_or_default()
}

/// An answer as the tests look for it: `ok: ...` or `error: <kind>: ...`.
pub fn show<T: std::fmt::Debug>(answer: &Result<T, secrets::Error>) -> String {
    use secrets::Error;
    let (kind, text) = match answer {
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
