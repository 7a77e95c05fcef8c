//! A component without `main` that exports `train`. The parameter `error` makes it fail with that
//! text, and the parameter `secret` with the value of that secret, as a careless author would.

wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });

use strongroom::training::{context, secrets};

struct Plugin;

impl Guest for Plugin {
    fn train() -> Result<(), String> {
        if let Some(name) = context::parameter("secret") {
            let value = secrets::get_secret(&name).map_err(|error| format!("{error:?}"))?;
            return Err(format!("cannot log in with {value}\u{1b}[2J"));
        }
        println!("trained");
        context::parameter("error").map_or(Ok(()), Err)
    }
}

export!(Plugin);
