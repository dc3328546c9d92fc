//! The only door to the socket thread: a channel, and a waker that ends its wait.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use mio::{Poll, Token, Waker};

use super::connection::Connection;
use crate::domain::dialect::Dialect;
use crate::domain::event::{Event, Setback};

pub(super) enum Mail {
    Event(Event),
    Dialed(Result<(Box<Connection>, Dialect), Setback>),
}

/// Posts events to the session. Cheap to clone; one for each thread that has something to say.
#[derive(Clone)]
pub struct Mailbox {
    mail: Sender<Mail>,
    waker: Arc<Waker>,
}

impl Mailbox {
    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<(Self, Receiver<Mail>)> {
        let (mail, inbox) = crossbeam_channel::unbounded();
        Ok((
            Self {
                mail,
                waker: Arc::new(Waker::new(poll.registry(), token)?),
            },
            inbox,
        ))
    }

    pub fn post(&self, event: Event) {
        self.put(Mail::Event(event));
    }

    pub(super) fn put(&self, mail: Mail) {
        // The socket thread is the last to end. Whoever still posts then has nobody to tell, and nothing to lose.
        if self.mail.send(mail).is_ok() {
            if let Err(e) = self.waker.wake() {
                panic!("the socket thread cannot be woken: {e}");
            }
        }
    }
}
