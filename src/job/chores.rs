//! What is to be done after a run, by the next worker that is free: a run takes long, and what is left takes room.

use crossbeam_channel::{Receiver, Sender};

use super::worker::Context;
use super::workspace;
use crate::domain::ticket::RunId;
use crate::store::RunFolder;

pub(super) enum Chore {
    Tidy(RunId),
    RemoveClone(RunId),
}

/// The list, shared by all workers.
#[derive(Clone)]
pub struct Chores {
    todo: Sender<Chore>,
    list: Receiver<Chore>,
}

impl Chores {
    pub fn new() -> Self {
        let (todo, list) = crossbeam_channel::unbounded();
        Self { todo, list }
    }

    /// Removes what only the run itself needed, for when its outcome is on disk.
    pub fn tidy(&self, run: RunId) {
        self.add(Chore::Tidy(run));
    }

    /// Removes the clone of a run whose outcome was delivered.
    pub fn remove_clone(&self, run: RunId) {
        self.add(Chore::RemoveClone(run));
    }

    /// For whoever is free.
    pub(super) fn list(&self) -> &Receiver<Chore> {
        &self.list
    }

    fn add(&self, chore: Chore) {
        // This holds the other end too.
        let _ = self.todo.send(chore);
    }
}

impl Default for Chores {
    fn default() -> Self {
        Self::new()
    }
}

impl Chore {
    pub(super) fn carry_out(&self, context: &Context) {
        match self {
            Self::Tidy(run) => context
                .store
                .run_folder(*run)
                .iter()
                .for_each(RunFolder::remove_scratch),
            Self::RemoveClone(run) => {
                let folder = context.store.run_folder(*run);
                folder
                    .iter()
                    .for_each(|folder| workspace::remove(folder, *run, context.grace));
            }
        }
    }
}
