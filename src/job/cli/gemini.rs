//! Gemini CLI. `-p ''` makes it run once; it puts standard input before that empty prompt.

use serde_json::Value;

use super::report::{CliReport, number, text};
use super::{Known, UsualArgs};

pub const KNOWN: Known = Known {
    program: "gemini",
    subscription: "gemini",
    args: UsualArgs {
        edits: "--skip-trust --approval-mode auto_edit -o stream-json -p ''",
        commands: "--skip-trust -y -o stream-json -p ''",
        all: "--skip-trust -y -o stream-json -p ''",
    },
    has_no: &["--cwd"],
    is_own,
    read,
};

fn is_own(line: &Value) -> bool {
    match text(line, "type") {
        Some("init") => line.get("session_id").is_some(),
        // `-o json`: one object.
        None => {
            let has = |key| line.get(key).is_some();
            has("session_id") && (has("response") || has("error"))
        }
        _ => false,
    }
}

fn read(line: &Value, report: &mut CliReport) {
    report.session(text(line, "session_id"));
    match text(line, "type") {
        Some("message") if text(line, "role") == Some("assistant") => {
            report.said_more(text(line, "content"))
        }
        Some("tool_use") => report.tool(text(line, "tool_name"), line.get("parameters")),
        Some("tool_result") => report.next_message(),
        Some("error") => report.complained(text(line, "message").unwrap_or_default()),
        Some("result") => {
            match text(line, "status") {
                Some("error") => failed(line, report),
                _ => report.ended_well(),
            }
            report.last_said_is_final();
            let usage = &mut report.usage;
            usage.input_tokens = number(line, "/stats/input_tokens");
            usage.output_tokens = number(line, "/stats/output_tokens");
            usage.cache_read_tokens = number(line, "/stats/cached");
        }
        None => {
            match line.get("error") {
                Some(_) => failed(line, report),
                None => report.ended_well(),
            }
            report.final_message(text(line, "response"));
        }
        _ => {}
    }
}

fn failed(line: &Value, report: &mut CliReport) {
    let error = line.get("error").unwrap_or(&Value::Null);
    report.failed(text(error, "message").unwrap_or("failed, and did not say why"));
    // Such as `TerminalQuotaError`.
    report.details(text(error, "type"));
}
