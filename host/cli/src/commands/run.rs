//! `strongroom run`: runs a component under a policy.
//!
//! All arguments are checked before the home is opened, so a run that does not start leaves nothing
//! behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::context::{Context, Opened, create_private_dir};
use super::failure::{Exit, Failure};
use super::screen::Screen;
use super::style;
use super::{block_on, out, policy, script, summary};
use crate::config::Config;
use strongroom::policy::Policy;
use strongroom::record::RunRecord;
use strongroom::runner::{Checks, PreparedRun, Runner, RunnerOptions};
use strongroom::runtime::{ChildCompiler, Compile, Stream};
use strongroom::spec::RunSpec;
use strongroom::vault::Vault;
use strongroom::vault::cache::{self, Cache};

/// Run a component under a policy
///
/// The component sees the input directory as /input, read-only, and starts with an empty /output.
/// After it finishes, the contents of /output appear in the output directory, completely or not at
/// all. Without a policy it may use no secret.
///
/// In the component's output, secrets that it was given are redacted and control characters are
/// escaped. At the end, a table on standard error shows the result of the run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Component file (`.wasm`), or Python script (`.py`), which is built if it has changed
    #[arg(value_name = "COMPONENT|SCRIPT")]
    component: PathBuf,
    /// Policy file: what this run may do
    #[arg(long, short_alias = 'p', value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Parameter that the component can read; repeatable
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_parameter)]
    parameters: Vec<(String, String)>,
    /// Directory that the component sees as /input
    #[arg(long, short_alias = 'i', value_name = "DIR")]
    input: Option<PathBuf>,
    /// Directory for the contents of /output; new or empty
    #[arg(long, short_alias = 'o', value_name = "DIR")]
    output: Option<PathBuf>,
    /// File that the component reads as its standard input, which is empty by default
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Print the run record as JSON on standard output, and the component's output on standard
    /// error
    #[arg(long)]
    json: bool,
    /// Show where the time went
    #[arg(long)]
    timings: bool,
    /// Do not show progress on the terminal
    #[arg(long)]
    no_progress: bool,
    /// Write the component's output to this new file instead, without escaping control characters
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Arguments for the component, after `--`
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

fn parse_parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let spec = run_spec(args)?;
    let policy = match &args.policy {
        Some(path) => policy::read(path)?,
        None => Policy::empty(),
    };
    warn_about_misplaced_policy(args);
    if args.policy.is_none() {
        script::suggest_policy(&args.component);
    }
    let spec = match script::component(&args.component, !args.no_progress, context)? {
        Some(component) => RunSpec { component, source: Some(args.component.clone()), ..spec },
        None => spec,
    };
    let checks = Checks::default().ceilings(context.config.ceilings.clone()).private(context.private()?);
    let prepared = checks.prepare(spec, Arc::new(policy))?;
    if let Some(log) = args.log.as_deref().filter(|log| log.symlink_metadata().is_ok()) {
        return Err(log_exists_error(log));
    }
    let opened = context.find_and_open_for_run()?;
    create_private_dir(&opened.home.temp())?;
    let screen = match &args.log {
        Some(path) => Screen::log(create_log(path)?).map_err(Failure::host)?,
        None if args.json => Screen::stderr_only(),
        None => Screen::streams(),
    };
    let draws = style::draws() && !args.json && !args.no_progress;
    let screen = Arc::new(if draws { screen.with_progress() } else { screen });
    let observer = Arc::clone(&screen);
    let ran = block_on(execute(prepared, observer, &opened, &context.config, args.timings)).flatten();
    let closed = opened.close();
    let record = match ran {
        Ok(record) => record,
        Err(failure) => {
            screen.finish();
            // The run did not start, so the log is empty.
            if let Some(log) = &args.log {
                let _ = fs::remove_file(log);
            }
            return Err(failure);
        }
    };
    report(args, &record, &screen)?;
    closed?;
    Ok(record.outcome.into())
}

