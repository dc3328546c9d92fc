use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::OutputReader;
use crate::domain::quota::Exceeded;
use crate::domain::ticket::Usage;

const CWD: &str = "/repo";

// The lines of the real programs, shortened.
const CLAUDE: &str = r#"{"type":"system","subtype":"init","cwd":"/repo","session_id":"s-1","tools":["Bash"]}
{"type":"assistant","message":{"content":[{"type":"text","text":"I will."}]},"parent_tool_use_id":null}
{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Write","input":{"file_path":"/repo/new.txt","content":"SOURCE"}}]},"parent_tool_use_id":null}
{"type":"user","message":{"content":[{"type":"tool_result","content":"SOURCE usage limit reached"}]},"tool_use_result":{"content":"SOURCE"}}
{"type":"assistant","message":{"content":[{"type":"text","text":"of a subagent"},{"type":"tool_use","name":"Bash","input":{"command":"cargo test --all 2>&1"}}]},"parent_tool_use_id":"t-1"}
{"type":"result","subtype":"success","is_error":false,"num_turns":2,"result":"All done.","session_id":"s-1","total_cost_usd":0.0030667500000000005,"usage":{"input_tokens":200,"cache_read_input_tokens":14,"output_tokens":40},"permission_denials":[{"tool_name":"Edit","tool_input":{"content":"SOURCE"}},{"tool_name":"Edit"}]}
"#;

const CODEX: &str = r#"{"type":"thread.started","thread_id":"t-1"}
{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata not found."}}
{"type":"turn.started"}
{"type":"item.started","item":{"type":"command_execution","command":"/bin/bash -lc \"printf 'SOURCE\\\\n' > new.txt; cat new.txt\"","aggregated_output":""}}
{"type":"item.completed","item":{"type":"command_execution","command":"/bin/bash -lc 'cargo test'","aggregated_output":"SOURCE"}}
{"type":"item.started","item":{"type":"command_execution","command":"/bin/bash -lc 'cargo test -p app'"}}
{"type":"item.completed","item":{"type":"file_change","changes":[{"path":"/repo/a.rs","kind":"update"},{"path":"/repo/b.rs","kind":"add"}]}}
{"type":"error","message":"Reconnecting... 1/5"}
{"type":"item.completed","item":{"type":"agent_message","text":"All done."}}
{"type":"turn.completed","usage":{"input_tokens":200,"cached_input_tokens":14,"output_tokens":40}}
"#;

const OPENCODE: &str = r#"{"type":"step_start","sessionID":"ses_1","part":{"type":"step-start"}}
{"type":"tool_use","sessionID":"ses_1","part":{"tool":"write","state":{"input":{"filePath":"/repo/new.txt","content":"SOURCE"},"output":"SOURCE"}}}
{"type":"step_finish","sessionID":"ses_1","part":{"reason":"tool-calls","tokens":{"input":100,"output":20,"cache":{"read":7}},"cost":0.001}}
{"type":"text","sessionID":"ses_1","part":{"type":"text","text":"All done."}}
{"type":"step_finish","sessionID":"ses_1","part":{"reason":"stop","tokens":{"input":100,"output":20,"cache":{"read":7}},"cost":0.002}}
"#;

const GEMINI: &str = r#"{"type":"init","session_id":"g-1","model":"auto"}
{"type":"message","role":"user","content":"the prompt"}
{"type":"message","role":"assistant","content":"I will.","delta":true}
{"type":"tool_use","tool_name":"write_file","parameters":{"file_path":"/repo/new.txt","content":"SOURCE"}}
{"type":"tool_result","status":"success","output":"SOURCE"}
{"type":"message","role":"assistant","content":"All ","delta":true}
{"type":"message","role":"assistant","content":"done.","delta":true}
{"type":"result","status":"success","stats":{"input_tokens":200,"output_tokens":40,"cached":14}}
"#;

const CURSOR: &str = r#"{"type":"system","subtype":"init","session_id":"c-1"}
{"type":"tool_call","subtype":"started","call_id":"1","tool_call":{"writeToolCall":{"args":{"path":"new.txt","fileText":"SOURCE"}}}}
{"type":"tool_call","subtype":"completed","call_id":"1","tool_call":{"writeToolCall":{"args":{"path":"new.txt"},"result":"SOURCE"}}}
{"type":"assistant","message":{"content":[{"type":"text","text":"All done."}]},"session_id":"c-1"}
{"type":"result","subtype":"success","is_error":false,"result":"All done.","session_id":"c-1"}
"#;

fn read(output: impl AsRef<[u8]>) -> OutputReader {
    let mut reading = OutputReader::new(Path::new(CWD));
    reading.feed(output.as_ref());
    reading.finish();
    reading
}

/// Each known CLI's lines give its final message, what it did, and what it took; never what its tools gave back.
#[test]
fn the_known_clis() {
    let usage = |session: &str, tokens: [u64; 3], cost, turns| Usage {
        input_tokens: Some(tokens[0]),
        output_tokens: Some(tokens[1]),
        cache_read_tokens: Some(tokens[2]),
        cost_micros: cost,
        turns,
        session_id: Some(session.to_owned()),
    };
    let tokens = [200, 40, 14];
    let only_session = Usage {
        session_id: Some("c-1".to_owned()),
        ..Usage::default()
    };
    let rows: [(&str, &[&str], Usage); 5] = [
        (
            CLAUDE,
            &["Write new.txt", "Bash cargo test --all 2"],
            usage("s-1", tokens, Some(3_067), Some(2)),
        ),
        (
            CODEX,
            &[
                "Bash printf",
                "Bash cargo test -p app",
                "Edit a.rs",
                "Write b.rs",
            ],
            usage("t-1", tokens, None, Some(1)),
        ),
        (
            OPENCODE,
            &["write new.txt"],
            usage("ses_1", tokens, Some(3_000), Some(2)),
        ),
        (
            GEMINI,
            &["write_file new.txt"],
            usage("g-1", tokens, None, None),
        ),
        (CURSOR, &["write new.txt"], only_session),
    ];
    for (output, progress, usage) in rows {
        // However the bytes come.
        for size in [1, 7, 100_000] {
            let mut reading = OutputReader::new(Path::new(CWD));
            output
                .as_bytes()
                .chunks(size)
                .for_each(|chunk| reading.feed(chunk));
            reading.finish();
            assert_eq!(reading.take_progress(), progress, "{output}");
            assert!(reading.take_progress().is_empty(), "told twice");
            let report = reading.report().expect("lines of a known CLI");
            assert_eq!(
                (report.message.as_str(), report.is_final, report.has_failed),
                ("All done.", true, false)
            );
            assert_eq!(report.usage().as_ref(), Some(&usage), "{output}");
            assert_eq!(
                (report.error.as_deref(), reading.unread),
                (None, 0),
                "{output}"
            );
            assert!(
                !reading.is_text() && !format!("{reading:?}").contains("SOURCE"),
                "{reading:?}"
            );
        }
    }
    assert_eq!(
        read(CLAUDE).report().expect("lines").denied,
        ["Edit"],
        "told once"
    );
}

/// A run that was cut off has no final message: what counts is the last that the CLI said, or nothing.
#[test]
fn a_run_cut_off() {
    for (output, lines, message) in [
        (CLAUDE, 1, ""),
        (CLAUDE, 5, "I will."),
        (CODEX, 8, ""),
        (CODEX, 9, "All done."),
        (GEMINI, 5, "I will."),
    ] {
        let whole: String = output.split_inclusive('\n').take(lines).collect();
        for broken in [
            String::new(),
            r#"{"type":"user","message":"SOUR"#.to_owned(),
        ] {
            let reading = read(format!("{whole}{broken}"));
            let report = reading.report().expect("lines of a known CLI");
            assert_eq!(
                (report.message.as_str(), report.is_final),
                (message, false),
                "{whole}"
            );
        }
    }
}

/// The error is the CLI's own, in words, also where it ends with exit code 0.
#[test]
fn own_errors() {
    let claude = |fields: serde_json::Value| {
        let mut line = json!({"type": "result", "subtype": "success", "is_error": true, "result": "Not logged in"});
        line.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        line.to_string()
    };
    let codex = |message: &str| {
        let line = json!({"type": "turn.failed", "error": {"message": message}});
        format!("{{\"type\":\"thread.started\",\"thread_id\":\"1\"}}\n{line}\n")
    };
    let opencode = json!({"type": "error", "sessionID": "s", "error": {"name": "APIError", "data": {
        "message": "The limit", "responseBody": "{\"type\":\"usage_limit_reached\"}"}}});
    let gemini = "{\"type\":\"init\",\"session_id\":\"1\"}\n{\"type\":\"result\",\"status\":\"error\",\"error\":{\"message\":\"No key\"}}";
    for (output, error) in [
        (claude(json!({})), "Not logged in"),
        (
            claude(json!({"subtype": "error_max_turns", "is_error": false, "result": null})),
            "error_max_turns",
        ),
        (
            claude(
                json!({"subtype": "error_during_execution", "result": null, "errors": ["it broke"]}),
            ),
            "it broke",
        ),
        (
            codex("You’ve hit your usage limit."),
            "You’ve hit your usage limit.",
        ),
        (
            codex(r#"{"type": "error", "error": {"message": "no such model"}}"#),
            "no such model",
        ),
        (opencode.to_string(), "The limit"),
        (gemini.to_owned(), "No key"),
    ] {
        let reading = read(&output);
        let report = reading.report().expect("lines of a known CLI");
        assert_eq!(
            (report.error.as_deref(), report.has_failed),
            (Some(error), true),
            "{output}"
        );
    }
    let quota = read(
        "{\"type\":\"init\",\"session_id\":\"1\"}\n{\"type\":\"result\",\"status\":\"error\",\"error\":{\"type\":\"TerminalQuotaError\"}}",
    );
    assert!(
        quota
            .report()
            .unwrap()
            .error_in_full()
            .unwrap()
            .contains("TerminalQuotaError")
    );
    let reading = read(opencode.to_string());
    assert!(
        reading
            .report()
            .unwrap()
            .error_in_full()
            .unwrap()
            .contains("usage_limit_reached")
    );
    // What comes after it counts.
    let went_on = format!("{opencode}\n{OPENCODE}");
    assert!(!read(went_on).report().unwrap().has_failed);
}

/// The subscription is used up where the last event says so, until the time in it.
#[test]
fn a_rejected_request() {
    let event = |fields: &str| {
        format!("{{\"type\":\"rate_limit_event\",\"rate_limit_info\":{{{fields}}}}}\n")
    };
    let rejected = event(r#""status":"rejected","resetsAt":1900000000"#);
    let allowed = event(r#""status":"allowed","resetsAt":1900000000"#);
    let until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000));
    for (output, wanted) in [
        (rejected.clone(), Some(Exceeded { until })),
        (format!("{allowed}{rejected}"), Some(Exceeded { until })),
        (format!("{rejected}{allowed}"), None),
        (allowed, None),
        (
            event(r#""status":"rejected""#),
            Some(Exceeded { until: None }),
        ),
        (
            event(r#""status":"rejected","resetsAt":-1"#),
            Some(Exceeded { until: None }),
        ),
        (
            event(r#""status":"rejected","resetsAt":18446744073709551615"#),
            Some(Exceeded { until: None }),
        ),
    ] {
        assert_eq!(
            read(&output).report().expect("lines of Claude").rejected,
            wanted,
            "{output}"
        );
    }
}

/// One object, on one line or over several, is read like the line that it is.
#[test]
fn single_objects() {
    let claude = CLAUDE.lines().last().unwrap();
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(claude).unwrap())
            .unwrap();
    let gemini = serde_json::to_string_pretty(
        &json!({"session_id": "1", "response": "All done.", "stats": {}}),
    )
    .unwrap();
    let list = format!("[{}]\n", CLAUDE.lines().collect::<Vec<_>>().join(","));
    for output in [
        claude.to_owned(),
        format!("a banner\n{claude}\n"),
        pretty.clone(),
        format!("{pretty}\n"),
        gemini,
        list,
    ] {
        let reading = read(&output);
        let report = reading.report().unwrap_or_else(|| panic!("text: {output}"));
        assert_eq!(
            (report.message.as_str(), report.is_final),
            ("All done.", true),
            "{output}"
        );
    }
}

/// Everything else is text and is left alone, also where lines of a known CLI come late in it, as in a file.
#[test]
fn text_is_text() {
    let late = format!("{}{CLAUDE}", "0123456789\n".repeat(6554));
    for output in [
        "",
        "\n",
        "one\ntwo\n",
        "{",
        "{\n",
        "{\n  \"a\": 1\n}\n",
        "{}\n",
        r#"{"type":"result"}"#,
        r#"{"level":"info","msg":"x"}"#,
        "[1]\n",
        "[]\n",
        "[INFO] building\n[INFO] done\n",
        "[{\"a\": 1}]\n",
        "{ not json\n",
        &late,
    ] {
        let reading = read(output);
        assert!(reading.report().is_none(), "{output}");
        assert_eq!(reading.unread, 0);
    }
    let banner = format!("npm warn something\n{{\"level\":\"info\"}}\n{CLAUDE}");
    assert_eq!(
        read(banner)
            .report()
            .map(|report| report.message.clone())
            .as_deref(),
        Some("All done.")
    );
}

/// Whatever is printed, nothing is kept of a line that is too long, it is counted, and the rest is read.
#[test]
fn lines_that_cannot_be_read() {
    let init = CLAUDE.lines().next().unwrap();
    let end = CLAUDE.lines().last().unwrap();
    let long = |fill: &str| {
        format!(
            "{{\"type\":\"user\",\"a\":\"{}\"}}",
            fill.repeat((1 << 20) / fill.len())
        )
    };
    let rows = [
        ("too long", long("SOURCE"), 1),
        (
            "as long as allowed",
            format!("{{\"a\":\"{}\"}}", "x".repeat((1 << 20) - 8)),
            0,
        ),
        (
            "broken",
            r#"{"type":"user","content":"SOURCE"#.to_owned(),
            1,
        ),
        ("too deep", format!("{{\"a\":{}", "[".repeat(100_000)), 1),
        ("a lone surrogate", r#"{"type":"\ud800"}"#.to_owned(), 1),
        ("text between", "panicked at something".to_owned(), 0),
    ];
    for (label, line, unread) in rows {
        let reading = read(format!("{init}\n{line}\n{end}\n"));
        let report = reading.report().expect(label);
        assert_eq!(
            (report.message.as_str(), reading.unread),
            ("All done.", unread),
            "{label}"
        );
        assert!(!reading.stray.contains("SOURCE"), "{label}");
    }
    assert_eq!(
        read(format!("{init}\npanicked at something\n")).stray,
        "panicked at something\n"
    );
    let first = read(format!("{}\n{CLAUDE}", long("SOURCE")));
    let report = first.report().expect("something that is not sent");
    assert_eq!(
        (report.message.as_str(), first.unread),
        ("", 1),
        "the first line of all"
    );
    let invalid = [
        init.as_bytes(),
        b"\n{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"a\xFF\"}]}}\n",
    ]
    .concat();
    assert_eq!(read(invalid).report().unwrap().message, "a\u{FFFD}");
}

/// Of a command only its start is told: no quoted text, nothing that is redirected, no setting, nothing that is echoed.
#[test]
fn commands() {
    for (command, told) in [
        ("cargo test", "Bash cargo test"),
        ("git commit -m 'SOURCE'", "Bash git commit -m"),
        ("cat <<EOF > a\nSOURCE\nEOF", "Bash cat"),
        ("echo SOURCE", "Bash echo"),
        ("printf SOURCE | tee a", "Bash printf"),
        ("KEY=SOURCE cargo run", "Bash cargo run"),
        ("export KEY=SOURCE", "Bash export"),
        ("docker run -e KEY=SOURCE image", "Bash docker run -e"),
        ("curl -u me:SOURCE https://host", "Bash curl -u"),
        ("git clone https://SOURCE@host/a", "Bash git clone"),
        ("make $(cat SOURCE)", "Bash make $"),
        ("a; SOURCE", "Bash a"),
        ("a && SOURCE", "Bash a"),
        ("'SOURCE'", "Bash"),
        ("", "Bash"),
        ("bash -c 'cargo fmt'", "Bash cargo fmt"),
        ("ls \u{1b}[31m \u{7}x", "Bash ls  [31m  x"),
    ] {
        let line = json!({"type": "assistant", "message": {"content": [
            {"type": "tool_use", "name": "Bash", "input": {"command": command}}]}});
        assert_eq!(read(line.to_string()).take_progress(), [told], "{command}");
    }
    let of = |tool: &str, input: serde_json::Value| {
        let line = json!({"type": "assistant", "message": {"content": [{"type": "tool_use", "name": tool, "input": input}]}});
        read(line.to_string()).take_progress().remove(0)
    };
    assert_eq!(
        of("Bash", json!({"command": "x ".repeat(500)}))
            .chars()
            .count(),
        "Bash ".len() + 80 + 1
    );
    assert_eq!(
        of("Grep", json!({"pattern": "SOURCE", "path": "/repo/src"})),
        "Grep src"
    );
    assert_eq!(
        of("Read", json!({"file_path": "/etc/passwd"})),
        "Read /etc/passwd"
    );
    assert_eq!(of("Read", json!({"file_path": "/repo/a\nb"})), "Read a b");
    assert_eq!(of("mcp__x__y", json!({"query": "SOURCE"})), "mcp__x__y");
    assert_eq!(of("Odd", json!([1])), "Odd");
}

/// Progress, a message in pieces, and refusals are bounded, whatever comes.
#[test]
fn memory_is_bounded() {
    let mut reading = OutputReader::new(Path::new(CWD));
    reading.feed(b"{\"type\":\"init\",\"session_id\":\"1\"}\n");
    for n in 0..20_000 {
        let piece = json!({"type": "message", "role": "assistant", "content": "x".repeat(1000)});
        let tool = json!({"type": "tool_use", "tool_name": format!("tool {n}")});
        reading.feed(format!("{piece}\n{tool}\n").as_bytes());
    }
    let progress = reading.take_progress();
    assert!(
        progress.iter().map(String::len).sum::<usize>() <= 16 << 10
            && progress.last().unwrap() == "tool 19999"
    );
    assert!(reading.report().unwrap().message.len() <= 1 << 20);
}

/// No bytes, however odd, make the reading of them fail.
#[test]
fn any_bytes() {
    let mut rng = fastrand::Rng::with_seed(7);
    let words = [
        "{",
        "}",
        "\"type\":",
        "\"result\"",
        "\n",
        ":",
        ",",
        "[",
        "]",
        "null",
        "\"",
        "\\",
        "\u{0}",
        "1e999",
        "is_error",
        "é",
    ];
    for _ in 0..2000 {
        let base = [CLAUDE, CODEX, OPENCODE, GEMINI, CURSOR][rng.usize(..5)];
        let mut bytes = base.as_bytes().to_vec();
        for _ in 0..rng.usize(..20) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[at] = rng.u8(..),
                1 => drop(bytes.splice(at..at, words[rng.usize(..words.len())].bytes())),
                _ => bytes.truncate(at.max(1)),
            }
        }
        read(bytes);
    }
    // Every field may be of any type.
    for line in [CLAUDE, CODEX, OPENCODE, GEMINI, CURSOR]
        .iter()
        .flat_map(|output| output.lines())
    {
        for odd in ["null", "1", "\"\"", "[]", "{}", "[[\"a\"]]", "-1e308"] {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            for key in value.as_object().unwrap().keys() {
                let mut value = value.clone();
                value[key] = serde_json::from_str(odd).unwrap();
                read(format!("{line}\n{value}\n"));
            }
        }
    }
}
