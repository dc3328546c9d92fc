//! Carries out one ticket: payload, prompt, approval, workspace, snapshot, CLI, diff, branch. Each run has exactly one
//! outcome.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::approval::{Approval, Question};
use super::branch::BranchWork;
use super::capture::Capture;
use super::cli::Cli;
use super::cli::output::CliOutput;
use super::diff::Snapshot;
use super::git::GitError;
use super::payload::Downloads;
use super::process::{self, Halt, Process, ProcessEnd, Spec, lock};
use super::scratch::RunGit;
use super::tool;
use super::workspace::{self, RunClone};
use crate::config::{Limits, ProgressConfig};
use crate::domain::event::JobEvent;
use crate::domain::invocation::{Template, Values, prompt, title_line};
use crate::domain::repos::Workspace;
use crate::domain::ticket::{FailCode, Failure, Job, Outcome, Phase, Progress, RunId, Span};
use crate::environment::{Environment, TICKET};
use crate::store::Store;
use crate::store::journal::{RunFolder, Started};
use crate::times::millis;

/// Limit on what is kept of stderr; only its end is ever sent.
const STDERR_MAX: usize = 64 << 10;
/// The time limit for each git command of a stopped run. If a command takes longer, no other follows. The session waits
/// ten seconds longer than the grace period.
const STOPPED_GIT_LIMIT: Duration = Duration::from_secs(2);
const PROMPT: &str = "prompt.md";

/// What every run needs, whatever its ticket is.
pub struct Context {
    pub cli: Cli,
    /// Asks a person before each run.
    pub approval: Option<Approval>,
    pub downloads: Downloads,
    pub environment: Environment,
    pub grace: Duration,
    pub progress: ProgressConfig,
    pub limits: Limits,
    /// How long a run's folder stays after its outcome was delivered.
    pub keep_delivered: Duration,
    pub store: Arc<Store>,
}

/// Posts what happens in runs.
pub type Post = Box<dyn Fn(RunId, JobEvent) + Send>;

/// A job for a worker.
pub struct Task {
    pub job: Box<Job>,
    /// The backend cannot be reached.
    pub offline: bool,
}

/// One run, and what is known of its outcome so far.
pub struct Run<'a> {
    context: &'a Context,
    job: &'a Job,
    args: &'a Template,
    at: RunGit<'a>,
    progress: ProgressReports<'a>,
    /// The clone that the CLI works in. `None`: it works in the repository itself.
    clone: Option<RunClone>,
    outcome: Outcome,
}

/// The prompt, as text and as a file that is open for reading.
struct Prompt {
    text: String,
    title: String,
    file: File,
}

impl<'a> Run<'a> {
    pub fn new(
        context: &'a Context,
        task: &'a Task,
        folder: &'a RunFolder,
        halt: &'a Halt,
        post: &'a Post,
    ) -> Self {
        Self {
            context,
            job: &task.job,
            args: context.cli.args(task.offline),
            at: RunGit {
                environment: &context.environment,
                run: task.job.run,
                folder,
                halt,
            },
            progress: ProgressReports::start(context.progress, task.job.run, post),
            clone: None,
            outcome: Outcome::default(),
        }
    }

    pub fn carry_out(mut self) -> Outcome {
        if let Err(failure) = self.try_carry_out() {
            self.outcome.failure = Some(failure);
        }
        self.outcome.span = Some(self.progress.span());
        self.outcome.bounded()
    }

    fn try_carry_out(&mut self) -> Result<(), Failure> {
        let (job, at) = (self.job, self.at);
        let prompt = self.prompt()?;
        if job.repo.workspace == Workspace::Clone {
            let made = RunClone::make(at, &job.repo.path, &mut self.outcome.warnings);
            self.clone = Some(made.map_err(no_clone)?);
        }
        let title = prompt.title.clone();
        let branch = match (&job.ticket.branch, &mut self.clone) {
            (Some(branch), Some(clone)) => {
                Some(BranchWork::check_out(at, clone, job, branch, &title)?)
            }
            _ => None,
        };
        self.run_cli(prompt, branch.as_ref())?;
        if let Some(branch) = branch {
            if let Some(to) = branch.destination() {
                self.context.store.audit.pushed(job, branch.name(), &to);
            }
            self.outcome.pull_request = branch.publish(&mut self.outcome.warnings)?;
        }
        Ok(())
    }

