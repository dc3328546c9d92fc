//! Codex. Commands run in its own sandbox, so `CLI_AUTONOMY=edits` allows them too.

use serde_json::Value;

use super::report::{CliReport, add, list, number, text};
use super::{Known, UsualArgs};

const SANDBOXED: &str = "exec --json -s workspace-write --skip-git-repo-check -";

pub const KNOWN: Known = Known {
    program: "codex",
    subscription: "codex",
    args: UsualArgs {
        edits: SANDBOXED,
        commands: SANDBOXED,
        all: "exec --json --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -",
    },
    has_no: &["--cwd"],
    is_own,
    read,
};

fn is_own(line: &Value) -> bool {
    match text(line, "type") {
        Some("thread.started") => line.get("thread_id").is_some(),
        Some("turn.started" | "turn.failed") => true,
        _ => false,
    }
}

fn read(line: &Value, report: &mut CliReport) {
    let item = line.get("item").unwrap_or(&Value::Null);
    match (text(line, "type"), text(item, "type")) {
        (Some("thread.started"), _) => report.session(text(line, "thread_id")),
        (Some("item.started"), Some("command_execution")) => report.tool(Some("Bash"), Some(item)),
        (Some("item.completed"), Some("file_change")) => {
            for change in list(item, "/changes").take(20) {
                let tool = match text(change, "kind") {
                    Some("add") => "Write",
                    Some("delete") => "Delete",
                    _ => "Edit",
                };
                report.tool(Some(tool), Some(change));
            }
        }
        (Some("item.started"), Some("mcp_tool_call")) => report.tool(text(item, "tool"), None),
        (Some("item.started"), Some("web_search")) => report.tool(Some("WebSearch"), None),
        (Some("item.completed"), Some("agent_message")) => report.said(text(item, "text")),
        (Some("turn.completed"), _) => {
            report.ended_well();
            report.last_said_is_final();
            let usage = &mut report.usage;
            let tokens = |kind| number(line, &format!("/usage/{kind}_tokens"));
            add(&mut usage.turns, Some(1));
            add(&mut usage.input_tokens, tokens("input"));
            add(&mut usage.output_tokens, tokens("output"));
            add(&mut usage.cache_read_tokens, tokens("cached_input"));
        }
        // It also comes when a connection is tried again: only the turn's own failure counts as one.
        (Some("error"), _) => report.complained(&message(line)),
        (Some("turn.failed"), _) => {
            report.failed(&message(line.get("error").unwrap_or(&Value::Null)))
        }
        _ => {}
    }
}

/// If Codex did not understand the API's answer, the message is that answer, as JSON.
fn message(of: &Value) -> String {
    let message = text(of, "message").unwrap_or("failed, and did not say why");
    let inner: Option<Value> = serde_json::from_str(message).ok();
    let inner = inner
        .as_ref()
        .and_then(|inner| inner.pointer("/error/message"));
    inner.and_then(Value::as_str).unwrap_or(message).to_owned()
}
