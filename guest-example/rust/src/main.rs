//! The component: `prepare` and `train`, run by strongroom with `/input` and `/output`.

use std::path::Path;
use std::process::ExitCode;

use strongroom_guest::{metrics, parameters, progress, secrets};
use training_example::commands::{self, Folders, Source};
use training_example::host::Host;

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
        let value = secrets::get(name).map_err(|error| error.to_string())?;
        Ok(value.expose().to_owned())
    }

    fn get_secrets(&mut self, names: &[&str]) -> Result<Vec<Option<String>>, String> {
        let found = secrets::get_many(names).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|value| value.map(|value| value.expose().to_owned())).collect())
    }

    fn set_secret(&mut self, name: &str, value: &str) -> Result<(), String> {
        secrets::set(name, value).map_err(|error| error.to_string())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        parameters::get(name)
    }

    fn log_metric(&mut self, name: &str, value: f64, step: Option<u64>) -> Result<(), String> {
        metrics::log(name, value, step).map_err(|error| error.to_string())
    }

    fn report_progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), String> {
        progress::report(done, total, message).map_err(|error| error.to_string())
    }
}
