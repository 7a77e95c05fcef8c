//! The process that compiles: sets its own limits, reads a component from standard input, and
//! writes machine code to standard output.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{MESSAGE_MAX, wire};
use crate::engine::{EngineHash, compiling_engine};
use crate::error_text;
use crate::features::{self, Unacceptable};

/// The number of descriptors that the process may have open: the three standard ones and a few for
/// the system's libraries.
const DESCRIPTORS: u64 = 16;

/// The stack size of the watcher thread, in bytes. It counts against the memory limit.
const LOOK_STACK: usize = 64 * 1024;

/// The seconds between the signal for the CPU limit and the kill.
const GRACE: u64 = 2;

/// The limits that the child sets for itself, passed as the arguments after
/// [`CHILD_ARGUMENT`](super::CHILD_ARGUMENT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildLimits {
    /// Address space in bytes.
    pub(super) memory: u64,
    /// CPU time in seconds, over all threads.
    pub(super) cpu_seconds: u64,
    /// Number of threads that compile.
    pub(super) threads: usize,
}

impl ChildLimits {
    pub(super) fn to_args(self) -> [String; 3] {
        [self.memory.to_string(), self.cpu_seconds.to_string(), self.threads.to_string()]
    }

    fn from_args(args: impl Iterator<Item = OsString>) -> Option<Self> {
        let args: Vec<OsString> = args.take(4).collect();
        let [memory, cpu_seconds, threads] = args.as_slice() else { return None };
        Some(Self {
            memory: memory.to_str()?.parse().ok()?,
            cpu_seconds: cpu_seconds.to_str()?.parse().ok()?,
            threads: threads.to_str()?.parse().ok().filter(|threads| *threads > 0)?,
        })
    }

    fn apply(self) -> Result<(), Failure> {
        let limits = [
            (Resource::Core, 0, 0),
            (Resource::Fsize, 0, 0),
            (Resource::Nofile, DESCRIPTORS, DESCRIPTORS),
            (Resource::Cpu, self.cpu_seconds, self.cpu_seconds.saturating_add(GRACE)),
            (Resource::As, self.memory, self.memory),
        ];
        for (resource, soft, hard) in limits {
            // A lower limit that the parent process set stays in force.
            let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let new = Rlimit { current: Some(soft.min(ceiling)), maximum: Some(hard.min(ceiling)) };
            setrlimit(resource, new)
                .map_err(|error| Failure(wire::FAILED, format!("the limits cannot be set: {error}")))?;
        }
        Ok(())
    }
}

struct Failure(u8, String);

/// Runs the compiling process if the arguments (the program's name first) request it, and returns
/// its exit code. A program that compiles with [`Compile::Child`](super::Compile::Child) in a child
/// of itself calls this before anything else.
///
/// ```no_run
/// # use std::process::ExitCode;
/// use strongroom_runtime::compile;
///
/// fn main() -> ExitCode {
///     let arguments: Vec<_> = std::env::args_os().collect();
///     if let Some(ended) = compile::as_child(&arguments) {
///         return ended;
///     }
///     // ... the program itself, with `Compile::Child(ChildCompiler::new("/proc/self/exe"))`
///     ExitCode::SUCCESS
/// }
/// ```
pub fn as_child(arguments: &[OsString]) -> Option<ExitCode> {
    let asked = arguments.get(1).is_some_and(|argument| argument == super::CHILD_ARGUMENT);
    asked.then(|| child_main(arguments.iter().skip(2).cloned()))
}

fn child_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match compile(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            let _ = std::io::stderr().write_all(message.as_bytes());
            ExitCode::from(code)
        }
    }
}

/// Ends this process as soon as no process can receive the code. The parent holds the other end of
/// standard output, and only the parent enforces the time limit. When the parent is gone, however
/// it ended, the pipe has no reader.
fn end_with_reader() -> Result<(), Failure> {
    let look = || {
        // No events are requested, so `poll` can report only that the pipe is broken.
        let stdout = rustix::stdio::stdout();
        let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
        while matches!(rustix::event::poll(&mut pipe, None), Err(Errno::INTR) | Ok(0)) {}
        std::process::exit(1);
    };
    let started = std::thread::Builder::new().stack_size(LOOK_STACK).spawn(look);
    started.map(drop).map_err(|error| Failure(wire::MEMORY, error.to_string()))
}

fn compile(args: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure(wire::FAILED, format!("{what}: {error}"));
    let limits = ChildLimits::from_args(args)
        .ok_or_else(|| Failure(wire::FAILED, "this is for strongroom's own use, to compile components".to_owned()))?;
    limits.apply()?;
    end_with_reader()?;
    // Built explicitly because the default is one thread per processor, and the stack and arena of
    // each thread count against the memory limit.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(limits.threads).build_global();
    threads.map_err(|error| Failure(wire::MEMORY, error.to_string()))?;
    let mut component = Vec::new();
    std::io::stdin().read_to_end(&mut component).map_err(|error| failed("the component cannot be read", &error))?;
    features::check(&component).map_err(|unacceptable| match unacceptable {
        Unacceptable::Invalid(message) => Failure(wire::INVALID, message),
        Unacceptable::Unsupported(why) => Failure(wire::UNSUPPORTED, why),
    })?;
    let engine = compiling_engine().map_err(|error| Failure(wire::FAILED, error.to_string()))?;
    let code = engine
        .precompile_component(&component)
        .map_err(|error| Failure(wire::INVALID, error_text::format(&error, MESSAGE_MAX)))?;
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(&wire::header(&EngineHash::of(&engine), &code))
        .and_then(|()| out.write_all(&code))
        .and_then(|()| out.flush());
    written.map_err(|error| failed("the code cannot be handed over", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_travel_as_arguments() {
        let limits = ChildLimits { memory: 1 << 32, cpu_seconds: 90, threads: 2 };
        assert_eq!(ChildLimits::from_args(limits.to_args().into_iter().map(Into::into)), Some(limits));
        for bad in [&["1", "2"][..], &["1", "2", "3", "4"], &["1", "2", "0"], &["-1", "2", "3"], &["x", "2", "3"]] {
            assert_eq!(ChildLimits::from_args(bad.iter().map(OsString::from)), None, "{bad:?}");
        }
    }
}
