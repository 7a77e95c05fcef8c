//! The program's commands. Their steps are ordered so that a failure does the least harm.
//!
//! A key is stored before the file that it opens is written. In the other order, a run that ends in
//! between would leave a file that can never be opened.

use std::fs;
use std::path::{Path, PathBuf};

use crate::crypt::{CryptError, Key};
use crate::data::{DataError, Dataset, Samples, Scaler};
use crate::database::{self, Address, DatabaseError, Login, Table, TableLocation};
use crate::host::Host;
use crate::model::{self, Settings};
use crate::report::{self, Evaluation, Figures, ModelFile};

/// The secret that holds the key of the encrypted dataset.
pub const DATASET_KEY: &str = "dataset-key";
/// The secret that holds the database user's name.
pub const DB_USER: &str = "db-user";
/// The secret that holds the database user's password.
pub const DB_PASSWORD: &str = "db-password";
/// The secret that holds the key of the encrypted model.
pub const MODEL_KEY: &str = "model-key";

/// The plain dataset, in the input folder of `prepare`.
pub const PLAIN_DATASET: &str = "breast_cancer.csv";
/// The encrypted dataset, which `prepare` writes and `train` reads.
pub const SEALED_DATASET: &str = "breast_cancer.csv.age";
/// The encrypted model.
pub const SEALED_MODEL: &str = "model.json.age";
/// The evaluation in readable form.
pub const EVALUATION: &str = "evaluation.md";

/// Why a command failed. The messages are for the person who runs it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The host refused to return a secret.
    #[error("cannot read the {what}: {reason}")]
    GetSecret { what: &'static str, reason: String },
    /// The host refused to store a secret.
    #[error("cannot store the {what}: {reason}")]
    SetSecret { what: &'static str, reason: String },
    /// The host rejected a metric or a progress report.
    #[error("cannot report to the host: {0}")]
    Report(String),
    /// A parameter of the run has an invalid value.
    #[error("the parameter `{name}` has to be {expected}")]
    Parameter { name: &'static str, expected: &'static str },
    /// A file of the input folder could not be read.
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    /// A file of the output folder could not be written.
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: std::io::Error },
    /// The dataset could not be parsed.
    #[error("cannot use the dataset: {0}")]
    Data(#[from] DataError),
    /// The rows could not be read from the database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file could not be encrypted or decrypted.
    #[error("{what}: {error}")]
    Crypt { what: &'static str, error: CryptError },
    /// The model could not be written as, or read from, JSON.
    #[error("cannot use the model file: {0}")]
    ModelFile(String),
}

/// The folders of a run.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a> {
    /// Read-only to the component: `/input`.
    pub input: &'a Path,
    /// Writable: `/output`.
    pub output: &'a Path,
}

impl Folders<'_> {
    fn read(&self, name: &str) -> Result<Vec<u8>, CommandError> {
        let path = self.input.join(name);
        fs::read(&path).map_err(|error| CommandError::Read { path, error })
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), CommandError> {
        let path = self.output.join(name);
        fs::write(&path, content).map_err(|error| CommandError::Write { path, error })
    }
}

/// The source of the rows for `train`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The encrypted file in the input folder.
    File,
    /// A table in PostgreSQL, with a user and password from the vault.
    Postgres,
}

impl Source {
    fn load(self, host: &mut impl Host, folders: Folders<'_>) -> Result<Dataset, CommandError> {
        match self {
            Self::File => {
                let what = "dataset key";
                let text = host.get_secret(DATASET_KEY).map_err(|reason| CommandError::GetSecret { what, reason })?;
                let key = Key::parse(&text).map_err(|error| CommandError::Crypt { what, error })?;
                let sealed = folders.read(SEALED_DATASET)?;
                let what = "cannot open the dataset";
                let plain = key.decrypt(&sealed).map_err(|error| CommandError::Crypt { what, error })?;
                Ok(Dataset::parse(&plain)?)
            }
            Self::Postgres => {
                let location = location(host)?;
                let login = login(host)?;
                Ok(database::load(&location, &login)?)
            }
        }
    }
}

