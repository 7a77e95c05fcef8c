//! The component: `prepare` and `train`, run by strongroom with `/input` and `/output`.

use std::path::Path;
use std::process::ExitCode;

use training_example::commands::{self, Folders, Source};
use training_example::host::Host;

/// The strongroom interfaces, generated from the guest contract.
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "program" });
}
use bindings::strongroom::training::{context, secrets};

const USAGE: &str = "usage:
  prepare                 encrypt /input/breast_cancer.csv to /output, and store its key as the secret `dataset-key`
  train --from-file       train on /input/breast_cancer.csv.age with `dataset-key`, write the encrypted model and its
                          evaluation to /output, and store the model's key as the secret `model-key`
  train --from-postgres   the same, on the rows of a PostgreSQL table, as the user `db-user` with `db-password`
parameters of `train`: c (inverse strength of the penalty, 1), max-iterations (100);
  with --from-postgres also db-address (such as 127.0.0.1:5432), db-name, db-table";

enum Command {
    Prepare,
    Train(Source),
    Help,
}

fn main() -> ExitCode {
    if !cfg!(target_family = "wasm") {
        eprintln!(
            "this program is a strongroom component: build it for wasm32-wasip2 and start it with `strongroom run`"
        );
        return ExitCode::from(2);
    }
    let command = match parse_arguments() {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let folders = Folders { input: Path::new("/input"), output: Path::new("/output") };
    let result = match command {
        Command::Prepare => commands::prepare(&mut Strongroom, folders),
        Command::Train(source) => commands::train(&mut Strongroom, folders, source),
        Command::Help => {
            println!("{USAGE}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse_arguments() -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;

    let mut parser = lexopt::Parser::from_env();
    let (mut name, mut source) = (None, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("from-file") if source.is_none() => source = Some(Source::File),
            Long("from-postgres") if source.is_none() => source = Some(Source::Postgres),
            Long("from-file" | "from-postgres") => return Err("`train` takes one source".into()),
            Value(value) if name.is_none() => name = Some(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    match (name.as_deref(), source) {
        (Some("prepare"), None) => Ok(Command::Prepare),
        (Some("prepare"), Some(_)) => Err("`prepare` takes no source".into()),
        (Some("train"), Some(source)) => Ok(Command::Train(source)),
        (Some("train"), None) => Err("`train` needs a source, `--from-file` or `--from-postgres`".into()),
        (Some(_), _) => Err("the command is neither `prepare` nor `train`".into()),
        (None, _) => Err("a command is missing".into()),
    }
}

/// The host that runs this component.
struct Strongroom;

impl Host for Strongroom {
    fn get_secret(&mut self, name: &str) -> Result<String, String> {
        secrets::get_secret(name).map_err(explain)
    }

    fn get_secrets(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, String> {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let found = secrets::get_secrets(&names).map_err(explain)?;
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }

    fn set_secret(&mut self, name: &str, value: &str) -> Result<(), String> {
        secrets::set_secret(name, value).map_err(explain)
    }

    fn parameter(&self, name: &str) -> Option<String> {
        context::parameter(name)
    }

    fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Result<(), String> {
        context::log_metric(name, value, step)
    }

    fn report_progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), String> {
        context::report_progress(done, total, message)
    }
}

/// Describes an error. Each message contains the affected name, or what to do.
fn explain(error: secrets::Error) -> String {
    let (kind, about) = match error {
        secrets::Error::Denied(about) => ("denied", about),
        secrets::Error::NotFound(about) => ("not found", about),
        secrets::Error::InvalidName(about) => ("not a secret name", about),
        secrets::Error::InvalidValue(about) => ("not a secret value", about),
        secrets::Error::Exhausted(about) => ("used up", about),
        secrets::Error::Expired(about) => ("expired", about),
        secrets::Error::InvalidBatch(about) => ("not a batch", about),
        secrets::Error::Conflict(about) => ("conflict", about),
        secrets::Error::Partial(names) => ("only some were written", names.join(", ")),
        secrets::Error::Unavailable(about) => ("not available now", about),
    };
    format!("{kind}: {about}")
}
