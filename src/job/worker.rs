//! The worker threads. Each carries out one run at a time, and cleans up after runs while it is idle.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use log::warn;

use super::process::{self, Halt};
use super::run::{Context, Post, Run, Task, state_failed};
use super::workspace;
use crate::domain::event::JobEvent;
use crate::domain::ticket::{Job, Outcome, RunId, StopReason};

/// How long to wait for a worker. Without a run it ends at once. With a run it has the order to end the run.
const JOIN_LIMIT: Duration = Duration::from_secs(1);

/// One worker thread.
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
                loop {
                    select! {
                        recv(inbox) -> task => {
                            let Ok(task) = task else { break };
                            let outcome = carry_out(&task, &context, &orders, &post);
                            post(task.job.run, JobEvent::Finished(Arc::new(outcome)));
                        }
                        recv(chores.list) -> run => if let Ok(run) = run {
                            tidy(run, &context);
                        }
                    }
                }
                for run in chores.list.try_iter() {
                    tidy(run, &context);
                }
            })?;
        Ok(Self {
            tasks,
            stops,
            thread,
            ended,
        })
    }

    /// Starts a run. The previous one must have finished.
    pub fn run(&self, job: Box<Job>, offline: bool) {
        if self.tasks.send(Task { job, offline }).is_err() {
            panic!("a worker thread is gone");
        }
    }

    /// Ends that run, if it is still running.
    pub fn stop(&self, run: RunId, reason: StopReason) {
        if self.stops.send((run, reason)).is_err() {
            panic!("a worker thread is gone");
        }
    }

    /// Lets the worker end. If its run does not end in time, nobody waits for the worker: it ends with the daemon.
    pub fn join(self) {
        drop((self.tasks, self.stops));
        match self.ended.recv_timeout(JOIN_LIMIT) {
            Err(RecvTimeoutError::Timeout) => warn!("a worker is still busy and is left behind"),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if self.thread.join().is_err() {
                    panic!("a worker thread has panicked");
                }
            }
        }
    }
}

fn carry_out(
    task: &Task,
    context: &Context,
    orders: &Receiver<(RunId, StopReason)>,
    post: &Post,
) -> Outcome {
    let run = task.job.run;
    let folder = match context.store.run_folder(run) {
        Ok(folder) => folder,
        Err(e) => return Outcome::unstarted(state_failed(e)),
    };
    // An earlier daemon may have died before the CLI of this run started. Its git may still be running.
    if folder.path("scratch").exists() || folder.clone_path().exists() {
        process::end_marked(context.environment.mark_of_git(run), context.grace);
    }
    folder.remove_scratch();
    let halt = Halt::new(orders.clone(), run);
    Run::new(context, task, &folder, &halt, post).carry_out()
}

/// The queue of clean-up work after runs. An idle worker does the work.
#[derive(Clone)]
pub struct Chores {
    todo: Sender<RunId>,
    list: Receiver<RunId>,
}

impl Chores {
    pub fn empty() -> Self {
        let (todo, list) = crossbeam_channel::unbounded();
        Self { todo, list }
    }

    /// Queues the removal of what a run no longer needs. The run's outcome must be on disk, or delivered.
    pub fn tidy(&self, run: RunId) {
        // This cannot fail: `self` holds the other end too.
        let _ = self.todo.send(run);
    }
}

fn tidy(run: RunId, context: &Context) {
    let folder = context.store.folder(run);
    folder.remove_scratch();
    if folder.has_spent_clone(context.keep_delivered) {
        workspace::remove(&folder, run, context.grace);
    }
}
