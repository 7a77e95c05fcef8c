//! Runs a child of a build: in a process group of its own, with bounded output, until it ends, the
//! time is over, or the build is cancelled.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// The most bytes of a line of output.
const LINE_MAX: u64 = 4 * 1024 * 1024;

/// How much of the end of a stream an error shows, in bytes.
const TAIL_MAX: usize = 2_000;

/// A program to run, with exactly this environment.
pub(crate) fn command(program: &Path, environment: &[(OsString, OsString)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("PYTHONSAFEPATH", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Kills the whole process group of a child when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails if all processes of the group have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// How a child ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The end of its output on standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// Returns the exit status as text.
    pub(crate) fn status(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        }
    }
}

/// Runs a command to its end, and passes each line of its standard output to `line`. When the
/// returned future is dropped, the command and all its children are killed.
///
/// # Errors
/// The command could not be started, or its output has a line of more than 4 MiB.
pub(crate) async fn run(mut command: Command, mut line: impl FnMut(&[u8])) -> io::Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    // Open until the child has ended: its end tells the child that this process is gone.
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((), stderr, status) = tokio::try_join!(each_line(stdout, &mut line), tail(stderr), child.wait())?;
    drop((stdin, group));
    Ok(Ended { status, stderr })
}

async fn each_line(stream: Option<impl AsyncRead + Unpin>, line: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let mut stream = BufReader::new(stream);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let read = (&mut stream).take(LINE_MAX).read_until(b'\n', &mut buffer).await?;
        match buffer.strip_suffix(b"\n") {
            Some(text) => line(text),
            None if read as u64 == LINE_MAX => return Err(io::Error::other("a line of its output is too long")),
            None if read == 0 => return Ok(()),
            None => line(&buffer),
        }
    }
}

async fn tail(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let (mut tail, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await?;
        tail.extend_from_slice(buffer.get(..read).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(TAIL_MAX));
        if read == 0 {
            return Ok(String::from_utf8_lossy(&tail).trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = command(Path::new("/bin/sh"), &[("GIVEN".into(), "given".into())]);
        shell.args(["-c", script]);
        shell
    }

    #[tokio::test]
    async fn child_gets_only_the_given_environment() {
        let mut lines = Vec::new();
        let ended = run(shell("echo $GIVEN; echo ${HOME-none}; echo problem >&2; exit 3"), |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        });
        let ended = ended.await.unwrap();
        assert_eq!(lines, ["given", "none"]);
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(3), "problem"));
        assert_eq!(ended.status(), "exit code 3");
        assert_eq!(run(shell("kill -9 $$"), |_| ()).await.unwrap().status(), "signal 9");
    }

    #[tokio::test]
    async fn dropped_run_kills_the_child_and_its_children() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let slow = shell("sleep 600 & echo $!; echo $$; wait");
        let running = run(slow, |line| sender.send(String::from_utf8(line.to_vec()).unwrap()).unwrap());
        let two_lines = async { [receiver.recv().await.unwrap(), receiver.recv().await.unwrap()] };
        let pids = tokio::select! {
            _ = running => panic!("the command ended"),
            pids = two_lines => pids,
        };
        for pid in pids {
            let stat = format!("/proc/{pid}/stat");
            // A killed process stays as a zombie until its parent has waited for it.
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn endless_output_is_bounded() {
        let failed = run(shell("tr '\\0' x </dev/zero"), |_| ()).await;
        assert!(failed.is_err_and(|error| error.to_string().contains("too long")));
        let ended = run(shell("head -c 100000 /dev/zero | tr '\\0' x >&2"), |_| ()).await.unwrap();
        assert_eq!(ended.stderr.len(), TAIL_MAX);
    }
}
