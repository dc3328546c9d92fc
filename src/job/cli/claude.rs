//! Claude Code. Errors go to standard output; what a tool gave back stands in lines of the type `user`.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::report::{Report, dollars, number, text};
use super::{Args, Known, Login, cursor};
use crate::domain::quota::Exceeded;

pub const KNOWN: Known = Known {
    programs: &["claude"],
    subscription: "claude-code",
    args: Args {
        edits: "-p --output-format stream-json --verbose --permission-mode acceptEdits",
        // Last, for it takes every word that follows.
        commands: "-p --output-format stream-json --verbose --permission-mode acceptEdits --allowedTools Bash",
        all: "-p --output-format stream-json --verbose --permission-mode bypassPermissions",
    },
    has_no: &["--cwd"],
    needs: &[("--output-format stream-json", "--verbose")],
    variadic: &[
        "--add-dir",
        "--allowedTools",
        "--allowed-tools",
        "--betas",
        "--disallowedTools",
        "--disallowed-tools",
        "--file",
        "--mcp-config",
        "--tools",
    ],
    is_safer_with_stdin: true,
    login: Login {
        file: Some(("CLAUDE_CONFIG_DIR", ".claude", ".credentials.json")),
        variables: &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ],
    },
    is_own,
    read,
};

/// Cursor's lines look the same but for its tools.
pub fn is_own(line: &Value) -> bool {
    match text(line, "type") {
        Some("system") => line.get("session_id").is_some(),
        Some("rate_limit_event") => line.get("rate_limit_info").is_some(),
        Some("assistant") => line.pointer("/message/content").is_some(),
        Some("result") => line.get("is_error").is_some(),
        _ => false,
    }
}

pub fn read(line: &Value, report: &mut Report) {
    match text(line, "type") {
        Some("system") if text(line, "subtype") == Some("api_retry") => {
            let attempt = line
                .get("attempt")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            report.progress(format!("waiting for the API, attempt {attempt}"));
        }
        Some("system") => report.session(text(line, "session_id")),
        Some("assistant") => {
            let is_subagent = line
                .get("parent_tool_use_id")
                .is_some_and(|id| !id.is_null());
            for block in line
                .pointer("/message/content")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                match text(block, "type") {
                    Some("text") if !is_subagent => report.said(text(block, "text")),
                    Some("tool_use") => report.tool(text(block, "name"), block.get("input")),
                    _ => {}
                }
            }
        }
        Some("tool_call") => cursor::tool_call(line, report),
        Some("rate_limit_event") => {
            // It also comes while there is enough left: the last one counts.
            let is_rejected = line
                .pointer("/rate_limit_info/status")
                .is_some_and(|status| status == "rejected");
            let resets_at = number(line, "/rate_limit_info/resetsAt").map(Duration::from_secs);
            let until = resets_at.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
            report.rejected = is_rejected.then_some(Exceeded { until });
        }
        Some("result") => result(line, report),
        _ => {}
    }
}

/// The last line, and all there is with `--output-format json`.
fn result(line: &Value, report: &mut Report) {
    // `subtype` says "success" even of what failed, but never the other way round.
    let subtype = text(line, "subtype").unwrap_or_default();
    let own = text(line, "result").or_else(|| line.pointer("/errors/0").and_then(Value::as_str));
    if line.get("is_error").and_then(Value::as_bool) == Some(true) || subtype.starts_with("error") {
        report.failed(own.unwrap_or(subtype));
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
    for denial in line
        .get("permission_denials")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        report.denied(text(denial, "tool_name"));
    }
}
