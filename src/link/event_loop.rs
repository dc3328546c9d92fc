//! The readiness loop: carries events in and actions out. Nothing here decides about tickets.
//!
//! It waits for the socket, the mailbox or the session's deadline, whichever is first, and for nothing else: an
//! idle daemon wakes for its heartbeats, and an outcome leaves the moment it is posted.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use log::{debug, error, warn};
use mio::{Events, Poll, Token};
use tungstenite::Message as Frame;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::alarm::Alarm;
use super::connection::{Connection, Inbound};
use super::dial::{self, Dialer};
use super::mailbox::{Mail, Mailbox};
use super::protocol::{Codecs, Decoded};
use crate::domain::Now;
use crate::domain::event::{Action, Event, Exit, Goodbye, Record, Setback};
use crate::domain::message::Message;
use crate::domain::notice::{Level, Notice};
use crate::domain::session::{Past, Session};
use crate::domain::text::one_line;
use crate::domain::ticket::{Job, RunId, StopReason};
use crate::domain::view::View;
use crate::store::Store;

const SOCKET: Token = Token(0);
const MAIL: Token = Token(1);
const ALARM: Token = Token(2);
/// Frames read before the mailbox gets its turn: a chatty peer must not hold up an outcome.
const FRAMES_AT_ONCE: usize = 64;

/// What a frame may put into the log above `debug`.
const LOGGED_MAX: usize = 300;

/// What the session wants of others: workers and the state folder.
pub enum Errand {
    Start {
        slot: usize,
        job: Box<Job>,
        offline: bool,
    },
    Stop {
        slot: usize,
        run: RunId,
        reason: StopReason,
    },
    Keep(Record),
    Recall(RunId),
    LookForCli,
    /// Of several views in a row only the last is shown.
    Show(Box<View>),
}

/// Runs an errand; what there is to say about it at once is an event.
pub type Runner<'a> = &'a mut dyn FnMut(Errand) -> Option<Event>;

/// The socket thread's state: it owns the connection, and the only one to touch it.
pub struct EventLoop {
    poll: Poll,
    alarm: Alarm,
    inbox: Receiver<Mail>,
    mailbox: Mailbox,
    dialer: Dialer,
    codecs: Codecs,
    store: Arc<Store>,
    connection: Option<Connection>,
    /// Threads that say goodbye on closed connections.
    goodbyes: Vec<JoinHandle<()>>,
}

