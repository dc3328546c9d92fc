//! The contract of the protocol, `contrib/protocol`, as the tests hold it against what they see: the frames of either
//! side in either dialect, and the answers to downloads.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;
use wf0_agent::domain::message::Dialect;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Agent,
    Backend,
}

/// Each schema: its file, and what is in it.
pub static FILES: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
    let files = [
        (
            "ticket",
            include_str!("../../contrib/protocol/ticket.schema.json"),
        ),
        (
            "hub",
            include_str!("../../contrib/protocol/hub.schema.json"),
        ),
        (
            "http",
            include_str!("../../contrib/protocol/http.schema.json"),
        ),
    ];
    let parsed = |(name, text)| {
        (
            name,
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}")),
        )
    };
    files.map(parsed).into()
});

/// Compiled once, for that takes longer than all the frames of a test.
static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::compile);

struct Contract {
    schemas: Schemas,
    /// By `file#definition`.
    definitions: BTreeMap<String, SchemaIndex>,
}

impl Contract {
    fn compile() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        for file in FILES.values() {
            compiler
                .add_resource(id_of(file), file.clone())
                .unwrap_or_else(|e| panic!("{e:#}"));
        }
        let mut definitions = BTreeMap::new();
        for (name, file) in FILES.iter() {
            for definition in file["$defs"].as_object().expect("definitions").keys() {
                let location = format!("{}#/$defs/{definition}", id_of(file));
                let compiled = compiler
                    .compile(&location, &mut schemas)
                    .unwrap_or_else(|e| panic!("{e:#}"));
                definitions.insert(format!("{name}#{definition}"), compiled);
            }
        }
        Self {
            schemas,
            definitions,
        }
    }
}

fn id_of(file: &Value) -> &str {
    file["$id"].as_str().expect("an $id")
}

/// Whether `value` is what that definition says; else the rule that it breaks.
pub fn check(file: &str, definition: &str, value: &Value) -> Result<(), String> {
    let contract = &*CONTRACT;
    let compiled = contract.definitions[&format!("{file}#{definition}")];
    contract
        .schemas
        .validate(value, compiled)
        .map_err(|e| complaint(value, e))
}

/// Whether a frame is one that this side may send: the definition of its type, and no other, has the word.
pub fn check_frame(dialect: Dialect, side: Side, frame: &Value) -> Result<(), String> {
    let kind = frame
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match kinds(dialect, side)
        .into_iter()
        .find(|(own, _)| own == kind)
    {
        Some((_, definition)) => check(dialect.name(), &definition, frame),
        None => Err(complaint(
            frame,
            format!("{kind:?} is no type that this side sends in this dialect"),
        )),
    }
    .map_err(|why| {
        format!(
            "against the {} dialect, {side:?}, {kind:?}: {why}",
            dialect.name()
        )
    })
}

/// The dialect that has such a frame: no type is in both.
pub fn dialect_of(frame: &Value) -> Dialect {
    let is_ticket = frame
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.contains('.'));
    if is_ticket {
        Dialect::Ticket
    } else {
        Dialect::Hub
    }
}

/// Each type that this side sends, and its definition.
pub fn kinds(dialect: Dialect, side: Side) -> Vec<(String, String)> {
    let definitions = &FILES[dialect.name()]["$defs"];
    let referred = |reference: &Value| {
        let definition = reference["$ref"]
            .as_str()
            .and_then(|to| to.strip_prefix("#/$defs/"))
            .expect("a definition");
        // What has two forms has its type in each.
        let own = &definitions[definition];
        let form = own["then"]["$ref"]
            .as_str()
            .and_then(|to| to.strip_prefix("#/$defs/"));
        let kind = &form.map_or(own, |form| &definitions[form])["properties"]["type"]["const"];
        (
            kind.as_str().expect("a type").to_owned(),
            definition.to_owned(),
        )
    };
    definitions[union(side)]["oneOf"]
        .as_array()
        .expect("a union")
        .iter()
        .map(referred)
        .collect()
}

/// The definition of all that this side sends.
pub fn union(side: Side) -> &'static str {
    match side {
        Side::Agent => "FromAgent",
        Side::Backend => "FromBackend",
    }
}

fn complaint(value: &Value, rule: impl Display) -> String {
    let shown: String = value.to_string().chars().take(2000).collect();
    format!("{rule}\nin {shown}")
}
