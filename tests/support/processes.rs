//! Which processes belong to a world, found by a variable in their environment. Only Linux shows it.

use std::fs;

/// The variable that every process of a world has, the daemon included. Its value is the world's folder.
pub const MARK: &str = "WF0_TEST_WORLD";

/// The living processes with that mark, each with its command line; without the daemon itself.
pub fn marked(world: &str, daemon: Option<u32>) -> Vec<(u32, String)> {
    let wanted = format!("{MARK}={world}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if Some(pid) == daemon || pid == std::process::id() {
            continue;
        }
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        // A process that has ended and is not yet reaped has an empty one.
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
            && is_alive(pid)
        {
            found.push((pid, command_line(pid)));
        }
    }
    found
}

/// Its arguments, with spaces between them.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// A figure of `/proc/PID/status` that is given in kB.
pub fn status_kb(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let figure = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kb| kb.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("no {name} in:\n{status}"))
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, fields)| fields.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