impl EventLoop {
    /// `store`: what is sent is noted in its audit log.
    pub fn new(dialer: Dialer, codecs: Codecs, store: Arc<Store>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mailbox, inbox) = Mailbox::new(&poll, MAIL)?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(Self {
            poll,
            alarm,
            inbox,
            mailbox,
            dialer,
            codecs,
            store,
            connection: None,
            goodbyes: Vec::new(),
        })
    }

    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Runs until the session says that it is over.
    pub fn run(
        mut self,
        mut session: Session,
        past: Past,
        errands: Runner<'_>,
    ) -> io::Result<Exit> {
        let mut ready = Events::with_capacity(8);
        let mut more_to_read = false;
        let mut turn = Turn {
            session: &mut session,
            errands,
            view: None,
            exit: None,
        };
        let first = turn.session.take_over(past, now());
        self.carry_out(&mut turn, first);
        loop {
            if let Some(view) = turn.view.take() {
                (turn.errands)(Errand::Show(view));
            }
            if let Some(exit) = turn.exit {
                self.goodbyes.into_iter().for_each(join);
                return Ok(exit);
            }
            let wait = match more_to_read {
                true => Some(Duration::ZERO),
                false => self.alarm.set(turn.session.deadline(), now().mono)?,
            };
            match self.poll.poll(&mut ready, wait) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let rang = ready.is_empty() || ready.iter().any(|event| event.token() == ALARM);
            if rang {
                self.alarm.rang();
            }
            more_to_read |= ready.iter().any(|event| event.token() == SOCKET);
            if more_to_read {
                more_to_read = self.read(&mut turn);
            }
            for mail in self.inbox.try_iter().collect::<Vec<_>>() {
                self.take(mail, &mut turn);
            }
            self.flush();
            if self
                .connection
                .as_mut()
                .is_some_and(Connection::showed_life)
            {
                self.feed(&mut turn, Event::Heard);
            }
            // What has arrived counts before the time that has passed. An alarm counts before the deadline too: a
            // machine that slept has to hear of it.
            if rang || turn.session.deadline().is_some_and(|at| at <= now().mono) {
                self.feed(&mut turn, Event::Tick);
                self.flush();
            }
        }
    }

    /// Reads what has come, up to a number of frames. Says whether there may be more.
    fn read(&mut self, turn: &mut Turn<'_>) -> bool {
        for _ in 0..FRAMES_AT_ONCE {
            let Some(connection) = &mut self.connection else {
                return false;
            };
            let inbound = connection.read();
            if connection.showed_life() {
                self.feed(turn, Event::Heard);
            }
            match inbound {
                Inbound::Text(text) => {
                    debug!("← {}", one_line(&text, usize::MAX));
                    match self.codecs.decode(&text) {
                        Decoded::Event(event) => self.feed(turn, event),
                        Decoded::Dropped(why) => warn!("dropped {}", one_line(&why, LOGGED_MAX)),
                        Decoded::Ignored => {}
                    }
                }
                Inbound::Binary(len) => warn!("dropped a binary frame of {len} bytes"),
                Inbound::Pong(payload) => {
                    if let Ok(number) = payload.as_slice().try_into() {
                        self.feed(turn, Event::Pong(u64::from_be_bytes(number)));
                    }
                }
                Inbound::Other => {}
                Inbound::Idle => return false,
                Inbound::Closed(code, reason) => {
                    self.hang_up(None);
                    self.feed(turn, Event::Disconnected(dial::closed(code, &reason)));
                }
                Inbound::TooLarge => {
                    self.hang_up(Some(CloseCode::Size));
                    let why = "a frame larger than 5 MiB".to_owned();
                    self.feed(turn, Event::Disconnected(Setback::Failed(why)));
                }
                Inbound::Broken(why) => {
                    self.connection = None;
                    self.feed(turn, Event::Disconnected(Setback::Failed(why)));
                }
            }
        }
        true
    }

    fn take(&mut self, mail: Mail, turn: &mut Turn<'_>) {
        match mail {
            Mail::Event(event) => self.feed(turn, event),
            Mail::Dialed(Err(setback)) => self.feed(turn, Event::Disconnected(setback)),
            Mail::Dialed(Ok((mut connection, dialect))) => {
                match connection.open(self.poll.registry(), SOCKET) {
                    Ok(()) => {
                        self.connection = Some(*connection);
                        self.codecs.current = dialect;
                        self.feed(turn, Event::Connected(dialect));
                    }
                    Err(e) => self.feed(turn, Event::Disconnected(Setback::Failed(e.to_string()))),
                }
            }
        }
    }

    /// Gives the session an event and carries out what it wants.
    fn feed(&mut self, turn: &mut Turn<'_>, event: Event) {
        let actions = turn.session.on(now(), event);
        self.carry_out(turn, actions);
    }

    fn carry_out(&mut self, turn: &mut Turn<'_>, actions: Vec<Action>) {
        // What an errand brings is news for later: its actions must not come between those under way.
        let mut news = Vec::new();
        for action in actions {
            match action {
                Action::Dial => self.dial(),
                Action::Disconnect(Goodbye::Dead) => self.connection = None,
                Action::Disconnect(Goodbye::Normal) => self.hang_up(Some(CloseCode::Normal)),
                Action::Disconnect(Goodbye::GoingAway) => self.hang_up(Some(CloseCode::Away)),
                Action::Send(message) => self.send(&message),
                Action::Ping(number) => {
                    self.write(Frame::Ping(number.to_be_bytes().to_vec().into()))
                }
                Action::Keep(record) => news.extend((turn.errands)(Errand::Keep(record))),
                Action::Recall(run) => news.extend((turn.errands)(Errand::Recall(run))),
                Action::LookForCli => news.extend((turn.errands)(Errand::LookForCli)),
                Action::Start { slot, job, offline } => {
                    news.extend((turn.errands)(Errand::Start { slot, job, offline }));
                }
                Action::Stop { slot, run, reason } => {
                    news.extend((turn.errands)(Errand::Stop { slot, run, reason }))
                }
                Action::Log(notice) => log(&notice),
                Action::Show(view) => turn.view = Some(view),
                Action::Exit(exit) => turn.exit = Some(exit),
            }
        }
        news.into_iter().for_each(|event| self.feed(turn, event));
    }

    fn send(&mut self, message: &Message) {
        // Without a connection nothing is sent.
        if self.connection.is_some() {
            let text = self.codecs.encode(message);
            debug!("→ {}", one_line(&text, usize::MAX));
            self.store.audit().sent(message, &text);
            self.write(Frame::text(text));
        }
    }

    fn write(&mut self, frame: Frame) {
        let result = self
            .connection
            .as_mut()
            .map_or(Ok(()), |connection| connection.write(frame));
        self.lost_on_error(result);
    }

    fn flush(&mut self) {
        let result = self.connection.as_mut().map_or(Ok(()), Connection::flush);
        self.lost_on_error(result);
    }

    /// A write that fails ends the connection. The session hears of it after the actions under way, which then
    /// find no connection and do nothing: outcomes are in the outbox, and the rest means nothing to the next connection.
    fn lost_on_error(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            self.connection = None;
            self.mailbox.post(Event::Disconnected(Setback::Failed(why)));
        }
    }

    /// The thread is not joined: a name server may keep it for longer than anybody waits for a daemon to stop. It
    /// owns nothing but its own socket, and there is never a second one.
    fn dial(&mut self) {
        debug!(
            "connecting to {}",
            self.dialer.route.api.shown(self.codecs.current)
        );
        let (dialer, mailbox, last) = (
            self.dialer.clone(),
            self.mailbox.clone(),
            self.codecs.current,
        );
        let dial = move || {
            let dialed = dialer
                .dial(last, now)
                .map(|(connection, dialect)| (Box::new(connection), dialect));
            mailbox.put(Mail::Dialed(dialed));
        };
        if let Err(e) = spawn("dial", dial) {
            self.mailbox
                .post(Event::Disconnected(Setback::Failed(format!(
                    "no thread to connect with: {e}"
                ))));
        }
    }

    fn hang_up(&mut self, code: Option<CloseCode>) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let Ok(registry) = self.poll.registry().try_clone() else {
            return;
        };
        let close = code.map(|code| CloseFrame {
            code,
            reason: "".into(),
        });
        self.goodbyes.retain(|thread| !thread.is_finished());
        // Without a thread the connection is closed all the same, only without the last word.
        self.goodbyes.extend(spawn("goodbye", move || {
            connection.say_goodbye(&registry, close)
        }));
    }
}

/// What one run of the loop works with.
struct Turn<'a> {
    session: &'a mut Session,
    errands: Runner<'a>,
    /// To be shown when nobody waits any more.
    view: Option<Box<View>>,
    exit: Option<Exit>,
}

/// The one place where policy gets its time from.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// With what it is about in fields of its own, for whoever does not want to read sentences.
fn log(notice: &Notice) {
    let level = match notice.level {
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    let event = notice.kind.name();
    match (&notice.ticket, notice.run) {
        (Some((id, attempt)), Some(run)) => {
            log::log!(level, event, ticket = id.as_str(), attempt = *attempt, run:% = run; "{notice}");
        }
        (Some((id, attempt)), None) => {
            log::log!(level, event, ticket = id.as_str(), attempt = *attempt; "{notice}")
        }
        (None, _) => log::log!(level, event; "{notice}"),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        error!("a goodbye thread has panicked");
    }
}
