//! The command line: which command, with which flags.

mod apply;
mod completions;
mod demo;
mod doctor;
mod help;
mod line;
mod logs;
mod man;
mod past;
mod run;
pub mod service;
mod show;
mod status;
mod style;
mod usage;

use std::io::Write;
use std::process::ExitCode;

use line::Line;
use usage::Name;

/// The process exit codes. They follow sysexits(3) where it has a fitting one.
pub mod exit {
    pub const OK: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const INTERNAL: u8 = 70;
    pub const LOCKED: u8 = 75;
    pub const VERSION_REFUSED: u8 = 76;
    pub const TOKEN_REJECTED: u8 = 77;
    pub const CONFIG: u8 = 78;
}

pub fn main() -> ExitCode {
    run::hide_memory();
    let code = match line::parse(lexopt::Parser::from_env()) {
        Err(e) => {
            eprintln!("wf0-agent: {e} (see wf0-agent --help)");
            exit::USAGE
        }
        Ok(Line::Help(command)) => print(&help::text(command)),
        Ok(Line::Version) => print(&format!("wf0-agent {}\n", env!("CARGO_PKG_VERSION"))),
        Ok(Line::StandIn) => demo::stand_in(),
        Ok(Line::ByManager(given)) => service::answer(given),
        Ok(Line::Command(request)) => match request.name {
            Name::Run => run::run(request),
            Name::Status => status::run(request),
            Name::Show => show::run(request),
            Name::Logs => logs::run(request),
            Name::Apply => apply::run(request),
            Name::Doctor => doctor::run(request),
            Name::Service => service::run(request),
            Name::Demo => demo::run(request),
            Name::Completions => print(&completions::script(request.text(0))),
            Name::Man => print(&man::page()),
        },
    };
    ExitCode::from(code)
}

fn print(text: &str) -> u8 {
    let mut to = std::io::stdout();
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        // Whoever closes the pipe early has read enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("wf0-agent: standard output: {e}");
            exit::FAILED
        }
        _ => exit::OK,
    }
}