fn run_spec(args: &Args) -> Result<RunSpec, Failure> {
    let mut parameters = BTreeMap::new();
    for (name, value) in &args.parameters {
        if parameters.insert(name.clone(), value.clone()).is_some() {
            let name = strongroom::escape::escape_controls(name);
            return Err(Failure::invalid(format!("parameter `{name}` is given more than once"))
                .help("give each parameter once"));
        }
    }
    Ok(RunSpec {
        component: args.component.clone(),
        source: None,
        input: args.input.clone(),
        output: args.output.clone(),
        stdin: args.stdin.clone(),
        parameters,
        args: args.args.clone(),
    })
}

/// Prints a note if `--policy` was passed to the component, probably by mistake. It may be an
/// option of the component, so the run continues, without a policy.
fn warn_about_misplaced_policy(args: &Args) {
    let is_policy = |argument: &String| argument == "--policy" || argument.starts_with("--policy=");
    if args.policy.is_none() && args.args.iter().any(is_policy) {
        out::note("note: `--policy` after `--` is passed to the component; put the run's policy before `--`");
    }
}

/// Runs a component in an open home.
async fn execute(
    prepared: PreparedRun,
    screen: Arc<Screen>,
    opened: &Opened,
    config: &Config,
    timings: bool,
) -> Result<RunRecord, Failure> {
    let cancel = cancelled()?;
    let settings =
        cache::Settings { time_to_live: config.cache_ttl, grace: config.cache_grace, ..cache::Settings::default() };
    let vault: Arc<dyn Vault> = Arc::new(Cache::new(Arc::clone(&opened.vault), settings));
    let compile = Compile::Child(ChildCompiler::new("/proc/self/exe"));
    let options = RunnerOptions::new(vault, opened.audit.clone(), compile)
        .repeats(config.repeats)
        .records(Arc::clone(&opened.runs))
        .code_store(opened.home.code())
        .temp(opened.home.temp())
        // This process runs one component, so it reserves no more slots.
        .max_runs(1)
        .timings(timings);
    let runner = Runner::new(options)?;
    Ok(prepared.run(&runner, screen, cancel).await?)
}

/// Returns a future that is ready after SIGINT or SIGTERM. A second signal ends the process at
/// once, and the run becomes `lost`.
fn cancelled() -> Result<impl Future<Output = ()> + Send, Failure> {
    let listen = |kind| signal(kind).map_err(|cause| Failure::host(format!("could not listen for signals: {cause}")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        let _ = sender.send(());
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(i32::from(Exit::Cancelled as u8));
    });
    Ok(async move {
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Prints the result of a run.
fn report(args: &Args, record: &RunRecord, screen: &Screen) -> Result<(), Failure> {
    let finished = screen.finish();
    if args.json {
        out::json(record)?;
    } else {
        if args.log.is_none() && finished.last.is_some() {
            out::note(if finished.last == Some(b'\n') { "" } else { "\n" });
        }
        for line in summary::lines(record, Stream::Stderr) {
            out::note(line);
        }
    }
    match finished.failure {
        Some(cause) => Err(Failure::host(format!("could not write all of the component's output: {cause}"))
            .help("run `strongroom runs show` to see the run record")),
        None => Ok(()),
    }
}

/// Creates the file for the component's output.
fn create_log(path: &Path) -> Result<File, Failure> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::AlreadyExists => log_exists_error(path),
        _ => Failure::invalid(format!("could not create the log `{}`: {cause}", path.display())),
    })
}

fn log_exists_error(path: &Path) -> Failure {
    Failure::invalid(format!("the log `{}` already exists", path.display()))
        .help("choose a new file; existing files are never overwritten")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_needs_name_and_value() {
        assert_eq!(parse_parameter("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_parameter("a="), Ok(("a".into(), String::new())));
        for bad in ["", "a", "=b"] {
            assert!(parse_parameter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_file_is_new_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        create_log(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create_log(&path).is_err());
    }
}