    /// Assembles the prompt, and asks a person to approve it if that is required.
    fn prompt(&mut self) -> Result<Prompt, Failure> {
        let ticket = &self.job.ticket;
        self.progress.report(Phase::Preparing, None);
        let (downloads, warnings) = (&self.context.downloads, &mut self.outcome.warnings);
        let brief = downloads.complete(ticket, self.at.halt, warnings)?;
        self.progress.report(Phase::Preparing, None);
        let (text, title) = (prompt(ticket, &brief), title_line(&brief));
        let file = self.at.folder.write(PROMPT, text.as_bytes());
        let file = file.map_err(state_failed)?;
        if let Some(approval) = &self.context.approval {
            let question = Question {
                job: self.job,
                title: &title,
                prompt: &text,
                prompt_file: self.at.folder.path(PROMPT),
            };
            approval.ask(&question, self.at.halt)?;
        }
        Ok(Prompt { text, title, file })
    }

    /// Takes the snapshot, runs the CLI, and takes the diff.
    fn run_cli(&mut self, prompt: Prompt, branch: Option<&BranchWork<'_>>) -> Result<(), Failure> {
        let args = self.arguments(&prompt)?;
        let mut snapshot = self.snapshot()?;
        self.progress.report(Phase::Running, None);
        let stdout_max = self.context.limits.stdout_bytes;
        let mut stdout = self.capture("stdout.log", stdout_max)?;
        if self.context.progress.lines {
            stdout = stdout.with_lines();
        }
        let stdout = Arc::new(Mutex::new(CliOutput::new(stdout, self.cwd())));
        let stderr = Arc::new(Mutex::new(self.capture("stderr.log", STDERR_MAX)?));
        self.note_start(snapshot.as_ref())?;
        let started = self.start(&args, prompt, &stdout, &stderr);
        let process = started.inspect_err(|_| {
            // The clone has no work in it. Without a diff the clean-up would keep it.
            let _ = self.at.folder.remove_clone();
        })?;
        if let Some(snapshot) = &mut snapshot {
            snapshot.start_before();
        }
        let end = process.wait(self.at.halt, Some(self.context.progress.every), || {
            self.progress
                .report(Phase::Running, Some(&mut lock(&stdout)));
        });

        let (mut stdout, mut stderr) = (lock(&stdout), lock(&stderr));
        self.progress.report(Phase::Collecting, Some(&mut stdout));
        stdout.finish();
        stdout.tell(&mut self.outcome, stdout_max);
        self.note_end(&end, &stdout.bytes, &stderr);
        let failure = stdout.failure(&end, &stderr.excerpt(), &self.context.cli.quota);
        if let Some(branch) = branch.filter(|_| failure.is_none()) {
            branch.commit(&mut self.outcome.warnings);
        }
        let stopped = self.collect(snapshot);
        if self.clone.is_some() && self.outcome.changes.stat.is_none() {
            let only_there = workspace::only_in(self.at.folder);
            self.outcome.warn(only_there);
        }
        match failure.or(stopped) {
            Some(failure) => Err(failure),
            None => {
                let oddity = stdout.oddity(&self.outcome, self.context.cli.is_known());
                self.outcome.warnings.extend(oddity.map(str::to_owned));
                Ok(())
            }
        }
    }

    /// Where the CLI works.
    fn cwd(&self) -> &Path {
        let clone = self.clone.as_ref();
        clone.map_or(&self.job.repo.path, |clone| &clone.cwd)
    }

    fn arguments(&self, prompt: &Prompt) -> Result<Vec<OsString>, Failure> {
        let prompt_file = self.at.folder.path(PROMPT);
        let values = Values {
            cwd: &self.cwd().to_string_lossy(),
            prompt: &prompt.text,
            prompt_file: &prompt_file.to_string_lossy(),
            ticket_id: self.job.ticket.id.as_str(),
            role: self.job.ticket.role.as_str(),
            title: &prompt.title,
        };
        let args = self.args.fill(&values);
        let args = args.map_err(|e| Failure::new(FailCode::InvalidTicket, e.to_string()))?;
        Ok(args.into_iter().map(OsString::from).collect())
    }