/// Returns the location of the rows from the parameters `db-address`, `db-name` and `db-table`.
fn location(host: &impl Host) -> Result<TableLocation, CommandError> {
    fn required<T>(
        host: &impl Host,
        name: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, CommandError> {
        let value = host.parameter(name).and_then(|text| parse(&text));
        value.ok_or(CommandError::Parameter { name, expected })
    }
    Ok(TableLocation {
        address: required(
            host,
            "db-address",
            "`ADDRESS:PORT` or `NAME:PORT`, as the policy's `tcp` has it",
            Address::parse,
        )?,
        database: required(host, "db-name", "the name of a database", database::name)?,
        table: required(host, "db-table", "`TABLE` or `SCHEMA.TABLE`", Table::parse)?,
    })
}

/// Reads user and password in one request, so that the policy grants both or neither and the audit
/// log shows them together.
fn login(host: &mut impl Host) -> Result<Login, CommandError> {
    let failed = |reason| CommandError::GetSecret { what: "database user and password", reason };
    let mut found = host.get_secrets(&[DB_USER, DB_PASSWORD]).map_err(failed)?.into_iter();
    let mut next = |name: &str| found.next().flatten().ok_or_else(|| failed(format!("not found: {name}")));
    Ok(Login { user: next(DB_USER)?, password: next(DB_PASSWORD)? })
}

/// Encrypts the dataset with a new key, stores the key, and writes only the encrypted file.
pub fn prepare(host: &mut impl Host, folders: Folders<'_>) -> Result<(), CommandError> {
    let plain = folders.read(PLAIN_DATASET)?;
    let dataset = Dataset::parse(&plain)?;
    let key = Key::generate();
    let what = "cannot seal the dataset";
    let sealed = key.encrypt(&plain).map_err(|error| CommandError::Crypt { what, error })?;
    host.set_secret(DATASET_KEY, key.to_text().expose())
        .map_err(|reason| CommandError::SetSecret { what: "dataset key", reason })?;
    folders.write(SEALED_DATASET, &sealed)?;
    println!("encrypted {} rows to {SEALED_DATASET}; its key is the secret `{DATASET_KEY}`", dataset.rows());
    Ok(())
}

/// Trains, reports, and writes the model encrypted with a new key, together with a readable
/// evaluation.
pub fn train(host: &mut impl Host, folders: Folders<'_>, source: Source) -> Result<(), CommandError> {
    let settings = settings(host)?;
    let dataset = source.load(host, folders)?;
    let scaler = Scaler::fit(&dataset.training.features);
    let scaled =
        |part: &Samples| Samples { features: scaler.transform(&part.features), positive: part.positive.clone() };
    let (training, held_out) = (scaled(&dataset.training), scaled(&dataset.held_out));
    println!("training on {} rows, {} held out", training.len(), held_out.len());

    let fit = model::fit(&training, settings, |iteration, loss| {
        host.log_metric("loss", loss, Some(iteration))?;
        host.report_progress(iteration, 0, &format!("iteration {iteration}: loss {loss:.6}"))
    })
    .map_err(CommandError::Report)?;

    let evaluation = Evaluation::of(&fit.model, &held_out);
    let figures = Figures {
        train_log_loss: fit.model.log_loss(&training),
        held_out_log_loss: fit.model.log_loss(&held_out),
        held_out_accuracy: evaluation.accuracy(),
    };
    for (name, value) in [
        ("train-log-loss", figures.train_log_loss),
        ("held-out-log-loss", figures.held_out_log_loss),
        ("held-out-accuracy", figures.held_out_accuracy),
        ("intercept", fit.model.intercept),
    ] {
        host.log_metric(name, value, None).map_err(CommandError::Report)?;
    }
    if !fit.converged {
        eprintln!("warning: not converged after {} iterations; raise `max-iterations`", fit.iterations);
    }

    let rows = (training.len(), held_out.len());
    let file = ModelFile::new(dataset.classes, scaler, settings, &fit, figures);
    let json = serde_json::to_vec_pretty(&file).map_err(|error| CommandError::ModelFile(error.to_string()))?;
    let key = Key::generate();
    let what = "cannot seal the model";
    let sealed = key.encrypt(&json).map_err(|error| CommandError::Crypt { what, error })?;

    host.set_secret(MODEL_KEY, key.to_text().expose())
        .map_err(|reason| CommandError::SetSecret { what: "model key", reason })?;
    folders.write(SEALED_MODEL, &sealed)?;
    folders.write(EVALUATION, report::evaluation_markdown(&file, rows, &evaluation).as_bytes())?;
    println!(
        "{} iterations: log loss {:.5} in training, {:.5} held out; accuracy {:.4} held out",
        fit.iterations, figures.train_log_loss, figures.held_out_log_loss, figures.held_out_accuracy
    );
    println!("encrypted the model to {SEALED_MODEL}; its key is the secret `{MODEL_KEY}`");
    Ok(())
}

/// Opens an encrypted model with the key that `train` stored.
pub fn open_model(sealed: &[u8], key: &str) -> Result<ModelFile, CommandError> {
    let key = Key::parse(key).map_err(|error| CommandError::Crypt { what: "model key", error })?;
    let what = "cannot open the model";
    let json = key.decrypt(sealed).map_err(|error| CommandError::Crypt { what, error })?;
    let file: ModelFile = serde_json::from_slice(&json).map_err(|error| CommandError::ModelFile(error.to_string()))?;
    if file.format != report::FORMAT {
        return Err(CommandError::ModelFile(format!("its format is not `{}`", report::FORMAT)));
    }
    Ok(file)
}

/// Returns the settings from the parameters `c` and `max-iterations`, if given.
fn settings(host: &impl Host) -> Result<Settings, CommandError> {
    let mut settings = Settings::default();
    if let Some(text) = host.parameter("c") {
        settings.c = text
            .parse()
            .ok()
            .filter(|c: &f64| c.is_finite() && *c > 0.0)
            .ok_or(CommandError::Parameter { name: "c", expected: "a number above 0" })?;
    }
    if let Some(text) = host.parameter("max-iterations") {
        settings.max_iterations = text
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or(CommandError::Parameter { name: "max-iterations", expected: "a whole number above 0" })?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
