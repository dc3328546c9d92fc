//! The built-in stand-in for a coding CLI: reads the prompt, changes the demo's repository, says what it did.

use std::fs;
use std::io::{self, Read};

use clap::ArgMatches;

use super::scratch::FILE;
use crate::commands::exit;

/// The hidden command that runs it.
pub const NAME: &str = "demo-stand-in";
pub const ADDED_LINE: &str = "+def greet(name=\"world\"):";
pub const NEW_FILE: &str = "test_greeter.py";
pub const LAST_LINE: &str = "Done: 1 file changed, 1 file added.";

const CHANGED: &str = "def greet(name=\"world\"):\n    return f\"Hello, {name}!\"\n";
const TEST: &str = "from greeter import greet\n\nassert greet(\"Ada\") == \"Hello, Ada!\"\n";

pub fn run(_: &ArgMatches) -> u8 {
    match work() {
        Ok(heading) => {
            println!("I was asked: {heading}\nChanging {FILE} …\nAdding {NEW_FILE} …\n{LAST_LINE}");
            exit::OK
        }
        Err(e) => {
            eprintln!("the stand-in failed: {e}");
            exit::FAILED
        }
    }
}

fn work() -> io::Result<String> {
    let mut prompt = String::new();
    io::stdin().read_to_string(&mut prompt)?;
    let heading = prompt
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# "));
    let heading =
        heading.ok_or_else(|| io::Error::other("there is no prompt on standard input"))?;
    // Only the demo's own repository is ever changed, whoever calls.
    fs::metadata(FILE)?;
    fs::write(FILE, CHANGED)?;
    fs::write(NEW_FILE, TEST)?;
    Ok(heading.to_owned())
}
