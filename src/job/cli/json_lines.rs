//! Codex, Gemini CLI and OpenCode: each prints JSON lines of its own kind.

use serde_json::Value;

use super::Known;
use super::report::{CliReport, add, dollars, list, number, text};

const SANDBOXED: &str = "exec --json -s workspace-write --skip-git-repo-check -";

/// Codex runs commands in a sandbox of its own, so `CLI_AUTONOMY=edits` allows them too.
pub const CODEX: Known = Known {
    program: "codex",
    subscription: "codex",
    edits: SANDBOXED,
    commands: SANDBOXED,
    all: "exec --json --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check -",
    has_no_cwd: true,
    is_own: is_codex,
    read: read_codex,
};

fn is_codex(line: &Value) -> bool {
    match text(line, "type") {
        Some("thread.started") => line.get("thread_id").is_some(),
        Some("turn.started" | "turn.failed") => true,
        _ => false,
    }
}

fn read_codex(line: &Value, report: &mut CliReport) {
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
            report.final_message(None);
            let usage = &mut report.usage;
            let tokens = |kind| number(line, &format!("/usage/{kind}_tokens"));
            add(&mut usage.turns, Some(1));
            add(&mut usage.input_tokens, tokens("input"));
            add(&mut usage.output_tokens, tokens("output"));
            add(&mut usage.cache_read_tokens, tokens("cached_input"));
        }
        // Codex also prints `error` when it retries a connection. Only `turn.failed` is a failure.
        (Some("error"), _) => report.error = codex_message(line),
        (Some("turn.failed"), _) => {
            let message = line.get("error").and_then(codex_message);
            report.failed(message.as_deref(), None);
        }
        _ => {}
    }
}

/// If Codex does not understand an answer of the API, its message is that whole answer, as JSON.
fn codex_message(of: &Value) -> Option<String> {
    let message = text(of, "message")?;
    let inner: Option<Value> = serde_json::from_str(message).ok();
    let inner = inner
        .as_ref()
        .and_then(|inner| inner.pointer("/error/message"));
    let message = inner.and_then(Value::as_str).unwrap_or(message);
    Some(message.to_owned())
}

/// `-p ''` makes Gemini run once. Gemini puts standard input before that empty prompt.
pub const GEMINI: Known = Known {
    program: "gemini",
    subscription: "gemini",
    edits: "--skip-trust --approval-mode auto_edit -o stream-json -p ''",
    commands: "--skip-trust -y -o stream-json -p ''",
    all: "--skip-trust -y -o stream-json -p ''",
    has_no_cwd: true,
    is_own: is_gemini,
    read: read_gemini,
};

fn is_gemini(line: &Value) -> bool {
    match text(line, "type") {
        Some("init") => line.get("session_id").is_some(),
        // With `-o json` Gemini prints one object.
        None => {
            let has = |key| line.get(key).is_some();
            has("session_id") && (has("response") || has("error"))
        }
        _ => false,
    }
}

fn read_gemini(line: &Value, report: &mut CliReport) {
    report.session(text(line, "session_id"));
    match text(line, "type") {
        Some("message") if text(line, "role") == Some("assistant") => {
            report.said_more(text(line, "content"))
        }
        Some("tool_use") => report.tool(text(line, "tool_name"), line.get("parameters")),
        Some("tool_result") => report.next_message(),
        Some("error") => report.error = text(line, "message").map(str::to_owned),
        Some("result") => {
            match text(line, "status") {
                Some("error") => gemini_failed(line, report),
                _ => report.ended_well(),
            }
            report.final_message(None);
            let usage = &mut report.usage;
            usage.input_tokens = number(line, "/stats/input_tokens");
            usage.output_tokens = number(line, "/stats/output_tokens");
            usage.cache_read_tokens = number(line, "/stats/cached");
        }
        None => {
            match line.get("error") {
                Some(_) => gemini_failed(line, report),
                None => report.ended_well(),
            }
            report.final_message(text(line, "response"));
        }
        _ => {}
    }
}

fn gemini_failed(line: &Value, report: &mut CliReport) {
    let error = line.get("error").unwrap_or(&Value::Null);
    // The type is a name such as `TerminalQuotaError`.
    report.failed(text(error, "message"), text(error, "type"));
}

/// OpenCode edits files and runs commands inside its directory without asking.
pub const OPENCODE: Known = Known {
    program: "opencode",
    subscription: "opencode",
    edits: "run --format json",
    commands: "run --format json",
    all: "run --format json --auto",
    has_no_cwd: true,
    is_own: is_opencode,
    read: read_opencode,
};

fn is_opencode(line: &Value) -> bool {
    line.get("sessionID").is_some_and(Value::is_string)
        && (line.get("part").is_some() || line.get("error").is_some())
}

fn read_opencode(line: &Value, report: &mut CliReport) {
    report.session(text(line, "sessionID"));
    let part = line.get("part").unwrap_or(&Value::Null);
    match text(line, "type") {
        Some("tool_use") => report.tool(text(part, "tool"), part.pointer("/state/input")),
        Some("text") => report.said(text(part, "text")),
        Some("step_finish") => {
            report.ended_well();
            if text(part, "reason") != Some("tool-calls") {
                report.final_message(None);
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
            // The message may leave out what the provider's answer says, such as `usage_limit_reached`.
            let answer = error.pointer("/data/responseBody").and_then(Value::as_str);
            report.failed(message, answer);
        }
        _ => {}
    }
}
