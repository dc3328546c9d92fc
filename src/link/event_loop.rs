//! The loop of the socket thread. It passes events to the session and carries out the session's actions.
//!
//! It waits only for the socket, the mailbox and the session's deadline. So an idle daemon wakes only for its
//! heartbeats, and the loop sends an outcome as soon as a worker posts it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use log::{debug, error, warn};
use mio::{Events, Poll, Token, Waker};
use tungstenite::Message as Frame;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::connection::{Connection, Inbound};
use super::dial::{self, Dialer};
use super::protocol::{Codecs, Decoded, MAX_INBOUND};
use crate::domain::Now;
use crate::domain::event::{Action, DaemonEnd, Effect, Event, Goodbye, Setback};
use crate::domain::message::{Dialect, Level, Message, Notice, View};
use crate::domain::session::{SavedState, Session};
use crate::domain::text::one_line;
use crate::store::Store;

const SOCKET: Token = Token(0);
const MAIL: Token = Token(1);
/// The loop reads at most this many frames before it empties the mailbox: a busy peer must not delay an outcome.
const FRAMES_AT_ONCE: usize = 64;

/// The longest wait. A timeout does not count the time while the machine sleeps, so in a long wait the daemon would
/// notice a sleep late. A connected daemon wakes as often in any case, for its heartbeats.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How many characters of a frame the log shows at levels above `debug`.
const LOGGED_MAX: usize = 300;

/// Carries out an effect. If its result is known at once, returns it as an event.
pub type EffectHandler<'a> = &'a mut dyn FnMut(Effect) -> Option<Event>;

enum Mail {
    Event(Event),
    Dialed(Result<(Box<Connection>, Dialect), Setback>),
}

/// The only way to the socket thread: a channel, and a waker that ends the thread's wait. Each thread has a clone.
#[derive(Clone)]
pub struct Mailbox {
    mail: Sender<Mail>,
    waker: Arc<Waker>,
}

impl Mailbox {
    pub fn post(&self, event: Event) {
        self.put(Mail::Event(event));
    }

    fn put(&self, mail: Mail) {
        // A send fails only after the socket thread has ended. It ends last, so no event matters by then.
        if self.mail.send(mail).is_ok()
            && let Err(e) = self.waker.wake()
        {
            panic!("the socket thread cannot be woken: {e}");
        }
    }
}

/// The state of the socket thread. No other thread uses the open connection.
pub struct EventLoop {
    poll: Poll,
    inbox: Receiver<Mail>,
    mailbox: Mailbox,
    dialer: Dialer,
    codecs: Codecs,
    store: Arc<Store>,
    connection: Option<Connection>,
    /// The threads that run [`Connection::say_goodbye`].
    goodbyes: Vec<JoinHandle<()>>,
}

