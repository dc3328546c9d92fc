//! One ticket from start to end: payload, prompt, workspace, snapshot, CLI, diff, outcome. Exactly one outcome each.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use log::warn;

use super::approval::{Approval, Question};
use super::branch::OnBranch;
use super::capture::Capture;
use super::chores::Chores;
use super::cli::reading::Reading;
use super::cli::{Cli, find};
use super::diff::Snapshot;
use super::git::GitError;
use super::halt::Halt;
use super::output::Output;
use super::payload::Downloads;
use super::process::{self, Process, Shared, Sink, Spec};
use super::verdict;
use super::workspace::{self, OwnClone};
use crate::config::{Limits, ProgressConfig, Token};
use crate::domain::event::JobEvent;
use crate::domain::invocation::{Template, Values, prompt, title_line};
use crate::domain::repos::Workspace;
use crate::domain::ticket::{
    FailCode, Failure, Job, Outcome, Phase, Progress, RunId, Span, StopReason,
};
use crate::environment::{Environment, TICKET};
use crate::net::Route;
use crate::store::journal::Started;
use crate::store::{RunFolder, Store, audit};
use crate::times::millis;

/// How much of stderr is kept; only its end is ever sent.
const STDERR_MAX: usize = 64 << 10;

/// A worker without a run ends at once; one with a run has been told to end it.
const JOIN_LIMIT: Duration = Duration::from_secs(1);

/// For each git command of a run that was told to end: there are about five of them, and the session waits ten
/// seconds longer than the grace.
const STOPPED_GIT_LIMIT: Duration = Duration::from_secs(2);

/// What every run needs, whatever its ticket.
pub struct Context {
    pub cli: Cli,
    /// Where a person is asked before each run.
    pub approval: Option<Approval>,
    pub downloads: DownloadsFrom,
    pub environment: Environment,
    pub grace: Duration,
    pub progress: ProgressConfig,
    pub limits: Limits,
    pub store: Arc<Store>,
}

/// Where payloads come from.
pub struct DownloadsFrom {
    pub route: Route,
    pub token: Token,
}

/// Where a worker posts what happens in its runs.
pub type Post = Box<dyn Fn(RunId, JobEvent) + Send>;

struct Task {
    job: Box<Job>,
    /// The backend cannot be reached.
    offline: bool,
}

/// One worker thread: one run at a time.
pub struct Worker {
    tasks: Sender<Task>,
    stops: Sender<(RunId, StopReason)>,
    thread: JoinHandle<()>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

impl Worker {
    pub fn start(
        slot: usize,
        context: Arc<Context>,
        chores: Chores,
        post: Post,
    ) -> io::Result<Self> {
        let (tasks, inbox) = crossbeam_channel::unbounded();
        let (stops, orders) = crossbeam_channel::unbounded();
        let (end, ended) = crossbeam_channel::bounded(0);
        let thread = thread::Builder::new()
            .name(format!("worker-{slot}"))
            .spawn(move || {
                let _end = end;
                let DownloadsFrom { route, token } = &context.downloads;
                let downloads = Downloads::new(route.clone(), token.clone(), context.store.clone());
                loop {
                    let Task { job, offline } = select! {
                        recv(inbox) -> task => match task {
                            Ok(task) => task,
                            Err(_) => break,
                        },
                        recv(chores.list()) -> chore => {
                            chore.iter().for_each(|chore| chore.carry_out(&context));
                            continue;
                        }
                    };
                    let folder = context.store.run_folder(job.run);
                    folder
                        .iter()
                        .for_each(|folder| clear(folder, &job, &context));
                    let args = context.cli.args(offline);
                    let outcome =
                        carry_out(&job, args, &context, &downloads, &folder, &orders, &post);
                    post(job.run, JobEvent::Finished(Arc::new(outcome)));
                }
                chores
                    .list()
                    .try_iter()
                    .for_each(|chore| chore.carry_out(&context));
            })?;
        Ok(Self {
            tasks,
            stops,
            thread,
            ended,
        })
    }

    /// To be given a job only when the last one has finished.
    pub fn run(&self, job: Box<Job>, offline: bool) {
        if self.tasks.send(Task { job, offline }).is_err() {
            panic!("a worker thread is gone");
        }
    }

    /// Ends that run, if it is still the one under way.
    pub fn stop(&self, run: RunId, reason: StopReason) {
        if self.stops.send((run, reason)).is_err() {
            panic!("a worker thread is gone");
        }
    }

