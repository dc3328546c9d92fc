//! What can be seen of the session from outside: whenever it changes, and only then.

use std::time::{Duration, SystemTime};

use wf0_agent::domain::event::{Action, Effect, Event, JobEvent, Order, Setback};
use wf0_agent::domain::message::{Dialect, Link, Status, View};
use wf0_agent::domain::session::{SavedState, Session};
use wf0_agent::domain::ticket::{Phase, Progress, RunId};

use super::support::{Clock, Disk, done, on, policy, ticket};

struct Seen {
    session: Session,
    clock: Clock,
    disk: Disk,
}

impl Seen {
    fn new() -> Self {
        let clock = Clock::new();
        Self {
            session: Session::new(policy(1, &["app"], 1), clock.now()),
            clock,
            disk: Disk::default(),
        }
    }

    /// The view that is shown after that event; `None`: nothing has changed.
    fn after(&mut self, event: Event) -> Option<View> {
        let actions = on(&mut self.session, &mut self.disk, self.clock.now(), event);
        let mut views = actions.into_iter().filter_map(|action| match action {
            Action::Effect(Effect::Show(view)) => Some(*view),
            _ => None,
        });
        // The disk answers at once, which is an event of its own.
        views.by_ref().last()
    }

    fn assign(&mut self, name: &str) -> View {
        self.after(Event::Backend(Order::Assigned(Box::new(ticket(name, 1)))))
            .expect("a ticket shows")
    }
}

fn progress(line: &str) -> Progress {
    let lines = vec![line.to_owned()];
    Progress {
        phase: Phase::Running,
        elapsed: Duration::from_secs(10),
        stdout_bytes: 7,
        lines,
    }
}

fn run_of(view: &View) -> RunId {
    view.active[0].run
}

/// Connected, and not, and since when; what changes nothing shows nothing.
#[test]
fn the_connection_shows() {
    let mut seen = Seen::new();
    let start = seen.clock.now().wall;
    let first = seen
        .session
        .restore(SavedState::default(), seen.clock.now());
    let shown = first
        .iter()
        .filter(|action| matches!(action, Action::Effect(Effect::Show(_))))
        .count();
    assert_eq!(shown, 1, "{first:?}");
    seen.clock.advance(Duration::from_secs(3));
    let up = seen.after(Event::Connected(Dialect::Hub)).unwrap();
    assert_eq!(
        (up.link, up.dialect),
        (
            Link {
                is_up: true,
                since: start + Duration::from_secs(3),
                why: None
            },
            Dialect::Hub
        )
    );
    assert_eq!(seen.after(Event::Heard), None);
    assert_eq!(seen.after(Event::Tick), None);
    seen.clock.advance(Duration::from_secs(4));
    let down = seen
        .after(Event::Disconnected(Setback::Failed("reset".to_owned())))
        .unwrap();
    let lost = start + Duration::from_secs(7);
    assert_eq!(
        down.link,
        Link {
            is_up: false,
            since: lost,
            why: Some("reset".to_owned())
        }
    );
    // The next attempt fails too: it is down since it was lost.
    let at = seen.session.deadline().unwrap();
    seen.clock.advance_to(at);
    seen.after(Event::Tick);
    let down = seen
        .after(Event::Disconnected(Setback::Failed("refused".to_owned())))
        .unwrap();
    assert_eq!(
        down.link,
        Link {
            is_up: false,
            since: lost,
            why: Some("refused".to_owned())
        }
    );
}

/// A ticket shows from its claim to its end, with what its run reports last, whether or not the backend can be reached.
#[test]
fn tickets_show() {
    let mut seen = Seen::new();
    seen.after(Event::Connected(Dialect::Ticket));
    let began: SystemTime = seen.clock.now().wall;
    let view = seen.assign("A");
    let run = run_of(&view);
    assert_eq!(
        (view.active[0].started_at, view.capacity.free),
        (Some(began), 0)
    );
    let view = seen.assign("B");
    assert_eq!(
        view.active
            .iter()
            .map(|active| active.started_at)
            .collect::<Vec<_>>(),
        [Some(began), None]
    );
    seen.after(Event::Disconnected(Setback::Failed("reset".to_owned())));
    let view = seen
        .after(Event::Job(run, JobEvent::Progress(progress("Edit a"))))
        .unwrap();
    assert_eq!(
        view.active[0].progress.as_ref().map(Progress::activity),
        Some("Edit a")
    );
    assert_eq!(
        seen.after(Event::Job(run, JobEvent::Progress(progress("Edit a")))),
        None,
        "nothing new"
    );
    let view = seen
        .after(Event::Job(run, JobEvent::Finished(done("x"))))
        .unwrap();
    assert_eq!((view.active.len(), view.undelivered), (1, 1), "B runs");
    assert_ne!(run_of(&view), run);
}

/// A daemon that was told to stop shows that it drains.
#[test]
fn draining_shows() {
    let mut seen = Seen::new();
    seen.after(Event::Connected(Dialect::Ticket));
    seen.assign("A");
    let view = seen.after(Event::Stop).unwrap();
    assert_eq!((view.status, view.capacity.free), (Status::Draining, 0));
}

/// The last line of a run stays until it reports another one, and is shortened.
#[test]
fn the_last_words_stay() {
    let quiet = Progress {
        lines: Vec::new(),
        ..progress("")
    };
    let first = quiet.in_short(None);
    assert_eq!(first.activity(), "running");
    let second = progress(&"x".repeat(5000)).in_short(Some(&first));
    assert_eq!(second.activity().chars().count(), 201);
    let third = quiet.in_short(Some(&second));
    assert_eq!(third.activity(), second.activity());
    assert_eq!(
        Progress {
            phase: Phase::Collecting,
            ..third
        }
        .activity(),
        "taking the diff"
    );
}
