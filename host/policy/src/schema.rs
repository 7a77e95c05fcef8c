//! The JSON Schema of policies, for editors.

/// The JSON Schema of policies, the same as `docs/policy.schema.json`. It uses only keywords that
/// drafts 4 to 7 share, because the TOML servers of editors understand those. A schema cannot
/// express every rule, so a policy that it accepts may still be refused; `docs/policy.md` lists
/// these rules.
pub const SCHEMA: &str = include_str!("schema.json");