    /// Lets the worker end. One whose run could not be ended in time is left to the end of the process.
    pub fn join(self) {
        let Self {
            tasks,
            stops,
            thread,
            ended,
        } = self;
        drop((tasks, stops));
        match ended.recv_timeout(JOIN_LIMIT) {
            Err(RecvTimeoutError::Timeout) => warn!("a worker is still busy and is left behind"),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    panic!("a worker thread has panicked");
                }
            }
        }
    }
}

/// Of a run that was cut off before its program started: its git may still be at it.
fn clear(folder: &RunFolder, job: &Job, context: &Context) {
    if folder.path("scratch").exists() || folder.clone_path().exists() {
        process::end_marked(context.environment.mark_of_git(job.run), context.grace);
    }
    folder.remove_scratch();
}

fn carry_out(
    job: &Job,
    args: &Template,
    context: &Context,
    downloads: &Downloads,
    folder: &io::Result<RunFolder>,
    orders: &Receiver<(RunId, StopReason)>,
    post: &Post,
) -> Outcome {
    let halt = Halt::new(orders.clone(), job.run);
    let report = Report {
        job,
        config: context.progress,
        post,
        clock: Clock::start(),
        last: Duration::ZERO,
        stdout_bytes: 0,
    };
    let mut run = Run {
        job,
        args,
        context,
        halt: &halt,
        report,
        clone: None,
        outcome: Outcome::default(),
    };
    let folder = folder.as_ref().map_err(state_failed);
    if let Err(failure) = folder.and_then(|folder| run.carry_out(folder, downloads)) {
        run.outcome.failure = Some(failure);
    }
    run.outcome.span = Some(run.report.clock.span());
    run.outcome.bounded()
}

