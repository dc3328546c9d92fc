//! OpenCode. It may edit and run commands inside its directory unasked.

use serde_json::Value;

use super::report::{Report, add, dollars, number, text};
use super::{Args, Known, Login};

pub const KNOWN: Known = Known {
    programs: &["opencode"],
    subscription: "opencode",
    args: Args {
        edits: "run --format json",
        commands: "run --format json",
        all: "run --format json --auto",
    },
    has_no: &["--cwd"],
    needs: &[],
    variadic: &["-f", "--file"],
    is_safer_with_stdin: true,
    login: Login {
        file: Some(("XDG_DATA_HOME", ".local/share", "opencode/auth.json")),
        variables: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY"],
    },
    is_own,
    read,
};

fn is_own(line: &Value) -> bool {
    line.get("sessionID").is_some_and(Value::is_string)
        && (line.get("part").is_some() || line.get("error").is_some())
}

fn read(line: &Value, report: &mut Report) {
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
            // Told for each step.
            let usage = &mut report.usage;
            add(&mut usage.turns, Some(1));
            add(&mut usage.input_tokens, number(part, "/tokens/input"));
            add(&mut usage.output_tokens, number(part, "/tokens/output"));
            add(
                &mut usage.cache_read_tokens,
                number(part, "/tokens/cache/read"),
            );
            add(&mut usage.cost_micros, dollars(part.get("cost")));
        }
        Some("error") => {
            let error = line.get("error").unwrap_or(&Value::Null);
            let message = error.pointer("/data/message").and_then(Value::as_str);
            report.failed(
                message
                    .or_else(|| text(error, "name"))
                    .unwrap_or("failed, and did not say why"),
            );
            // The message is the provider's, and may leave out what its answer says: `usage_limit_reached`.
            report.details(error.pointer("/data/responseBody").and_then(Value::as_str));
        }
        _ => {}
    }
}
