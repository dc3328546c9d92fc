//! OpenCode. It edits files and runs commands inside its directory without asking.

use serde_json::Value;

use super::report::{CliReport, add, dollars, number, text};
use super::{Known, UsualArgs};

pub const KNOWN: Known = Known {
    program: "opencode",
    subscription: "opencode",
    args: UsualArgs {
        edits: "run --format json",
        commands: "run --format json",
        all: "run --format json --auto",
    },
    has_no: &["--cwd"],
    is_own,
    read,
};

fn is_own(line: &Value) -> bool {
    line.get("sessionID").is_some_and(Value::is_string)
        && (line.get("part").is_some() || line.get("error").is_some())
}

fn read(line: &Value, report: &mut CliReport) {
    report.session(text(line, "sessionID"));
    let part = line.get("part").unwrap_or(&Value::Null);
    match text(line, "type") {
        Some("tool_use") => report.tool(text(part, "tool"), part.pointer("/state/input")),
        Some("text") => report.said(text(part, "text")),
        Some("step_finish") => {
            report.ended_well();
            if text(part, "reason") != Some("tool-calls") {
                report.last_said_is_final();
            }
            // The figures are those of one step.
            let usage = &mut report.usage;
            add(&mut usage.turns, Some(1));
            add(&mut usage.input_tokens, number(part, "/tokens/input"));
            add(&mut usage.output_tokens, number(part, "/tokens/output"));
            let cached = number(part, "/tokens/cache/read");
            add(&mut usage.cache_read_tokens, cached);
            add(&mut usage.cost_micros, dollars(part.get("cost")));
        }
        Some("error") => {
            let error = line.get("error").unwrap_or(&Value::Null);
            let message = error.pointer("/data/message").and_then(Value::as_str);
            let message = message.or_else(|| text(error, "name"));
            report.failed(message.unwrap_or("failed, and did not say why"));
            // The message may leave out what the provider's answer says, such as `usage_limit_reached`.
            report.details(error.pointer("/data/responseBody").and_then(Value::as_str));
        }
        _ => {}
    }
}
