//! `keyvault-server --dir DIR`: the server as a program, for tests in other languages or other
//! processes. It prints one line of JSON and serves until its standard input ends.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keyvault_server::{Options, Server};
use serde_json::json;

const USAGE: &str = "usage: keyvault-server --dir DIR [--name NAME]... [--resource URL] [--seed NUMBER]";

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)).and_then(|(dir, options)| serve(&dir, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\nhelp: {USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut args: impl Iterator<Item = String>) -> io::Result<(PathBuf, Options)> {
    let (mut dir, mut options) = (None, Options::default());
    while let Some(argument) = args.next() {
        let value = args.next().ok_or_else(|| io::Error::other(format!("`{argument}` has no value")))?;
        match argument.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--name" => options.names.push(value),
            "--resource" => options.resource = value,
            "--seed" => {
                options.seed = value.parse().map_err(|_| io::Error::other(format!("`{value}` is no number")))?
            }
            _ => return Err(io::Error::other(format!("`{argument}` is not known"))),
        }
    }
    Ok((dir.ok_or_else(|| io::Error::other("`--dir` is missing"))?, options))
}

fn serve(dir: &Path, options: Options) -> io::Result<()> {
    let server = Server::start(options)?;
    let client = server.client();
    let (certificate, secret, federated) = (dir.join("ca.pem"), dir.join("client-secret"), dir.join("federated-token"));
    write(&certificate, 0o644, server.authority_certificate())?;
    write(&secret, 0o600, &client.secret)?;
    write(&federated, 0o600, &server.federated_token()?)?;
    let (user_client, user_object, user_resource) = server.user_assigned();
    let line = json!({
        "vault": server.vault_url(), "authority": server.authority_url(), "metadata": server.metadata_url(), "admin": server.admin_url(),
        "ca-file": certificate, "tenant": server.tenant(), "client-id": client.id, "client-secret-file": secret,
        "federated-token-file": federated,
        "user-assigned": { "client-id": user_client, "object-id": user_object, "resource-id": user_resource },
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    drop(out);
    let mut rest = [0; 1024];
    while io::stdin().read(&mut rest)? > 0 {}
    Ok(())
}

/// Writes a new file, so that its mode is the given one and no link is followed.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot write `{}`: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(named)?;
    file.write_all(text.as_bytes()).map_err(named)
}
