//! Writes starter policies: they grant nothing and show in comments what could be granted.

use super::limits::Limits;
use super::write::comment;
use strongroom_core::ids::Digest;

/// The imports of a component that a policy can grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// The component imports the secrets interface.
    pub secrets: bool,
    /// The component imports TCP.
    pub tcp: bool,
    /// The component imports environment variables.
    pub environment: bool,
}

/// Returns the text of a valid policy that is pinned to one component and grants nothing.
pub fn starter(name: &str, component: &Digest, imports: Imports) -> String {
    let limits: String = Limits::default()
        .rows()
        .into_iter()
        .map(|(limit, default)| {
            let value =
                if default.bytes().all(|byte| byte.is_ascii_digit()) { default } else { format!("\"{default}\"") };
            let line = format!("#{limit} = {value}");
            format!("{line:<26}# {}\n", description(limit))
        })
        .collect();
    let secrets = match imports.secrets {
        true => {
            "# Secrets, by the name that the component requests, each with the allowed operations: get, set, list, describe, delete.\n\
             [secrets]\n\
             #db-password = [\"get\"]\n\
             #model-key = { allow = [\"set\"], stored-as = \"prod-model-key\", max-uses = 1 }\n"
        }
        false => "# It does not import `strongroom:training/secrets`, so there is nothing to grant here.\n[secrets]\n",
    };
    let tcp = match imports.tcp {
        true => {
            "# TCP connections that it may open. It imports `wasi:sockets`; many toolchains import it without using it.\n\
             #tcp = [\"127.0.0.1:5432\"]\n"
        }
        false => "# It does not import TCP, so there is no `tcp` to grant.\n",
    };
    let environment = match imports.environment {
        true => {
            "# Environment variables that it sees; it sees no others. Do not put secrets here.\n[environment]\n#EPOCHS = \"200\"\n"
        }
        false => "# It does not import environment variables.\n[environment]\n",
    };
    format!(
        "# Policy for {}. It grants nothing yet: remove the `#` from what the component needs.\n\
         version = 1\n\
         # Applies only to this component; without this line, to any component.\n\
         component = \"{component}\"\n\n{tcp}\n{secrets}\n{environment}\n\
         # Limits of one run. These are the defaults.\n[limits]\n{limits}",
        comment(name)
    )
}

fn description(limit: &str) -> &'static str {
    match limit {
        "memory" => "linear memory",
        "time" => "wall-clock time from the first instruction to the end",
        "output-bytes" => "bytes in /output",
        "output-files" => "files and directories in /output",
        "compile-time" => "compilation, before the run starts",
        "log-bytes" => "log output; further output is dropped and counted",
        "requests" => "requested secret names, including denials",
        "secret-bytes" => "bytes of secret values written to the vault",
        _ => "metric values, tags and progress reports",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn starter_policy_is_valid_and_pinned_and_grants_nothing() {
        let digest = Digest::of(b"component");
        for bits in 0..8u8 {
            let imports = Imports { secrets: bits & 1 > 0, tcp: bits & 2 > 0, environment: bits & 4 > 0 };
            let text = starter("a\nversion = 2\n.wasm", &digest, imports);
            let policy = Policy::parse(&text, "starter").unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(policy.component(), Some(&digest));
            assert!(policy.entries().is_empty() && policy.tcp().is_empty() && policy.environment().is_empty());
            assert_eq!(policy.limits(), &Limits::default());
        }
    }

    #[test]
    fn starter_policy_without_comment_marks_is_valid() {
        let imports = Imports { secrets: true, tcp: true, environment: true };
        let text = starter("a.wasm", &Digest::of(b""), imports);
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let policy = Policy::parse(&uncommented, "starter").unwrap_or_else(|error| panic!("{error}\n{uncommented}"));
        assert_eq!((policy.entries().len(), policy.tcp().len(), policy.environment().len()), (2, 1, 1));
        assert_eq!(policy.limits(), &Limits::default());
    }
}