/// A run under way, and what is known of its outcome so far.
struct Run<'a> {
    job: &'a Job,
    args: &'a Template,
    context: &'a Context,
    halt: &'a Halt,
    report: Report<'a>,
    /// What the CLI works in; `None`: the repository itself.
    clone: Option<OwnClone>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn carry_out(&mut self, folder: &RunFolder, downloads: &Downloads) -> Result<(), Failure> {
        self.report.phase(Phase::Preparing);
        let brief = downloads.complete(&self.job.ticket, self.halt, &mut self.outcome.warnings)?;
        self.report.phase(Phase::Preparing);
        let prompt = prompt(&self.job.ticket, &brief);
        let title = title_line(&brief);
        let prompt_file = folder
            .write("prompt.md", prompt.as_bytes())
            .map_err(|e| state_failed(&e))?;
        if let Some(approval) = &self.context.approval {
            let prompt_file = folder.path("prompt.md");
            approval.ask(
                &Question {
                    job: self.job,
                    title: &title,
                    prompt: &prompt,
                    prompt_file,
                },
                self.halt,
            )?;
        }
        self.make_clone(folder)?;
        let args = self.arguments(&folder.path("prompt.md"), &prompt, &title)?;
        let stdin = self.args.prompt_on_stdin().then_some(prompt_file);

        let Some(branch) = self.check_out()? else {
            return self.run_cli(folder, &args, &prompt, stdin, None);
        };
        self.run_cli(folder, &args, &prompt, stdin, Some((&branch, &title)))?;
        if let Some(to) = branch.destination() {
            let Job { ticket, run, .. } = self.job;
            self.context
                .store
                .audit()
                .pushed(&ticket.id, *run, branch.name(), &to);
        }
        self.outcome.pull_request =
            branch.publish(&title, self.halt, &mut self.outcome.warnings)?;
        Ok(())
    }

    fn check_out(&mut self) -> Result<Option<OnBranch<'a>>, Failure> {
        let (job, context, halt) = (self.job, self.context, self.halt);
        let (Some(branch), Some(clone)) = (&job.ticket.branch, &mut self.clone) else {
            return Ok(None);
        };
        OnBranch::check_out(&context.environment, clone, job, branch, halt).map(Some)
    }

    /// From the snapshot before to the diff after.
    fn run_cli(
        &mut self,
        folder: &RunFolder,
        args: &[OsString],
        prompt: &str,
        stdin: Option<File>,
        branch: Option<(&OnBranch<'_>, &str)>,
    ) -> Result<(), Failure> {
        let snapshot = self.snapshot(folder)?;
        self.report.phase(Phase::Running);
        let stdout = capture(folder, "stdout.log", self.context.limits.stdout_bytes)
            .map_err(|e| state_failed(&e))?;
        let stderr = capture(folder, "stderr.log", STDERR_MAX).map_err(|e| state_failed(&e))?;
        let stdout = if self.report.config.lines {
            stdout.with_lines()
        } else {
            stdout
        };
        let stdout = Shared::of(Output::read(stdout, Reading::new(self.cwd())));
        let stderr = Shared::new(stderr);
        self.note_start(folder, snapshot.as_ref())?;
        let process = self
            .start(args, prompt, stdin, [&stdout, &stderr])
            .inspect_err(|_| {
                // Nothing has worked in it, and without a diff it would be kept.
                let _ = folder.remove_clone();
            })?;
        let snapshot = self.settle(snapshot);
        let every = self.report.config.every;
        let ended = process.wait(self.halt, Some(every), || self.report.running(&stdout));

        self.report.stdout_bytes = stdout.lock().bytes.total();
        self.report.phase(Phase::Collecting);
        let (mut stdout, mut stderr) = (stdout.lock(), stderr.lock());
        stdout.finish();
        self.outcome.stdout = stdout.message(self.context.limits.stdout_bytes);
        self.outcome.usage = stdout.usage();
        self.outcome.warnings.extend(stdout.warnings());
        self.outcome.exit = ended.exit;
        if ended.survivors > 0 {
            self.outcome.warnings.push(format!(
                "{} processes of the run could not be ended",
                ended.survivors
            ));
        }
        for (name, output) in [("stdout", &stdout), ("stderr", &stderr)] {
            if let Some(e) = output.bytes.file_error() {
                self.outcome
                    .warnings
                    .push(format!("not all of {name} is on disk: {e}"));
            }
        }
        let failure =
            verdict::failure_of(&ended, &mut stdout, &mut stderr, &self.context.cli.quota);
        if let Some((branch, title)) = branch.filter(|_| failure.is_none()) {
            branch.commit(title, folder, self.halt, &mut self.outcome.warnings);
        }
        let stopped = self.collect(snapshot);
        self.judge_clone(folder);
        match failure.or(stopped) {
            Some(failure) => Err(failure),
            None => {
                self.outcome.warnings.extend(verdict::oddity(
                    &self.outcome,
                    &stdout,
                    self.context.cli.is_known(),
                ));
                Ok(())
            }
        }
    }

    fn arguments(
        &self,
        prompt_file: &Path,
        prompt: &str,
        title: &str,
    ) -> Result<Vec<OsString>, Failure> {
        let values = Values {
            cwd: &self.cwd().to_string_lossy(),
            prompt,
            prompt_file: &prompt_file.to_string_lossy(),
            ticket_id: self.job.ticket.id.as_str(),
            role: self.job.ticket.role.as_str(),
            title,
        };
        let args = self
            .args
            .fill(&values)
            .map_err(|e| Failure::new(FailCode::InvalidTicket, e.to_string()))?;
        Ok(args.into_iter().map(OsString::from).collect())
    }

    /// Where the CLI works.
    fn cwd(&self) -> &Path {
        self.clone
            .as_ref()
            .map_or(&self.job.repo.path, OwnClone::cwd)
    }

    fn make_clone(&mut self, folder: &RunFolder) -> Result<(), Failure> {
        if self.job.repo.workspace == Workspace::Clone {
            let (environment, path) = (&self.context.environment, &self.job.repo.path);
            let (run, warnings) = (self.job.run, &mut self.outcome.warnings);
            let made = OwnClone::make(environment, run, path, folder, self.halt, warnings);
            self.clone = Some(made.map_err(|e| no_clone(&e))?);
        }
        Ok(())
    }

    /// Without git, or where git fails, the run goes on without a diff, and says so. Not so in a clone, which is
    /// removed: without a diff nothing would be left of what the CLI did.
    fn snapshot<'f>(&mut self, folder: &'f RunFolder) -> Result<Option<Snapshot<'f>>, Failure> {
        let taken = Snapshot::take(
            &self.context.environment,
            self.job.run,
            self.cwd(),
            folder,
            self.halt,
        );
        match taken {
            Ok(Some(snapshot)) => return Ok(Some(snapshot)),
            Ok(None) => self
                .outcome
                .warnings
                .push("no diff: the folder is not in a git repository".to_owned()),
            Err(GitError::Stopped(reason)) => return Err(reason.failure()),
            Err(e) if self.clone.is_some() => return Err(no_clone(&e)),
            Err(e) => self.outcome.warnings.push(format!("no diff: {e}")),
        }
        Ok(None)
    }

    /// Should the daemon die from here on, the next one takes the run for started. Without this on disk it is not
    /// started: it might run a second time beside itself.
    fn note_start(
        &mut self,
        folder: &RunFolder,
        snapshot: Option<&Snapshot<'_>>,
    ) -> Result<(), Failure> {
        let base_commit = snapshot.and_then(Snapshot::base_commit).map(str::to_owned);
        let clone = self.clone.as_ref().map(|clone| clone.within().to_owned());
        let started = Started {
            at_ms: millis(self.report.clock.wall),
            base_commit,
            clone,
        };
        folder.keep_start(&started).map_err(|e| state_failed(&e))
    }

    /// While the CLI runs, git does what it can do ahead.
    fn settle<'f>(&mut self, mut snapshot: Option<Snapshot<'f>>) -> Option<Snapshot<'f>> {
        match snapshot.as_mut().map_or(Ok(()), Snapshot::settle) {
            Ok(()) => snapshot,
            Err(e) => {
                self.outcome.warnings.push(format!("no diff: {e}"));
                None
            }
        }
    }

    fn start(
        &self,
        args: &[OsString],
        prompt: &str,
        stdin: Option<File>,
        [stdout, stderr]: [&Shared; 2],
    ) -> Result<Process, Failure> {
        let cli = &self.context.cli;
        let mut env = self.context.environment.for_cli();
        env.push((TICKET.into(), self.job.ticket.id.as_str().into()));
        let path_variable = self.context.environment.get("PATH");
        let Some(program) = find::program(&cli.command, path_variable) else {
            let searched = path_variable.unwrap_or_default().to_string_lossy();
            let error = format!(
                "{} was not found or is not executable (searched PATH: {searched})",
                cli.command
            );
            return Err(Failure::new(FailCode::CliNotFound, error));
        };
        let spec = Spec {
            program: &program,
            args,
            cwd: self.cwd(),
            env,
            mark: Some(self.context.environment.mark_of(self.job.run)),
            stdin,
            stdout: Sink::Capture(stdout.clone()),
            stderr: Sink::Capture(stderr.clone()),
            limit: self.job.time_limit,
            grace: self.context.grace,
        };
        let argument = self.args.prompt_as_argument().then_some(prompt.len());
        let process =
            process::start(spec).map_err(|e| start_failed(&e, &program, self.cwd(), argument))?;
        self.context.store.audit().started(&audit::ProgramStart {
            run: self.job.run,
            ticket: &self.job.ticket.id,
            attempt: self.job.ticket.attempt,
            program: &program,
            args: args
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            cwd: self.cwd(),
            prompt,
        });
        Ok(process)
    }

    /// The diff belongs to a failed run too. A run that was told to end gets one if git is quick about it.
    /// Told to end while git was at it, there is no diff, and without it no result.
    fn collect(&mut self, snapshot: Option<Snapshot<'_>>) -> Option<Failure> {
        let mut snapshot = snapshot?;
        let never = Halt::never();
        let mut halt = self.halt;
        if halt.reason().is_some() {
            halt = &never;
            snapshot = snapshot.within(STOPPED_GIT_LIMIT);
        }
        match snapshot.changes(
            self.context.limits.diff_bytes,
            halt,
            &mut self.outcome.warnings,
        ) {
            Ok(changes) => self.outcome.changes = changes,
            Err(GitError::Stopped(reason)) => return Some(reason.failure()),
            Err(e) => self.outcome.warnings.push(format!("no diff: {e}")),
        }
        None
    }

    /// Of a run in a clone: where its work is if there is no diff, and whether the checkout is still what it was.
    fn judge_clone(&mut self, folder: &RunFolder) {
        let Some(clone) = &self.clone else { return };
        if self.outcome.changes.stat.is_none() {
            self.outcome.warnings.push(workspace::only_in(folder));
        }
        if self.halt.reason().is_none() {
            clone.compare(folder, self.halt, &mut self.outcome.warnings);
        }
    }
}

