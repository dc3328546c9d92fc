//! Codex. Its commands run in a sandbox of its own, so `edits` can run them too.

use serde_json::Value;

use super::report::{Report, add, number, text};
use super::{Args, Known, Login};

const SANDBOXED: &str = "exec --json -s workspace-write --skip-git-repo-check -";

pub const KNOWN: Known = Known {
    programs: &["codex"],
    subscription: "codex",
    args: Args {
        edits: SANDBOXED,
        commands: SANDBOXED,
        all: "exec --json --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -",
    },
    has_no: &["--cwd"],
    needs: &[],
    variadic: &["-i", "--image"],
    is_safer_with_stdin: true,
    login: Login {
        file: Some(("CODEX_HOME", ".codex", "auth.json")),
        variables: &["CODEX_API_KEY", "OPENAI_API_KEY"],
    },
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

fn read(line: &Value, report: &mut Report) {
    let item = line.get("item").unwrap_or(&Value::Null);
    match (text(line, "type"), text(item, "type")) {
        (Some("thread.started"), _) => report.session(text(line, "thread_id")),
        (Some("item.started"), Some("command_execution")) => report.tool(Some("Bash"), Some(item)),
        (Some("item.completed"), Some("file_change")) => {
            for change in item
                .get("changes")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .take(20)
            {
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
            add(&mut usage.turns, Some(1));
            add(&mut usage.input_tokens, number(line, "/usage/input_tokens"));
            add(
                &mut usage.output_tokens,
                number(line, "/usage/output_tokens"),
            );
            add(
                &mut usage.cache_read_tokens,
                number(line, "/usage/cached_input_tokens"),
            );
        }
        // Also said of a connection that is tried again: only the turn's own failure is one.
        (Some("error"), _) => report.complained(&message(line)),
        (Some("turn.failed"), _) => {
            report.failed(&message(line.get("error").unwrap_or(&Value::Null)))
        }
        _ => {}
    }
}

/// Where the API's answer was not understood, the message is that answer, as JSON.
fn message(of: &Value) -> String {
    let message = text(of, "message").unwrap_or("failed, and did not say why");
    let inner: Option<Value> = message
        .starts_with('{')
        .then(|| serde_json::from_str(message).ok())
        .flatten();
    let inner = inner
        .as_ref()
        .and_then(|inner| inner.pointer("/error/message"))
        .and_then(Value::as_str);
    inner.unwrap_or(message).to_owned()
}
