//! Starts the compiling process, sends it the component, and reports how it ended.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::child::ChildLimits;
use super::{CHILD_ARGUMENT, CODE_MAX, CompileError, MESSAGE_MAX, invalid, shown, unsupported, wire};
use crate::engine::EngineHash;
use crate::text;

/// How much of the child's standard error is kept, in bytes. The rest is read and discarded so that
/// the child does not block.
const STDERR_MAX: u64 = 8 * 1024;

/// Compiles in a child process of `exe`, which hands its arguments to
/// [`as_child`](super::as_child).
#[derive(Clone, Debug)]
pub struct ChildCompiler {
    /// The program. On Linux `/proc/self/exe` is this process's own binary even after it has been
    /// replaced or removed.
    pub exe: PathBuf,
    /// The child's limit on address space, in bytes: see [`ChildCompiler::MEMORY`].
    pub memory: u64,
    /// The child's limit on CPU time over all its threads, counted in whole seconds.
    pub cpu: Duration,
    /// The longest time that the child may live. A policy's `compile-time` ends the wait earlier.
    pub wall: Duration,
    /// Number of threads that compile.
    pub threads: usize,
}

impl ChildCompiler {
    /// The default limit on address space, in bytes. A program of 600 KB takes 160 MiB, a packed
    /// Python interpreter of 18 MB under 512 MiB.
    pub const MEMORY: u64 = 2 * 1024 * 1024 * 1024;
    /// The default limit on CPU time.
    pub const CPU: Duration = Duration::from_secs(20 * 60);
    /// The default limit on the child's lifetime.
    pub const WALL: Duration = Duration::from_secs(10 * 60);
    /// The default maximum of threads. The stack and arena of each thread count against the memory
    /// limit.
    pub const THREADS: usize = 4;

    /// Returns a compiler that uses a child process of this program, with the default limits.
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            exe: exe.into(),
            memory: Self::MEMORY,
            cpu: Self::CPU,
            wall: Self::WALL,
            threads: processors.min(Self::THREADS),
        }
    }

    /// Compiles a component. Dropping the future kills the child.
    pub(super) async fn compile(&self, engine: &EngineHash, component: Bytes) -> Result<ChildOutput, CompileError> {
        let mut child = self.spawn()?;
        match tokio::time::timeout(self.wall, converse(&mut child, &component)).await {
            Ok(Ok(result)) => self.judge(engine, result),
            Ok(Err(error)) => {
                end(child).await;
                Err(CompileError::Host(format!("the compiler process cannot be talked to: {error}")))
            }
            Err(_elapsed) => {
                end(child).await;
                Err(CompileError::Limit(format!(
                    "compiling the component took longer than {}, this host's limit for every component; use a smaller one",
                    shown(self.wall)
                )))
            }
        }
    }

    fn spawn(&self) -> Result<Child, CompileError> {
        let limits =
            ChildLimits { memory: self.memory, cpu_seconds: self.cpu.as_secs().max(1), threads: self.threads.max(1) };
        let mut command = Command::new(&self.exe);
        command.arg(CHILD_ARGUMENT).args(limits.to_args());
        // The child inherits no environment, working directory or process group. Descriptors are
        // not inherited either, because this program opens all of them with `O_CLOEXEC`.
        command.env_clear().current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| {
            let exe = self.exe.display();
            CompileError::Host(format!("the compiler process `{exe}` cannot be started: {error}"))
        })
    }

    fn judge(&self, engine: &EngineHash, result: ChildResult) -> Result<ChildOutput, CompileError> {
        if result.stdout.len() > CODE_MAX.saturating_add(wire::HEADER_LEN) {
            let limit = CODE_MAX / (1024 * 1024);
            return Err(CompileError::Limit(format!(
                "the component's code is over {limit} MiB when compiled; use a smaller one"
            )));
        }
        let message = String::from_utf8_lossy(&result.stderr);
        if result.status.success() {
            return wire::open(engine, result.stdout).map(ChildOutput).map_err(|why| {
                CompileError::Host(match why {
                    wire::Unusable::Broken => "the compiler process sent no whole code".to_owned(),
                    wire::Unusable::OtherEngine => {
                        "the compiler process is another version of strongroom than this one; start this one anew"
                            .to_owned()
                    }
                })
            });
        }
        if result.status.code() == Some(wire::INVALID.into()) {
            return Err(invalid(&message));
        }
        if result.status.code() == Some(wire::UNSUPPORTED.into()) {
            return Err(unsupported(&message));
        }
        Err(self.failure(result.status, &message))
    }

    fn failure(&self, status: ExitStatus, message: &str) -> CompileError {
        let memory = || {
            let mebibytes = self.memory / (1024 * 1024);
            CompileError::Limit(format!(
                "compiling the component took more than {mebibytes} MiB of memory; use a smaller one"
            ))
        };
        if status.code() == Some(wire::MEMORY.into()) || message.contains("memory allocation of") {
            return memory();
        }
        let is = |signal: Signal| status.signal() == Some(signal.as_raw());
        if is(Signal::XCPU) {
            let cpu = shown(self.cpu);
            return CompileError::Limit(format!(
                "compiling the component took more than {cpu} of CPU time; use a smaller one"
            ));
        }
        if is(Signal::KILL) {
            return CompileError::Limit(
                "the compiler was killed, most likely because the machine was short of memory".to_owned(),
            );
        }
        if message.contains("has overflowed its stack") {
            return CompileError::Limit(
                "compiling the component took more stack than there is: it nests too deeply".to_owned(),
            );
        }
        let message = text::bounded(message.trim(), MESSAGE_MAX);
        CompileError::Host(format!("the compiler process ended with {status}: {message}"))
    }
}

