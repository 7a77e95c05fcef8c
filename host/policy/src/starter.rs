//! A policy to begin with: it grants nothing, and shows in comments what could be granted.

use super::limits::Limits;
use super::write::comment;
use strongroom_core::ids::Digest;

/// What a component imports, as far as a policy can grant it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// The secrets interface.
    pub secrets: bool,
    /// TCP.
    pub tcp: bool,
    /// Environment variables.
    pub environment: bool,
}

/// The text of a policy for one component. It parses, it is pinned, and it grants nothing.
pub fn starter(name: &str, component: &Digest, asks: Asks) -> String {
    let limits: String = Limits::default()
        .rows()
        .into_iter()
        .map(|(limit, default)| {
            let value =
                if default.bytes().all(|byte| byte.is_ascii_digit()) { default } else { format!("\"{default}\"") };
            let line = format!("#{limit} = {value}");
            format!("{line:<26}# {}\n", about(limit))
        })
        .collect();
    let secrets = match asks.secrets {
        true => {
            "# Secrets, by the name that the component asks for, each with what it may do: get, set, list, describe, delete.\n\
             [secrets]\n\
             #db-password = [\"get\"]\n\
             #model-key = { allow = [\"set\"], stored-as = \"prod-model-key\", max-uses = 1 }\n"
        }
        false => "# It does not import `strongroom:training/secrets`, so there is nothing to grant here.\n[secrets]\n",
    };
    let tcp = match asks.tcp {
        true => {
            "# TCP connections that it may open. It imports `wasi:sockets`; many toolchains import it without using it.\n\
             #tcp = [\"127.0.0.1:5432\"]\n"
        }
        false => "# It does not import TCP, so there is no `tcp` to grant.\n",
    };
    let environment = match asks.environment {
        true => {
            "# Environment variables that it sees; it sees no others. No place for secrets.\n[environment]\n#EPOCHS = \"200\"\n"
        }
        false => "# It does not import environment variables.\n[environment]\n",
    };
    format!(
        "# A policy for {}. It grants nothing yet: take the `#` from what it is to have.\n\
         version = 1\n\
         # This component alone; without the line the policy serves any.\n\
         component = \"{component}\"\n\n{tcp}\n{secrets}\n{environment}\n\
         # What one run may use at most. These are the defaults.\n[limits]\n{limits}",
        comment(name)
    )
}

fn about(limit: &str) -> &'static str {
    match limit {
        "memory" => "linear memory; beyond it the run stops",
        "time" => "from the first instruction to the end, waiting included",
        "output-bytes" => "in /output",
        "output-files" => "files and folders in /output",
        "compile-time" => "before it begins",
        "log-bytes" => "printed text; more is dropped and counted",
        "requests" => "names of secrets asked for, denials included",
        _ => "values of metrics, and progress reports",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn a_starter_policy_is_valid_pinned_and_grants_nothing() {
        let digest = Digest::of(b"component");
        for bits in 0..8u8 {
            let asks = Asks { secrets: bits & 1 > 0, tcp: bits & 2 > 0, environment: bits & 4 > 0 };
            let text = starter("a\nversion = 2\n.wasm", &digest, asks);
            let policy = Policy::parse(&text, "starter").unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(policy.component(), Some(&digest));
            assert!(policy.entries().is_empty() && policy.tcp().is_empty() && policy.environment().is_empty());
            assert_eq!(policy.limits(), &Limits::default());
        }
    }

    #[test]
    fn what_is_shown_in_comments_is_valid_too() {
        let asks = Asks { secrets: true, tcp: true, environment: true };
        let text = starter("a.wasm", &Digest::of(b""), asks);
        let mended: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let policy = Policy::parse(&mended, "starter").unwrap_or_else(|error| panic!("{error}\n{mended}"));
        assert_eq!((policy.entries().len(), policy.tcp().len(), policy.environment().len()), (2, 1, 1));
        assert_eq!(policy.limits(), &Limits::default());
    }
}