    fn capture(&self, name: &str, max: usize) -> Result<Capture, Failure> {
        let file = self.at.folder.create(name).map_err(state_failed)?;
        Ok(Capture::new(max, Some(file)))
    }

    /// If there is no git, or git fails, the run goes on without a diff, and a warning says so. But a run in a clone
    /// ends: the clone is removed later, so without a diff nothing would be left of the CLI's work.
    fn snapshot(&mut self) -> Result<Option<Snapshot<'a>>, Failure> {
        let why = match Snapshot::take(self.at, self.cwd()) {
            Ok(Some(snapshot)) => return Ok(Some(snapshot)),
            Ok(None) => "the folder is not in a git repository".to_owned(),
            Err(GitError::Stopped(reason)) => return Err(reason.failure()),
            Err(e) if self.clone.is_some() => return Err(no_clone(e)),
            Err(e) => e.to_string(),
        };
        self.outcome.warn(format!("no diff: {why}"));
        Ok(None)
    }

    /// Records that the run has started. If the daemon dies after this, the next one does not start the run again.
    /// Without the record it would, so if the write fails, the run must not start.
    fn note_start(&self, snapshot: Option<&Snapshot<'_>>) -> Result<(), Failure> {
        let clone = self.clone.as_ref();
        let started = Started {
            at_ms: millis(self.progress.started_at),
            base_commit: snapshot.and_then(Snapshot::base_commit).map(str::to_owned),
            clone: clone.map(|clone| clone.within.clone()),
        };
        self.at.folder.keep_start(&started).map_err(state_failed)
    }

    fn start(
        &self,
        args: &[OsString],
        prompt: Prompt,
        stdout: &Arc<Mutex<CliOutput>>,
        stderr: &Arc<Mutex<Capture>>,
    ) -> Result<Process, Failure> {
        let (cli, environment) = (&self.context.cli, &self.context.environment);
        let mut env = environment.for_cli();
        env.push((TICKET.into(), self.job.ticket.id.as_str().into()));
        let Some(program) = tool::find(&cli.command, environment.get("PATH")) else {
            let error = tool::not_found(&cli.command, environment);
            return Err(Failure::new(FailCode::CliNotFound, error));
        };
        let spec = Spec {
            program: &program,
            args,
            cwd: self.cwd(),
            env,
            mark: Some(environment.mark_of(self.job.run)),
            stdin: self.args.prompt_on_stdin().then_some(prompt.file),
            stdout: None,
            limit: self.job.time_limit,
            grace: self.context.grace,
        };
        let process = process::start(spec, stdout.clone(), stderr.clone())
            .map_err(|e| self.start_failed(&e, &program, prompt.text.len()))?;
        let audit = &self.context.store.audit;
        audit.started(self.job, &program, args, self.cwd(), &prompt.text);
        Ok(process)
    }

    fn start_failed(&self, e: &io::Error, program: &Path, prompt_len: usize) -> Failure {
        let as_argument = self.args.prompt_as_argument();
        let cwd = self.cwd();
        let stdin = "leave {prompt} out of CLI_ARGS_TEMPLATE and it goes to stdin";
        let hint = match e.kind() {
            _ if !cwd.is_dir() => format!(": the folder {} is gone", cwd.display()),
            // The program was there a moment ago.
            io::ErrorKind::NotFound => {
                ": it, or the interpreter its first line names, is missing".to_owned()
            }
            io::ErrorKind::ArgumentListTooLong if as_argument => {
                format!(": the prompt of {prompt_len} bytes is too long for an argument; {stdin}")
            }
            io::ErrorKind::InvalidInput if as_argument && tool::is_shim(program) => {
                format!(": an argument of a .cmd file has no more than one line; {stdin}")
            }
            _ if is_foreign_format(e) => format!(
                ": it is no program for this system ({}): a script needs #! and its interpreter in the first line, a binary must be built for this machine",
                std::env::consts::ARCH
            ),
            _ => String::new(),
        };
        let code = match e.kind() {
            io::ErrorKind::PermissionDenied if cwd.is_dir() => FailCode::CliNotFound,
            _ => FailCode::SpawnFailed,
        };
        let program = program.display();
        Failure::new(code, format!("{program} cannot be started: {e}{hint}"))
    }

    fn note_end(&mut self, end: &ProcessEnd, stdout: &Capture, stderr: &Capture) {
        self.outcome.exit = end.exit;
        let survivors = end.survivors;
        if survivors > 0 {
            let warning = format!("{survivors} processes of the run could not be ended");
            self.outcome.warn(warning);
        }
        for (name, stream) in [("stdout", stdout), ("stderr", stderr)] {
            if let Some(e) = stream.file_error() {
                let warning = format!("not all of {name} is on disk: {e}");
                self.outcome.warn(warning);
            }
        }
    }

    /// Takes the diff, also of a failed run. A stopped run gets it if git is quick. If the stop comes while git works,
    /// there is no diff, and the stop is the outcome.
    fn collect(&mut self, snapshot: Option<Snapshot<'_>>) -> Option<Failure> {
        let (max, never) = (self.context.limits.diff_bytes, Halt::never());
        let mut snapshot = snapshot?;
        if self.at.halt.reason().is_some() {
            snapshot = snapshot.within(STOPPED_GIT_LIMIT, &never);
        }
        match snapshot.changes(max, &mut self.outcome.warnings) {
            Ok(changes) => self.outcome.changes = changes,
            Err(GitError::Stopped(reason)) => return Some(reason.failure()),
            Err(e) => self.outcome.warn(format!("no diff: {e}")),
        }
        None
    }
}

