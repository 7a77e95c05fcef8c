//! A PostgreSQL server with the example's dataset, in a temporary folder and on a free port.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A running server. It serves until its standard input ends, so it stops when this is dropped or
/// this process is killed.
pub(crate) struct Postgres {
    child: Child,
    folder: TempDir,
    /// The address on which it listens.
    pub(crate) address: String,
    /// A role with read access to the table and nothing else.
    pub(crate) user: String,
    pub(crate) password: String,
    socket: PathBuf,
    psql: PathBuf,
}

impl Postgres {
    /// Starts a server, loads the dataset, and returns when the server is ready.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = super::project().join("scripts/postgres-server.sh");
        // A file, so that the panic below can show why a server did not start.
        let log = folder.path().join("log");
        let mut child = Command::new(script)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).expect("a file can be made"))
            .spawn()
            .expect("the script starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines: Vec<String> = stdout.lines().map_while(Result::ok).take_while(|line| line != "ready").collect();
        let value = |word: &str| {
            let value = lines.iter().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
            value.unwrap_or_else(|| panic!("no PostgreSQL: {}", read(&log))).to_owned()
        };
        Self {
            address: value("address"),
            user: read(&folder.path().join("user")),
            password: read(&folder.path().join("password")),
            socket: value("socket").into(),
            psql: Path::new(&value("bindir")).join("psql"),
            child,
            folder,
        }
    }

    /// Returns the folder with the files that hold the role's name and password.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs SQL as the superuser and returns its undecorated output.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let (_, port) = self.address.rsplit_once(':').expect("an address has a port");
        let mut command = Command::new(&self.psql);
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
        command.args(["--port", port, "--username=postgres", "--dbname=training", "--command", sql]);
        let output = command.arg("--host").arg(&self.socket).output().expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Replaces the authentication rules of all other roles, and returns when they are in effect.
    pub(crate) fn admit(&self, rules: &str) {
        let file = self.sql("SHOW hba_file");
        let rules = format!("local all postgres peer map=caller\n{rules}\n");
        std::fs::write(file, rules).expect("the rules can be written");
        // A connection reports when the server had last read its files as it accepted that
        // connection.
        let loaded = || self.sql("SELECT pg_conf_load_time()");
        let before = loaded();
        self.sql("SELECT pg_reload_conf()");
        for _ in 0..1000 {
            if loaded() != before {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not read its rules again");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The script stops the server by its process ID and waits for it.
        drop(self.child.stdin.take());
        let ended = self.child.wait();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|status| status.success()), "the server did not end well");
            assert!(!self.socket.exists(), "the server's folder is still there");
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
