//! Writes the shells' completions and the man pages into a folder: cargo run --example completions -- FOLDER.
//! `scripts/build-release` puts them into the archives. They are made from the definition of the command line.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("which folder?")?;
    write_all(Path::new(&folder))
}

pub fn write_all(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (completions, man) = (folder.join("completions"), folder.join("man"));
    fs::create_dir_all(&completions)?;
    fs::create_dir_all(&man)?;
    let definition = wf0_agent::commands::definition(&[]);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
        clap_complete::generate_to(shell, &mut definition.clone(), "wf0-agent", &completions)?;
    }
    // The name by which releases have always had it.
    fs::rename(
        completions.join("_wf0-agent.ps1"),
        completions.join("wf0-agent.ps1"),
    )?;
    clap_mangen::generate_to(definition, &man)?;
    Ok(())
}