impl EventLoop {
    /// The loop records what it sends in the store's audit log.
    pub fn new(dialer: Dialer, codecs: Codecs, store: Arc<Store>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mail, inbox) = crossbeam_channel::unbounded();
        let waker = Arc::new(Waker::new(poll.registry(), MAIL)?);
        let mailbox = Mailbox { mail, waker };
        Ok(Self {
            poll,
            inbox,
            mailbox,
            dialer,
            codecs,
            store,
            connection: None,
            goodbyes: Vec::new(),
        })
    }

    pub(crate) fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Runs until the session ends.
    pub fn run(
        mut self,
        mut session: Session,
        saved: SavedState,
        effects: EffectHandler<'_>,
    ) -> io::Result<DaemonEnd> {
        let mut ready = Events::with_capacity(8);
        let mut more_to_read = false;
        let first = session.restore(saved, now());
        let mut driver = Driver {
            session: &mut session,
            effects,
            view: None,
            end: None,
        };
        self.carry_out(&mut driver, first);
        loop {
            if let Some(view) = driver.view.take() {
                (driver.effects)(Effect::Show(view));
            }
            if let Some(end) = driver.end {
                for thread in self.goodbyes {
                    if thread.join().is_err() {
                        error!("a goodbye thread has panicked");
                    }
                }
                return Ok(end);
            }
            let left = |at: Instant| at.saturating_duration_since(now().mono).min(WAIT_MAX);
            let timeout = match more_to_read {
                true => Some(Duration::ZERO),
                false => driver.session.deadline().map(left),
            };
            match self.poll.poll(&mut ready, timeout) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            more_to_read |= ready.iter().any(|event| event.token() == SOCKET);
            if more_to_read {
                more_to_read = self.read(&mut driver);
            }
            for mail in self.inbox.try_iter().collect::<Vec<_>>() {
                self.take(mail, &mut driver);
            }
            self.flush();
            self.note_life(&mut driver);
            // The session gets input before a timeout.
            let is_due = |at: Instant| at <= now().mono;
            if ready.is_empty() || driver.session.deadline().is_some_and(is_due) {
                self.feed(&mut driver, Event::Tick);
                self.flush();
            }
        }
    }

    fn note_life(&mut self, driver: &mut Driver<'_>) {
        let connection = self.connection.as_mut();
        if connection.is_some_and(Connection::take_sign_of_life) {
            self.feed(driver, Event::Heard);
        }
    }

    /// Reads at most [`FRAMES_AT_ONCE`] frames. Returns whether there may be more.
    fn read(&mut self, driver: &mut Driver<'_>) -> bool {
        for _ in 0..FRAMES_AT_ONCE {
            let Some(connection) = &mut self.connection else {
                return false;
            };
            let inbound = connection.read();
            self.note_life(driver);
            match inbound {
                Inbound::Text(text) => {
                    debug!("← {}", one_line(&text, usize::MAX));
                    match self.codecs.decode(&text) {
                        Decoded::Event(event) => self.feed(driver, event),
                        Decoded::Dropped(why) => warn!("dropped {}", one_line(&why, LOGGED_MAX)),
                        Decoded::Ignored => {}
                    }
                }
                Inbound::Binary(len) => warn!("dropped a binary frame of {len} bytes"),
                Inbound::Pong(payload) => {
                    if let Ok(number) = payload.as_slice().try_into() {
                        self.feed(driver, Event::Pong(u64::from_be_bytes(number)));
                    }
                }
                Inbound::Other => {}
                Inbound::Idle => return false,
                Inbound::Closed(code, reason) => {
                    self.hang_up(None);
                    self.feed(driver, Event::Disconnected(dial::closed(code, &reason)));
                }
                Inbound::TooLarge => {
                    self.hang_up(Some(CloseCode::Size));
                    let why = format!("a frame larger than {} MiB", MAX_INBOUND >> 20);
                    self.feed(driver, lost(why));
                }
                Inbound::Broken(why) => {
                    self.connection = None;
                    self.feed(driver, lost(why));
                }
            }
        }
        true
    }

    fn take(&mut self, mail: Mail, driver: &mut Driver<'_>) {
        match mail {
            Mail::Event(event) => self.feed(driver, event),
            Mail::Dialed(Err(setback)) => self.feed(driver, Event::Disconnected(setback)),
            Mail::Dialed(Ok((mut connection, dialect))) => {
                match connection.open(self.poll.registry(), SOCKET) {
                    Ok(()) => {
                        self.connection = Some(*connection);
                        self.codecs.current = dialect;
                        self.feed(driver, Event::Connected(dialect));
                    }
                    Err(e) => self.feed(driver, lost(e.to_string())),
                }
            }
        }
    }

    /// Gives the session an event and carries out what it wants.
    fn feed(&mut self, driver: &mut Driver<'_>, event: Event) {
        let actions = driver.session.on(now(), event);
        self.carry_out(driver, actions);
    }

    fn carry_out(&mut self, driver: &mut Driver<'_>, actions: Vec<Action>) {
        // The session gets the events of effects after all these actions. Otherwise new actions would come in between.
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::Dial => self.dial(),
                Action::Disconnect(Goodbye::Dead) => self.connection = None,
                Action::Disconnect(Goodbye::Normal) => self.hang_up(Some(CloseCode::Normal)),
                Action::Disconnect(Goodbye::GoingAway) => self.hang_up(Some(CloseCode::Away)),
                Action::Send(message) => self.send(&message),
                Action::Ping(number) => {
                    self.write(Frame::Ping(number.to_be_bytes().to_vec().into()));
                }
                Action::Log(notice) => log(&notice),
                Action::Effect(Effect::Show(view)) => driver.view = Some(view),
                Action::Effect(effect) => events.extend((driver.effects)(effect)),
                Action::Exit(end) => driver.end = Some(end),
            }
        }
        for event in events {
            self.feed(driver, event);
        }
    }

    fn send(&mut self, message: &Message) {
        if self.connection.is_some() {
            let text = self.codecs.encode(message);
            debug!("→ {}", one_line(&text, usize::MAX));
            self.store.audit.sent(message, &text);
            self.write(Frame::text(text));
        }
    }

    fn write(&mut self, frame: Frame) {
        if let Some(connection) = &mut self.connection {
            let result = connection.write(frame);
            self.lost_on_error(result);
        }
    }

    fn flush(&mut self) {
        let result = self.connection.as_mut().map_or(Ok(()), Connection::flush);
        self.lost_on_error(result);
    }

    /// Ends the connection after a failed write. The session learns this only after its current actions, which
    /// send nothing more. No loss: outcomes are in the outbox, and the rest means nothing on the next connection.
    fn lost_on_error(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            self.connection = None;
            self.mailbox.post(lost(why));
        }
    }

    /// Connects on a thread that nobody joins, because a name server may delay it longer than a stop should take. The
    /// thread owns only its own socket, and only one such thread runs at a time.
    fn dial(&mut self) {
        let (dialer, mailbox) = (self.dialer.clone(), self.mailbox.clone());
        let last = self.codecs.current;
        debug!("connecting to {}", dialer.route.api.shown(last));
        let dial = move || {
            let dialed = dialer.dial(last, now);
            let boxed = dialed.map(|(connection, dialect)| (Box::new(connection), dialect));
            mailbox.put(Mail::Dialed(boxed));
        };
        if let Err(e) = spawn("dial", dial) {
            let why = format!("no thread to connect with: {e}");
            self.mailbox.post(lost(why));
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
        // If the thread cannot start, the connection closes without a close frame.
        self.goodbyes.extend(spawn("goodbye", move || {
            connection.say_goodbye(&registry, close)
        }));
    }
}

/// The session and what the loop collects for it.
struct Driver<'a> {
    session: &'a mut Session,
    effects: EffectHandler<'a>,
    /// The newest view. The loop shows it after all waiting events, because only the last of several views matters.
    view: Option<Box<View>>,
    end: Option<DaemonEnd>,
}

/// Policy gets the time only from here.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Logs a notice. Its fields are for programs that read the log.
fn log(notice: &Notice) {
    let level = match notice.level {
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    let event = notice.kind;
    match (&notice.ticket, notice.run) {
        (Some((id, attempt)), Some(run)) => {
            log::log!(level, event:%, ticket = id.as_str(), attempt = *attempt, run:% = run; "{notice}");
        }
        (Some((id, attempt)), None) => {
            log::log!(level, event:%, ticket = id.as_str(), attempt = *attempt; "{notice}")
        }
        (None, _) => log::log!(level, event:%; "{notice}"),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn lost(why: String) -> Event {
    Event::Disconnected(Setback::Failed(why))
}