pub fn state_failed(e: io::Error) -> Failure {
    let error = format!("the agent's state folder cannot be used: {e}");
    Failure::new(FailCode::Internal, error)
}

fn no_clone(e: GitError) -> Failure {
    if let GitError::Stopped(reason) = e {
        return reason.failure();
    }
    let error = format!("the ticket's own clone of the repository cannot be made: {e}");
    Failure::new(FailCode::Internal, error)
}

/// Whether the error is ENOEXEC, on macOS also EBADARCH, on Windows ERROR_BAD_EXE_FORMAT.
fn is_foreign_format(e: &io::Error) -> bool {
    let codes: &[i32] = match () {
        () if cfg!(windows) => &[193],
        () if cfg!(target_os = "macos") => &[8, 86],
        () => &[8],
    };
    e.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// The clock of a run, and its progress reports: the first one after a period, then at most one per period.
struct ProgressReports<'a> {
    config: ProgressConfig,
    run: RunId,
    post: &'a Post,
    started: Instant,
    started_at: SystemTime,
    /// When the last report was posted, counted from the start.
    last: Duration,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a run took is measured, not decided upon"
)]
impl<'a> ProgressReports<'a> {
    fn start(config: ProgressConfig, run: RunId, post: &'a Post) -> Self {
        Self {
            config,
            run,
            post,
            started: Instant::now(),
            started_at: SystemTime::now(),
            last: Duration::ZERO,
        }
    }

    fn span(&self) -> Span {
        Span {
            started_at: self.started_at,
            finished_at: SystemTime::now(),
            duration: self.started.elapsed(),
        }
    }

    /// Posts a report if one is due. `stdout`: the CLI's output since its start; `None` if the CLI has not started.
    fn report(&mut self, phase: Phase, stdout: Option<&mut CliOutput>) {
        let elapsed = self.started.elapsed();
        if elapsed < self.last + self.config.every {
            return;
        }
        self.last = elapsed;
        let mut progress = Progress {
            phase,
            elapsed,
            stdout_bytes: 0,
            lines: Vec::new(),
        };
        if let Some(stdout) = stdout {
            progress.stdout_bytes = stdout.bytes.total();
            if self.config.lines {
                progress.lines = stdout.take_lines();
            }
        }
        (self.post)(self.run, JobEvent::Progress(progress));
    }
}
