//! Reads what `git diff-tree --numstat --patch` wrote: the numbers, and the patch file by file. Not how it is asked for.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::domain::ticket::DiffStat;
use crate::store::{PATCH, RunFolder};

/// What `diff-tree` wrote, as far as it may be sent.
pub enum Patch {
    Text(String),
    TooLarge,
    NotUtf8(Vec<u8>),
}

/// Takes apart what `diff-tree --numstat --patch` wrote: lines of numbers, an empty line, the patch. The patch
/// goes to [`PATCH`], and into memory if it is no larger than `max`.
pub fn split(raw: &Path, folder: &RunFolder, max: usize) -> io::Result<(DiffStat, Patch)> {
    let mut raw = io::BufReader::new(File::open(raw)?);
    let mut stat = DiffStat::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        io::BufRead::read_until(&mut raw, b'\n', &mut line)?;
        if line.is_empty() || line == b"\n" {
            break;
        }
        count(&mut stat, &String::from_utf8_lossy(&line));
    }
    // Under its own name only when it is whole: a run in a clone leaves nothing else behind.
    let unfinished = "scratch/diff.patch";
    let mut patch = folder.create(unfinished)?;
    let mut kept = Vec::new();
    raw.by_ref().take(max as u64 + 1).read_to_end(&mut kept)?;
    patch.write_all(&kept)?;
    io::copy(&mut raw, &mut patch)?;
    fs::rename(folder.path(unfinished), folder.path(PATCH))?;
    if kept.len() > max {
        return Ok((stat, Patch::TooLarge));
    }
    Ok((
        stat,
        String::from_utf8(kept).map_or_else(|e| Patch::NotUtf8(e.into_bytes()), Patch::Text),
    ))
}

/// `insertions TAB deletions TAB name`; dashes for a binary file.
fn count(stat: &mut DiffStat, line: &str) {
    let mut numbers = line.split('\t').map(|field| field.parse().unwrap_or(0));
    stat.files += 1;
    stat.insertions += numbers.next().unwrap_or(0);
    stat.deletions += numbers.next().unwrap_or(0);
}

/// The names, as they stand in the patch (`b/name`, quoted where git quotes), of the files whose part is not UTF-8.
pub fn names_of_non_utf8(patch: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for part in parts(patch).filter(|part| std::str::from_utf8(part).is_err()) {
        for line in part
            .split(|b| *b == b'\n')
            .take_while(|line| !line.starts_with(b"@@"))
        {
            let name = line
                .strip_prefix(b"+++ ")
                .or_else(|| line.strip_prefix(b"--- "));
            let name = name.map(|name| {
                String::from_utf8_lossy(name)
                    .trim_end_matches('\t')
                    .to_owned()
            });
            names.extend(name.filter(|name| name != "/dev/null"));
        }
    }
    names
}

/// The patch file by file.
fn parts(patch: &[u8]) -> impl Iterator<Item = &[u8]> {
    const START: &[u8] = b"diff --git ";
    let mut rest = patch;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // A line of a file's content never begins so: it has a sign or a space before it.
        let end = rest
            .windows(START.len() + 1)
            .position(|w| w[0] == b'\n' && &w[1..] == START);
        let (part, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = after;
        Some(part)
    })
}

/// `a/src/x.c` or `"a/na\303\257ve.c"` as a pattern that matches just this file.
pub fn attribute_pattern(name: &str) -> String {
    let (quoted, bare) = match name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
    {
        Some(bare) => (true, bare),
        None => (false, name),
    };
    let path = bare.get(1..).unwrap_or_default();
    let mut pattern = String::new();
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') && !(quoted && c == '\\') {
            // Within quotes a backslash must itself be escaped to reach the pattern.
            pattern.push_str(if quoted { "\\\\" } else { "\\" });
        }
        pattern.push(c);
    }
    if quoted || pattern.contains(' ') {
        format!(
            "\"{}\"",
            if quoted {
                pattern
            } else {
                pattern.replace('\\', "\\\\")
            }
        )
    } else {
        pattern
    }
}