fn capture(folder: &RunFolder, name: &str, max: usize) -> io::Result<Capture> {
    Ok(Capture::new(max, Some(folder.create(name)?)))
}

fn state_failed(e: &io::Error) -> Failure {
    Failure::new(
        FailCode::Internal,
        format!("the agent's state folder cannot be used: {e}"),
    )
}

/// Another agent may have the repository in another state.
fn no_clone(e: &GitError) -> Failure {
    match e {
        GitError::Stopped(reason) => reason.failure(),
        e => Failure::new(
            FailCode::Internal,
            format!("the ticket's own clone of the repository cannot be made: {e}"),
        ),
    }
}

fn start_failed(
    e: &io::Error,
    program: &Path,
    repo: &Path,
    prompt_argument: Option<usize>,
) -> Failure {
    let program: PathBuf = program.to_owned();
    let (code, hint) = match e.kind() {
        _ if !repo.is_dir() => (FailCode::SpawnFailed, format!(": the folder {} is gone", repo.display())),
        // It was there a moment ago.
        io::ErrorKind::NotFound => {
            (FailCode::SpawnFailed, ": it, or the interpreter its first line names, is missing".to_owned())
        }
        io::ErrorKind::PermissionDenied => (FailCode::CliNotFound, ": it is not executable".to_owned()),
        io::ErrorKind::ArgumentListTooLong => (
            FailCode::SpawnFailed,
            match prompt_argument {
                Some(len) => format!(
                    ": the prompt of {len} bytes is too long for an argument; leave {{prompt}} out of CLI_ARGS_TEMPLATE and it goes to stdin"
                ),
                None => String::new(),
            },
        ),
        io::ErrorKind::InvalidInput if prompt_argument.is_some() && find::is_shim(&program) => (
            FailCode::SpawnFailed,
            ": a .cmd file can be given no more than one line; leave {prompt} out of CLI_ARGS_TEMPLATE and the prompt goes to stdin".to_owned(),
        ),
        _ if is_foreign_format(e) => {
            let hint = format!(
                ": it is no program for this system ({}): a script needs #! and its interpreter in the first line, a binary one that was built for this machine",
                std::env::consts::ARCH
            );
            (FailCode::SpawnFailed, hint)
        }
        _ => (FailCode::SpawnFailed, String::new()),
    };
    Failure::new(
        code,
        format!("{} cannot be started: {e}{hint}", program.display()),
    )
}

