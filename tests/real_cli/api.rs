//! A stand-in for a model's API on loopback, in the shapes that the CLIs speak: Anthropic's messages, OpenAI's
//! responses and chat completions, Google's contents, each as a stream of events. It asks for one tool and then says its last words.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What the model wants.
#[derive(Debug, Clone)]
pub enum Plan {
    Write {
        file: PathBuf,
        text: String,
    },
    Command(String),
    /// The subscription is used up until then.
    Limit {
        reset: u64,
    },
    /// 400 with that message.
    Refuse(String),
}

struct State {
    plan: Plan,
    last_words: String,
    hold: Mutex<Duration>,
    requests: Mutex<Vec<String>>,
}

pub struct Api {
    port: u16,
    state: Arc<State>,
}

impl Api {
    pub fn start(plan: Plan, last_words: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let last_words = last_words.to_owned();
        let state = State {
            plan,
            last_words,
            hold: Mutex::default(),
            requests: Mutex::default(),
        };
        let state = Arc::new(state);
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || {
                    let _ = serve(stream, &state);
                });
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The model thinks for so long before its last words.
    pub fn hold_last_answer(&self, time: Duration) {
        *self.state.hold.lock().unwrap() = time;
    }

    /// The request lines so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        state.requests.lock().unwrap().push(line.trim().to_owned());
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(&read_body(&mut reader)?).unwrap_or_default();
        let (status, headers, content) = answer(&path, &body, state);
        let kind = if content.starts_with('{') {
            "application/json"
        } else {
            "text/event-stream"
        };
        write!(
            stream,
            "HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\n{headers}Content-Length: {}\r\n\r\n{content}",
            content.len()
        )?;
    }
}

fn read_body(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    Ok(body)
}

fn answer(path: &str, body: &Value, state: &State) -> (u16, String, String) {
    let is_model = ["/messages", "/responses", "/completions", "GenerateContent"]
        .iter()
        .any(|end| path.contains(end));
    if !is_model || path.contains("count_tokens") {
        return (404, String::new(), "{}".to_owned());
    }
    match &state.plan {
        Plan::Limit { reset } => {
            let headers = format!(
                "anthropic-ratelimit-unified-status: rejected\r\nanthropic-ratelimit-unified-reset: {reset}\r\n\
                anthropic-ratelimit-unified-representative-claim: five_hour\r\n"
            );
            let error = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "This request would exceed your account's rate limit."}});
            return (429, headers, error.to_string());
        }
        Plan::Refuse(why) => {
            let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": why}});
            return (400, String::new(), error.to_string());
        }
        Plan::Write { .. } | Plan::Command(_) => {}
    }
    let said = body.to_string();
    let has_run = [
        "tool_result",
        "function_call_output",
        "\"role\":\"tool\"",
        "functionResponse",
    ]
    .iter()
    .any(|mark| said.contains(mark));
    let has_tools = body["tools"]
        .as_array()
        .is_some_and(|tools| !tools.is_empty());
    let tool = (has_tools && !has_run).then_some(&state.plan);
    if has_run {
        thread::sleep(*state.hold.lock().unwrap());
    }
    let events = match path {
        _ if path.contains("/messages") => messages(body, tool, &state.last_words),
        _ if path.contains("/responses") => responses(tool, &state.last_words),
        _ if path.contains("GenerateContent") => contents(tool, &state.last_words),
        _ => completions(body, tool, &state.last_words),
    };
    (200, String::new(), events)
}

/// With the name of each, as both Anthropic and OpenAI's newer API have it.
fn named(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| {
            format!(
                "event: {}\ndata: {event}\n\n",
                event["type"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

fn messages(body: &Value, tool: Option<&Plan>, last_words: &str) -> String {
    let (block, delta, reason) = match tool {
        Some(plan) => {
            let (name, input) = match plan {
                Plan::Write { file, text } => {
                    ("Write", json!({"file_path": file, "content": text}))
                }
                Plan::Command(command) => {
                    ("Bash", json!({"command": command, "description": "run it"}))
                }
                other => panic!("{other:?} is no tool"),
            };
            (
                json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}),
                json!({"type": "input_json_delta", "partial_json": input.to_string()}),
                "tool_use",
            )
        }
        None => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": last_words}),
            "end_turn",
        ),
    };
    named(&[
        json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 100, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ])
}

fn responses(tool: Option<&Plan>, last_words: &str) -> String {
    let item = match tool {
        Some(plan) => {
            let command = match plan {
                Plan::Write { file, text } => {
                    format!(
                        "cat > '{}' <<'END'\n{text}END\ncat '{}'",
                        file.display(),
                        file.display()
                    )
                }
                Plan::Command(command) => command.clone(),
                other => panic!("{other:?} is no tool"),
            };
            let arguments = json!({"cmd": command}).to_string();
            json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec_command", "arguments": arguments})
        }
        None => {
            json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": last_words, "annotations": []}]})
        }
    };
    let usage = json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 7}, "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 120});
    named(&[
        json!({"type": "response.created", "response": {"id": "r", "object": "response", "status": "in_progress", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {
            "id": "r", "object": "response", "status": "completed", "output": [item], "usage": usage}}),
    ])
}

fn completions(body: &Value, tool: Option<&Plan>, last_words: &str) -> String {
    let chunk = |delta: Value, reason: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    };
    let (delta, reason) = match tool {
        Some(plan) => {
            let (name, input) = match plan {
                Plan::Write { file, text } => ("write", json!({"filePath": file, "content": text})),
                Plan::Command(command) => {
                    ("bash", json!({"command": command, "description": "run it"}))
                }
                other => panic!("{other:?} is no tool"),
            };
            let function = json!({"name": name, "arguments": input.to_string()});
            let call =
                json!({"index": 0, "id": "call_1", "type": "function", "function": function});
            (
                json!({"role": "assistant", "tool_calls": [call]}),
                "tool_calls",
            )
        }
        None => (json!({"role": "assistant", "content": last_words}), "stop"),
    };
    let usage = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": [],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}});
    let events = [
        chunk(delta, Value::Null),
        chunk(json!({}), json!(reason)),
        usage,
    ];
    let events: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    format!("{events}data: [DONE]\n\n")
}

fn contents(tool: Option<&Plan>, last_words: &str) -> String {
    let part = match tool {
        Some(Plan::Write { file, text }) => {
            json!({"functionCall": {"name": "write_file", "args": {"file_path": file, "content": text}}})
        }
        Some(Plan::Command(command)) => {
            json!({"functionCall": {"name": "run_shell_command", "args": {"command": command}}})
        }
        Some(other) => panic!("{other:?} is no tool"),
        None => json!({"text": last_words}),
    };
    let answer = json!({
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120},
    });
    format!("data: {answer}\r\n\r\n")
}
