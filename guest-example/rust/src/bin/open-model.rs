//! Decrypts a model outside strongroom, for a person who may read its key from the vault.
//!
//! The key is read from standard input and never from an argument, because arguments are visible to
//! every process of the machine.

use std::io::Read;
use std::process::ExitCode;

use training_example::commands::open_model;

const USAGE: &str = "usage: open-model FILE < KEY
  FILE  a model that `train` encrypted, such as model.json.age
  KEY   the value of the secret `model-key`";

/// The maximum length of an age identity, in bytes.
const MAX_KEY: u64 = 4096;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match show(path.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn show(path: &std::path::Path) -> Result<(), String> {
    let sealed = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut key = String::new();
    std::io::stdin()
        .take(MAX_KEY)
        .read_to_string(&mut key)
        .map_err(|error| format!("cannot read the key from standard input: {error}"))?;
    let model = open_model(&sealed, &key).map_err(|error| error.to_string())?;

    println!("{} opens with this key", path.display());
    println!("  classes             {}", model.classes.join(", "));
    println!("  coefficients        {}", model.coefficients.len());
    println!("  intercept           {:.5}", model.intercept);
    println!("  train log loss      {:.5}", model.figures.train_log_loss);
    println!("  held-out log loss   {:.5}", model.figures.held_out_log_loss);
    println!("  held-out accuracy   {:.4}", model.figures.held_out_accuracy);
    for (feature, coefficient) in model.weightiest().into_iter().take(3) {
        println!("  {feature:<19} {coefficient:+.5}");
    }
    Ok(())
}
