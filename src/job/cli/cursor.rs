//! Cursor's CLI. It takes its prompt as an argument only. Its lines are those of Claude Code but for its tools.

use serde_json::Value;

use super::report::{Report, text};
use super::{Args, Known, Login, claude};

const FORCED: &str = "--trust --force --output-format stream-json -p -- {prompt}";

pub const KNOWN: Known = Known {
    programs: &["cursor-agent"],
    subscription: "cursor",
    args: Args {
        edits: FORCED,
        commands: FORCED,
        all: FORCED,
    },
    has_no: &[],
    needs: &[],
    variadic: &[],
    is_safer_with_stdin: false,
    login: Login {
        file: Some(("XDG_CONFIG_HOME", ".config", "cursor/auth.json")),
        variables: &["CURSOR_API_KEY"],
    },
    is_own: claude::is_own,
    read: claude::read,
};

/// A line of its own: `{"type": "tool_call", "subtype": "started", "tool_call": {"readToolCall": {"args": {"path": …}}}}`.
pub fn tool_call(line: &Value, report: &mut Report) {
    let calls = line.get("tool_call").and_then(Value::as_object);
    if let (Some("started"), Some((name, call))) = (
        text(line, "subtype"),
        calls.and_then(|calls| calls.iter().next()),
    ) {
        report.tool(
            Some(name.strip_suffix("ToolCall").unwrap_or(name)),
            call.get("args"),
        );
    }
}