/// ENOEXEC; on macOS also EBADARCH; on Windows ERROR_BAD_EXE_FORMAT.
fn is_foreign_format(e: &io::Error) -> bool {
    let codes: &[i32] = match () {
        () if cfg!(windows) => &[193],
        () if cfg!(target_os = "macos") => &[8, 86],
        () => &[8],
    };
    e.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// When a run started, on both clocks.
struct Clock {
    mono: Instant,
    wall: SystemTime,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a run took is measured, not decided upon"
)]
impl Clock {
    fn start() -> Self {
        Self {
            mono: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.mono)
    }

    fn span(&self) -> Span {
        Span {
            started_at: self.wall,
            finished_at: SystemTime::now(),
            duration: self.elapsed(),
        }
    }
}

/// Progress of a long run: the first report after one period, then at most one per period.
struct Report<'a> {
    job: &'a Job,
    config: ProgressConfig,
    post: &'a Post,
    clock: Clock,
    /// When the last one was sent, from the start.
    last: Duration,
    stdout_bytes: u64,
}

impl Report<'_> {
    fn phase(&mut self, phase: Phase) {
        self.send_if_due(phase, Vec::new);
    }

    fn running(&mut self, stdout: &Shared) {
        self.stdout_bytes = stdout.lock().bytes.total();
        let lines = self.config.lines;
        self.send_if_due(Phase::Running, || {
            if lines {
                stdout.lock().take_lines()
            } else {
                Vec::new()
            }
        });
    }

    fn send_if_due(&mut self, phase: Phase, lines: impl FnOnce() -> Vec<String>) {
        let elapsed = self.clock.elapsed();
        if elapsed >= self.last + self.config.every {
            self.last = elapsed;
            let progress = Progress {
                phase,
                elapsed,
                stdout_bytes: self.stdout_bytes,
                lines: lines(),
            };
            (self.post)(self.job.run, JobEvent::Progress(progress));
        }
    }
}