/// Compiled code received from a compiler process that this process started. Only this file
/// constructs it.
pub(crate) struct ChildOutput(Vec<u8>);

impl ChildOutput {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

struct ChildResult {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Writes the component to the child and reads both its outputs concurrently, so that neither side
/// waits for the other, and reaps the child so that no zombie remains.
async fn converse(child: &mut Child, component: &[u8]) -> std::io::Result<ChildResult> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // If the child ends before it has read everything, its exit code gives the reason.
            let _ = stdin.write_all(component).await;
            let _ = stdin.shutdown().await;
        }
    };
    // Reading one byte more than is accepted distinguishes too much output from exactly the
    // maximum. The child's later writes fail with a broken pipe.
    let most = CODE_MAX.saturating_add(wire::HEADER_LEN).saturating_add(1) as u64;
    let ((), stdout, stderr) = tokio::join!(feed, read(stdout, most, false), read(stderr, STDERR_MAX, true));
    let (stdout, stderr) = (stdout?, stderr?);
    Ok(ChildResult { status: child.wait().await?, stdout, stderr })
}

/// Reads up to `most` bytes. If `drain` is set, reads on to the end and discards the rest.
async fn read(stream: Option<impl AsyncRead + Unpin>, most: u64, drain: bool) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut stream) = stream else { return Ok(bytes) };
    (&mut stream).take(most).read_to_end(&mut bytes).await?;
    if drain {
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

async fn end(mut child: Child) {
    // An error means that the child has already ended.
    let _ = child.kill().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Returns a shell script that replaces the program and gets the same arguments.
    fn script(body: &str) -> (tempfile::TempDir, ChildCompiler) {
        let folder = tempfile::tempdir().unwrap();
        let exe = crate::compile::script_for_test(folder.path(), body);
        let compiler = ChildCompiler { wall: Duration::from_secs(60), ..ChildCompiler::new(exe) };
        (folder, compiler)
    }

    fn engine() -> EngineHash {
        EngineHash::of(&wasmtime::Engine::default())
    }

    async fn run(body: &str) -> Result<Vec<u8>, CompileError> {
        let (_folder, compiler) = script(body);
        compiler.compile(&engine(), Bytes::from_static(b"component")).await.map(ChildOutput::into_bytes)
    }

    #[tokio::test]
    async fn every_end_of_the_child_is_told_apart() {
        let invalid = run("printf 'bad \\033[2J name' >&2; exit 10").await.unwrap_err();
        assert_eq!(invalid, CompileError::Invalid("is not valid: bad \\u{1b}[2J name; copy or build it again".into()));
        let unsupported = run("printf 'uses tail calls' >&2; exit 13").await.unwrap_err();
        assert_eq!(unsupported, CompileError::Invalid("uses tail calls".into()));
        assert!(matches!(run("exit 12").await, Err(CompileError::Limit(text)) if text.contains("2048 MiB of memory")));
        assert!(
            matches!(run("kill -XCPU $$").await, Err(CompileError::Limit(text)) if text.contains("20m of CPU time"))
        );
        assert!(matches!(run("kill -KILL $$").await, Err(CompileError::Limit(_))));
        let out_of_memory = "echo 'memory allocation of 42 bytes failed' >&2; kill -ABRT $$";
        assert!(matches!(run(out_of_memory).await, Err(CompileError::Limit(text)) if text.contains("of memory")));
        assert!(matches!(run("kill -SEGV $$").await, Err(CompileError::Host(_))));
        assert!(
            matches!(run("cat >/dev/null; exit 0").await, Err(CompileError::Host(text)) if text.contains("no whole code"))
        );
        let missing = ChildCompiler::new("/nowhere/strongroom").compile(&engine(), Bytes::new()).await;
        assert!(matches!(missing.map(|_| ()), Err(CompileError::Host(text)) if text.contains("/nowhere/strongroom")));
    }

    #[tokio::test]
    async fn child_inherits_nothing_from_this_process() {
        let open = tempfile::NamedTempFile::new().unwrap();
        let seen = run("/bin/tr '\\0' '\\n' </proc/$$/environ >&2; pwd >&2; /bin/ls -l /proc/$$/fd >&2; exit 10")
            .await
            .unwrap_err();
        let text = seen.to_string();
        // The working directory is the first output, so no environment variable was printed before
        // it.
        assert!(text.starts_with("the component is not valid: /\\u{a}"), "{text}");
        assert!(text.contains("/compiler"), "the shell's own open file is listed: {text}");
        assert!(!text.contains(open.path().to_str().unwrap()), "{text}");
    }

    #[tokio::test]
    async fn endless_stderr_of_a_child_is_discarded() {
        let line = "x".repeat(100);
        let noisy = run(&format!("i=0; while [ $i -lt 4000 ]; do echo {line} >&2; i=$((i+1)); done; exit 10")).await;
        assert!(matches!(noisy, Err(CompileError::Invalid(text)) if text.chars().count() < MESSAGE_MAX + 100));
    }

    #[tokio::test]
    async fn child_over_its_time_limit_is_killed_and_reaped() {
        let (folder, mut compiler) = script("echo $$ >\"${0%/*}/pid\"; while :; do :; done");
        compiler.wall = Duration::from_millis(500);
        let begun = Instant::now();
        let ended = compiler.compile(&engine(), Bytes::from_static(b"component")).await;
        assert!(matches!(ended.map(|_| ()), Err(CompileError::Limit(text)) if text.contains("500ms")));
        assert!(begun.elapsed() < Duration::from_secs(60));
        if let Ok(pid) = std::fs::read_to_string(folder.path().join("pid")) {
            assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists(), "neither running nor a zombie");
        }
    }
}
