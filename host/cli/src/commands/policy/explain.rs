//! `strongroom policy explain`: shows whether a policy allows a request, and why.

use jiff::Timestamp;

use super::super::failure::{Exit, Failure};
use super::super::out::{self, object};
use super::super::secret::NAME_HELP;
use super::{Explain, read};
use strongroom::ids::SecretName;
use strongroom::policy::Operation;

pub(super) fn run(args: &Explain) -> Result<Exit, Failure> {
    let operation = Operation::parse(&args.operation).ok_or_else(|| {
        let given = strongroom::escape::escape_controls(&args.operation);
        Failure::invalid(format!("unknown operation `{given}`"))
            .help("use `get`, `set`, `list`, `describe` or `delete`")
    })?;
    let name = SecretName::parse(&args.name).map_err(|error| Failure::invalid(error).help(NAME_HELP))?;
    let explanation = read(&args.file)?.explain(operation, &name, Timestamp::now());
    if args.json {
        out::json(&object! {
            operation: explanation.operation.as_str(),
            name: explanation.name.as_str(),
            allowed: explanation.allowed(),
            reason: explanation.reason.map(|reason| reason.as_str()),
            entry: explanation.rule.as_deref(),
            line: explanation.line,
            overruled: &explanation.overridden,
            stored_as: explanation.stored.as_ref().map(SecretName::as_str),
            secret_version: explanation.version.as_ref().map(|version| version.as_str()),
            max_uses: explanation.max_uses,
            expires: explanation.expires,
            would_allow: explanation.would_allow.as_deref(),
        })?;
    } else {
        out::line(&explanation)?;
    }
    Ok(if explanation.allowed() { Exit::Done } else { Exit::Refused })
}
