//! Claude Code and Cursor's CLI. Both print the same lines, except those about tools. Claude Code prints errors to
//! standard output. Lines of the type `user` hold the results of tools.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::Known;
use super::report::{CliReport, dollars, list, number, text};
use crate::domain::quota::Exceeded;

pub const CLAUDE: Known = Known {
    program: "claude",
    subscription: "claude-code",
    edits: "-p --output-format stream-json --verbose --permission-mode acceptEdits",
    // `--allowedTools` comes last, because it takes every word that follows.
    commands: "-p --output-format stream-json --verbose --permission-mode acceptEdits --allowedTools Bash",
    all: "-p --output-format stream-json --verbose --permission-mode bypassPermissions",
    has_no_cwd: true,
    is_own,
    read,
};

const FORCED: &str = "--trust --force --output-format stream-json -p -- {prompt}";

/// Cursor's CLI takes its prompt only as an argument.
pub const CURSOR: Known = Known {
    program: "cursor-agent",
    subscription: "cursor",
    edits: FORCED,
    commands: FORCED,
    all: FORCED,
    has_no_cwd: false,
    is_own,
    read,
};

fn is_own(line: &Value) -> bool {
    match text(line, "type") {
        Some("system") => line.get("session_id").is_some(),
        Some("rate_limit_event") => line.get("rate_limit_info").is_some(),
        Some("assistant") => line.pointer("/message/content").is_some(),
        Some("result") => line.get("is_error").is_some(),
        _ => false,
    }
}

fn read(line: &Value, report: &mut CliReport) {
    match text(line, "type") {
        Some("system") if text(line, "subtype") == Some("api_retry") => {
            let attempt = number(line, "/attempt").unwrap_or_default();
            report.progress(format!("waiting for the API, attempt {attempt}"));
        }
        Some("system") => report.session(text(line, "session_id")),
        Some("assistant") => {
            let parent = line.get("parent_tool_use_id");
            let is_subagent = parent.is_some_and(|id| !id.is_null());
            for block in list(line, "/message/content") {
                match text(block, "type") {
                    Some("text") if !is_subagent => report.said(text(block, "text")),
                    Some("tool_use") => report.tool(text(block, "name"), block.get("input")),
                    _ => {}
                }
            }
        }
        Some("tool_call") => cursor_tool(line, report),
        Some("rate_limit_event") => {
            // This event also comes while enough is left. The last one counts.
            let status = line.pointer("/rate_limit_info/status");
            let is_rejected = status.is_some_and(|status| status == "rejected");
            let resets_at = number(line, "/rate_limit_info/resetsAt").map(Duration::from_secs);
            let until = resets_at.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
            report.rejected = is_rejected.then_some(Exceeded { until });
        }
        Some("result") => result(line, report),
        _ => {}
    }
}

/// `{"type": "tool_call", "subtype": "started", "tool_call": {"readToolCall": {"args": {"path": …}}}}`.
fn cursor_tool(line: &Value, report: &mut CliReport) {
    let calls = line.get("tool_call").and_then(Value::as_object);
    let call = calls.and_then(|calls| calls.iter().next());
    if let (Some("started"), Some((name, call))) = (text(line, "subtype"), call) {
        let tool = name.strip_suffix("ToolCall").unwrap_or(name);
        report.tool(Some(tool), call.get("args"));
    }
}

/// Reads the last line. With `--output-format json` it is the only line.
fn result(line: &Value, report: &mut CliReport) {
    // `subtype` can be "success" after a failure. But after a success it is never an error.
    let subtype = text(line, "subtype").unwrap_or_default();
    let own = text(line, "result").or_else(|| line.pointer("/errors/0").and_then(Value::as_str));
    if line.get("is_error").and_then(Value::as_bool) == Some(true) || subtype.starts_with("error") {
        report.failed(own.or(Some(subtype)), None);
    } else {
        report.ended_well();
    }
    report.final_message(text(line, "result"));
    report.session(text(line, "session_id"));
    let usage = &mut report.usage;
    usage.turns = number(line, "/num_turns").or(usage.turns);
    usage.input_tokens = number(line, "/usage/input_tokens");
    usage.output_tokens = number(line, "/usage/output_tokens");
    usage.cache_read_tokens = number(line, "/usage/cache_read_input_tokens");
    usage.cost_micros = dollars(line.get("total_cost_usd"));
    for denial in list(line, "/permission_denials") {
        report.denied(text(denial, "tool_name"));
    }
}
