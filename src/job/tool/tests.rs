use std::path::Path;

use super::exe_behind;

/// The program behind npm's shim for Windows, where that is one that can be started itself.
#[test]
fn shims() {
    let head = "@ECHO off\r\nGOTO start\r\n:find_dp0\r\nSET dp0=%~dp0\r\nEXIT /b\r\n:start\r\nSETLOCAL\r\nCALL :find_dp0\r\n";
    let exe = format!(
        "{head}\"%dp0%\\node_modules\\@anthropic-ai\\claude-code\\bin\\claude.exe\"   %*\r\n"
    );
    let script = format!(
        "{head}IF EXIST \"%dp0%\\node.exe\" (\r\n  SET \"_prog=%dp0%\\node.exe\"\r\n)\r\nendLocal & goto #_undefined_# 2>NUL || title %COMSPEC% & \"%_prog%\"  \"%dp0%\\node_modules\\@openai\\codex\\bin\\codex.js\" %*\r\n"
    );
    let folder = Path::new("/npm");
    let wanted = folder.join("node_modules/@anthropic-ai/claude-code/bin/claude.exe");
    assert_eq!(exe_behind(&exe, folder).as_deref(), Some(wanted.as_path()));
    for other in [
        script.as_str(),
        "",
        "claude.exe %*",
        "\"C:\\claude.exe\" %*",
        "\"%dp0%\\a.exe\" --x %*",
    ] {
        assert_eq!(exe_behind(other, folder), None, "{other}");
    }
}
