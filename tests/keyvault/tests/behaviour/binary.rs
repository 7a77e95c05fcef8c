//! The server as a program.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_keyvault-server"))
}

#[test]
fn program_serves_until_its_input_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = binary().arg("--dir").arg(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let info: Value = serde_json::from_str(&line).unwrap();
    for name in ["vault", "authority", "metadata", "admin"] {
        let url = info[name].as_str().unwrap();
        let address = url.rsplit('/').next().unwrap().replace("localhost", "127.0.0.1");
        std::net::TcpStream::connect(address).unwrap();
    }
    for (name, mode) in [("ca-file", 0o644), ("client-secret-file", 0o600), ("federated-token-file", 0o600)] {
        let path = info[name].as_str().unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{name}");
        assert!(!line.contains(&std::fs::read_to_string(path).unwrap()), "{name}");
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn invalid_arguments_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), "somebody's").unwrap();
    let dir = dir.path().to_str().unwrap();
    for (arguments, expected) in [
        (vec![], "`--dir` is missing"),
        (vec!["--dir"], "`--dir` has no value"),
        (vec!["--dri", "x"], "`--dri` is not known"),
        (vec!["--dir", "x", "--seed", "y"], "`y` is no number"),
        (vec!["--dir", dir], "ca.pem`: File exists"),
    ] {
        let output = binary().args(&arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.starts_with("error: ") && message.contains(expected) && message.contains("\nhelp: usage: "),
            "{message}"
        );
        assert!(output.stdout.is_empty());
    }
}
