//! Asks the person at the terminal before the CLI starts for a ticket (`REQUIRE_APPROVAL`).

use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, select};

use super::process::Halt;
use crate::domain::text::{one_line, plain_lines};
use crate::domain::ticket::{FailCode, Failure, Job};

/// If no answer comes within this time, the run ends, and another agent may get the ticket.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// The pause after a read that brought nothing.
const AFTER_END: Duration = Duration::from_secs(1);
/// The pause between two checks whether another worker still asks.
const TURN_PAUSE: Duration = Duration::from_millis(100);
/// How many lines of a prompt are shown. The whole prompt is in a file.
const SHOWN_LINES: usize = 60;
/// How much of a line is shown: a very long line would push the question off the screen.
const SHOWN_CHARS: usize = 300;

/// The terminal, which all workers share. It shows one question at a time.
pub struct Approval {
    answers: Receiver<String>,
    /// The repositories for which the person said "always". A worker may ask only while it holds the lock.
    always: Mutex<HashSet<PathBuf>>,
}

/// The run that the person has to approve.
pub struct Question<'a> {
    pub job: &'a Job,
    pub title: &'a str,
    pub prompt: &'a str,
    pub prompt_file: PathBuf,
}

impl Approval {
    /// Reads answers from standard input, which has to be a terminal.
    pub fn from_terminal() -> io::Result<Self> {
        let (tell, answers) = crossbeam_channel::unbounded();
        // This thread is not joined: nothing can end its read from the terminal, and it owns nothing.
        thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(move || {
                let mut line = String::new();
                while let Ok(length) = io::stdin().lock().read_line(&mut line) {
                    if length == 0 {
                        // Either the person has typed Ctrl-D, which is no answer, or the terminal is gone.
                        thread::sleep(AFTER_END);
                        continue;
                    }
                    if tell.send(std::mem::take(&mut line)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            answers,
            always: Mutex::default(),
        })
    }

    /// Waits for the person's yes.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a person may take to answer is no policy"
    )]
    pub fn ask(&self, question: &Question<'_>, halt: &Halt) -> Result<(), Failure> {
        let mut always = self.my_turn(halt)?;
        let until = Instant::now() + ANSWER_LIMIT;
        if always.contains(&question.job.repo.path) {
            return Ok(());
        }
        // A line that was typed before the question is no answer to it.
        while self.answers.try_recv().is_ok() {}
        say(&question.text());
        loop {
            if let Some(reason) = halt.reason() {
                say("(no longer needed)\n");
                return Err(reason.failure());
            }
            select! {
                recv(self.answers) -> answer => match answer.as_deref().map(str::trim) {
                    Ok("y" | "Y" | "yes") => return Ok(()),
                    Ok("a" | "A" | "always") => {
                        always.insert(question.job.repo.path.clone());
                        return Ok(());
                    }
                    Ok("n" | "N" | "no") => return Err(rejected("the person at the terminal said no")),
                    Ok(_) => say("y (yes), n (no) or a (always for this repository)? "),
                    Err(_) => return Err(rejected("the terminal is gone")),
                },
                recv(halt.orders()) -> order => halt.note(order),
                recv(after(until.saturating_duration_since(Instant::now()))) -> _ => {
                    say("(no answer: taken for a no)\n");
                    return Err(rejected("nobody answered at the terminal"));
                }
            }
        }
    }

    /// Waits until no other worker asks, or until the run is stopped.
    fn my_turn(&self, halt: &Halt) -> Result<MutexGuard<'_, HashSet<PathBuf>>, Failure> {
        let mut pause = Duration::ZERO;
        loop {
            if let Some(reason) = halt.pause(pause) {
                return Err(reason.failure());
            }
            if let Ok(always) = self.always.try_lock() {
                return Ok(always);
            }
            pause = TURN_PAUSE;
        }
    }
}

impl Question<'_> {
    fn text(&self) -> String {
        let Job { ticket, repo, .. } = self.job;
        let mut text = format!(
            "\nTicket {}: {}\n  role: {}\n  repository: {}\n  prompt:\n",
            ticket.id,
            self.title,
            ticket.role,
            repo.path.display()
        );
        let mut lines = plain_lines(self.prompt);
        for line in lines.by_ref().take(SHOWN_LINES) {
            text.push_str(&format!("  | {}\n", one_line(&line, SHOWN_CHARS)));
        }
        let more = lines.count();
        if more > 0 {
            text.push_str(&format!(
                "  … {more} more lines in {}\n",
                self.prompt_file.display()
            ));
        }
        text.push_str("Run it? y (yes), n (no), a (always for this repository): ");
        text
    }
}

fn rejected(why: &str) -> Failure {
    Failure::new(FailCode::Rejected, why)
}

/// Ignores errors: a terminal that takes no text gives no answer either.
fn say(text: &str) {
    let mut terminal = io::stderr().lock();
    let written = terminal.write_all(text.as_bytes());
    let _ = written.and_then(|()| terminal.flush());
}
