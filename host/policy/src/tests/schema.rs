//! The JSON Schema for editors agrees with the parser, checked by an independent validator.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value as Json;

use super::documentation::blocks;
use super::*;

/// The compiled schema.
struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("policy.schema.json", serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let index = compiler.compile("policy.schema.json", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, index }
    }

    /// Validates a policy as an editor would.
    fn check(&self, text: &str) -> Result<(), String> {
        let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let document = json(&toml::Value::Table(table));
        self.schemas.validate(&document, self.index).map_err(|error| format!("{error:#}"))
    }
}

/// Converts TOML as editors do: dates and times become strings.
fn json(value: &toml::Value) -> Json {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => Json::from(*number),
        toml::Value::Boolean(value) => (*value).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

#[test]
fn documented_schema_is_current() {
    let page = include_str!("../../../../docs/policy.schema.json");
    assert!(page == SCHEMA, "copy host/policy/src/schema.json to docs/policy.schema.json");
}

#[test]
fn every_schema_property_has_a_description() {
    fn undescribed(at: &str, schema: &Json, found: &mut Vec<String>) {
        for inner in ["properties", "patternProperties"] {
            for (name, property) in schema[inner].as_object().into_iter().flatten() {
                if property.get("description").is_none() && property.get("$ref").is_none() {
                    found.push(format!("{at}.{name}"));
                }
                undescribed(&format!("{at}.{name}"), property, found);
            }
        }
    }
    let schema: Json = serde_json::from_str(SCHEMA).unwrap();
    let mut found = Vec::new();
    undescribed("", &schema, &mut found);
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        undescribed(name, definition, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn schema_defaults_and_bounds_match_the_parser() {
    let schema: Json = serde_json::from_str(SCHEMA).unwrap();
    let limits = schema["properties"]["limits"]["properties"].as_object().unwrap();
    let rows = Limits::default().rows();
    assert_eq!(limits.len(), rows.len());
    for (name, default) in rows {
        let said = &limits[name]["default"];
        assert_eq!(said.as_str().map_or_else(|| said.to_string(), str::to_owned), default, "{name}");
    }
    assert_eq!(schema["properties"]["tcp"]["maxItems"], TARGETS_MAX);
    assert_eq!(schema["properties"]["secrets"]["maxProperties"], ENTRIES_MAX);
    let operations: Vec<&str> = Operation::ALL.into_iter().map(Operation::as_str).collect();
    assert_eq!(schema["definitions"]["operations"]["items"]["enum"], serde_json::json!(operations));
}

#[test]
fn published_policies_match_the_schema() {
    let validator = Validator::new();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-example/policies");
    let files =
        std::fs::read_dir(examples).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let starters = (0..8u8).map(|bits| {
        let imports = Imports { secrets: bits & 1 > 0, tcp: bits & 2 > 0, environment: bits & 4 > 0 };
        starter("x.wasm", &Digest::of(b""), imports)
    });
    let suggested = include_str!("../suggest/suggestion.toml").to_owned();
    let all: Vec<String> =
        blocks("toml").into_iter().chain(files).chain(starters).chain([suggested, FULL.to_owned()]).collect();
    assert!(all.len() > 15);
    for text in all {
        Policy::parse(&text, "p").unwrap();
        validator.check(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn schema_and_parser_refuse_the_same_policies() {
    let validator = Validator::new();
    for wrong in [
        "",
        "version = 2",
        "version = \"1\"",
        "version = 1\nsecret = 1",
        "version = 1\nsecrets = []",
        "version = 1\ncomponent = \"sha256:abc\"",
        "version = 1\ntcp = \"127.0.0.1:1\"",
        "version = 1\ntcp = [5432]",
        "version = 1\ntcp = [\"127.0.0.1\"]",
        "version = 1\ntcp = [\"127.0.0.1:0\"]",
        "version = 1\ntcp = [\"127.0.0.1:65536\"]",
        "version = 1\ntcp = [\"a:1\", \"a:1\"]",
        "version = 1\n[secrets]\n\"*\" = [\"get\"]",
        "version = 1\n[secrets]\n\"a*b\" = [\"get\"]",
        "version = 1\n[secrets]\ndb_password = [\"get\"]",
        "version = 1\n[secrets]\na = [\"read\"]",
        "version = 1\n[secrets]\na = [\"get\", \"get\"]",
        "version = 1\n[secrets]\na = \"hunter2\"",
        "version = 1\n[secrets]\na = {}",
        "version = 1\n[secrets]\na = { allow = [], max-uses = 0 }",
        "version = 1\n[secrets]\na = { allow = [], max_uses = 1 }",
        "version = 1\n[secrets]\na = { allow = [], expires = 2030-12-01 }",
        "version = 1\n[secrets]\na = { allow = [], expires = 2030-12-01T00:00:00 }",
        "version = 1\n[secrets]\n\"a-*\" = { allow = [], stored-as = \"b\" }",
        "version = 1\n[secrets]\n\"a-*\" = { allow = [], secret-version = \"1\" }",
        "version = 1\n[secrets]\na = { allow = [\"set\"], secret-version = \"1\" }",
        "version = 1\n[secrets]\na = { allow = [\"get\"], stored-as = \"b/c\" }",
        "version = 1\n[environment]\nA = 1",
        "version = 1\n[environment]\n\"A=B\" = \"1\"",
        "version = 1\n[limits]\nmemory = \"2GB\"",
        "version = 1\n[limits]\nmemory = \"63KiB\"",
        "version = 1\n[limits]\nmemory = 5",
        "version = 1\n[limits]\ntime = \"1h30m\"",
        "version = 1\n[limits]\ntime = \"366d\"",
        "version = 1\n[limits]\ntime = \"0s\"",
        "version = 1\n[limits]\nrequests = -1",
        "version = 1\n[limits]\nrequests = \"10\"",
        "version = 1\n[limits]\nthreads = 4",
    ] {
        assert!(Policy::parse(wrong, "p").is_err(), "the parser accepts:\n{wrong}");
        assert!(validator.check(wrong).is_err(), "the schema accepts:\n{wrong}");
    }
    let amounts = ["64KiB", "65536B", "1MiB", "1GiB", "999999999GiB"].map(|size| format!("memory = \"{size}\""));
    let times = ["1ms", "31536000000ms", "31536000s", "525600m", "8760h", "365d", "90s"]
        .map(|time| format!("time = \"{time}\""));
    for right in amounts.into_iter().chain(times) {
        let text = format!("version = 1\n[limits]\n{right}");
        Policy::parse(&text, "p").unwrap();
        validator.check(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

/// Values of fields, valid more often than not.
fn literal() -> impl Strategy<Value = String> {
    let words = [
        "\"get\"",
        "[]",
        "[\"get\"]",
        "[\"get\", \"list\"]",
        "[\"set\"]",
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "1.5",
        "true",
        "\"1h\"",
        "\"2GiB\"",
        "\"64KiB\"",
        "\"65535B\"",
        "\"65536B\"",
        "\"0B\"",
        "\"1ms\"",
        "\"0ms\"",
        "\"365d\"",
        "\"8761h\"",
        "\"zz\"",
        "\"z/\"",
        "2030-12-01T00:00:00Z",
        "2030-12-01T00:00:00+01:00",
        "2030-12-01T00:00:00",
        "2030-12-01",
        "12:00:00",
    ];
    prop_oneof![6 => select(words.to_vec()).prop_map(str::to_owned), 1 => "\"[0-9]{1,20}(B|KiB|MiB|GiB|ms|s|m|h|d)\""]
}

fn field(names: &'static [&'static str]) -> impl Strategy<Value = (String, String)> {
    (select(names.to_vec()), literal()).prop_map(|(name, value)| (name.to_owned(), value))
}

/// Formats an inline table, `{ a = 1, b = 2 }`, without duplicate names.
fn inline(fields: Vec<(String, String)>) -> String {
    let fields: BTreeMap<String, String> = fields.into_iter().collect();
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{{ {} }}", fields.join(", "))
}

fn entry() -> impl Strategy<Value = (String, String)> {
    let key = prop_oneof![4 => "[ab-]{1,3}", 2 => "[ab-]{1,3}\\*", 1 => "[ab*_.]{0,4}", 1 => "a{125,128}\\*?"];
    let fields = field(&["allow", "allow", "max-uses", "expires", "stored-as", "secret-version", "max_uses"]);
    let table = prop::collection::vec(fields, 0..4).prop_map(inline);
    (key, prop_oneof![literal(), table])
}

proptest! {
    /// The parser accepts what the schema accepts, except for rules that a schema cannot express:
    /// names that differ only in case, two entries for one secret, a quoted date, an address that
    /// is always refused, and an invalid host name.
    // promise: The parser accepts every policy that the JSON schema for editors accepts.
    #[test]
    fn policy_accepted_by_the_schema_parses(
        entries in prop::collection::btree_map(entry().prop_map(|(key, _)| key), entry().prop_map(|(_, value)| value), 0..4),
        limits in prop::collection::vec(
            field(&["memory", "time", "output-bytes", "output-files", "compile-time", "log-bytes", "requests", "secret-bytes", "metrics", "x"]), 0..4),
        targets in prop::collection::btree_set("(127\\.0\\.0\\.1|\\[::1\\]|db|db\\.example|):[0-9]{1,6}", 0..3),
    ) {
        let targets: Vec<String> = targets.into_iter().map(|target| format!("\"{target}\"")).collect();
        let entries: String = entries.into_iter().map(|(key, value)| format!("\"{key}\" = {value}\n")).collect();
        let limits = inline(limits);
        let text = format!("version = 1\ntcp = [{}]\nlimits = {limits}\n[secrets]\n{entries}", targets.join(", "));
        // Two aliases of one secret would be an error that the schema cannot express.
        prop_assume!(text.matches("stored-as = \"zz\"").count() < 2);
        thread_local!(static VALIDATOR: Validator = Validator::new());
        let accepted = VALIDATOR.with(|validator| validator.check(&text)).is_ok();
        let parsed = Policy::parse(&text, "p");
        prop_assert!(!accepted || parsed.is_ok(), "{}\n{}", parsed.unwrap_err(), text);
        // The schema accepts what the parser accepts, except for amounts with leading zeros or many
        // digits.
        let odd = text.contains("\"0") || text.bytes().collect::<Vec<_>>().windows(10).any(|part| part.iter().all(u8::is_ascii_digit));
        let odd = odd || text.contains(":0");
        prop_assert!(odd || accepted || parsed.is_err(), "the schema refuses:\n{}", text);
    }
}
