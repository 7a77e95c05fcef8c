//! The shape of a policy for editors.

/// A JSON Schema of policies: `docs/policy.schema.json`. It keeps to words that drafts 4 to 7 share, because that is what the editors' TOML
/// servers understand; what it accepts may still be refused for what a schema cannot say (`docs/policy.md` lists it).
pub const SCHEMA: &str = include_str!("schema.json");
