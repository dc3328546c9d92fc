//! Downloads the missing parts of a ticket, payload and skills, only from the backend's own origin. ureq speaks HTTP
//! over the daemon's own streams: they use the same proxy and TLS as the WebSocket.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};

use super::process::Halt;
use crate::config::Token;
use crate::domain::text::one_line;
use crate::domain::ticket::{Brief, FailCode, Failure, Payload, Ticket};
use crate::net::{Route, Stream, wire_of};
use crate::store::Store;
use crate::wire::WireBrief;

const TRIES: u32 = 3;
/// The pause before the second try. The pause before the third try is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Limit on one request, from the name lookup to the last byte. Nothing can stop a request, so a run may take this long
/// to obey a stop order.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// The same limit as for a frame (docs/protocol.md section 1).
const BODY_MAX: u64 = 5 << 20;
/// Limits on all downloaded skills of a ticket together. The prompt leaves out the skills beyond these limits.
const TOTAL_LIMIT: Duration = Duration::from_secs(120);
const TOTAL_MAX: usize = 16 << 20;
/// A prompt with more skills is of no use to any CLI.
const SKILLS_MAX: usize = 64;

/// The backend's HTTP interface.
pub struct Downloads {
    route: Route,
    token: Token,
    /// Holds the audit log, in which `Downloads` records each request.
    store: Arc<Store>,
    agent: Agent,
}

#[derive(Deserialize)]
struct Envelope<T> {
    success: bool,
    data: Option<T>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct SkillData {
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    content: Option<String>,
}

impl Downloads {
    pub fn new(route: Route, token: Token, store: Arc<Store>) -> Self {
        Self {
            agent: http_agent(route.clone()),
            route,
            token,
            store,
        }
    }

    /// Returns the complete brief of a ticket. Without a skill it adds a warning; without the payload it
    /// fails.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long downloads may take is no policy"
    )]
    pub fn complete(
        &self,
        ticket: &Ticket,
        halt: &Halt,
        warnings: &mut Vec<String>,
    ) -> Result<Brief, Failure> {
        let mut brief = ticket.brief.clone();
        let address = match &ticket.payload {
            Payload::Inline => None,
            Payload::ByTicketId => {
                let path = ["api", "tickets", ticket.id.as_str()];
                Some(self.route.api.endpoint(&path))
            }
            Payload::At(url) => Some(url.clone()),
        };
        if let Some(address) = address {
            let rest: Result<WireBrief, _> = self.get(&address, halt);
            let unavailable = |why| match halt.reason() {
                Some(reason) => reason.failure(),
                None => Failure::new(
                    FailCode::PayloadUnavailable,
                    format!("the payload could not be downloaded: {why}"),
                ),
            };
            brief = merge(brief, rest.map_err(unavailable)?.into());
        }
        if brief.skills.len() > SKILLS_MAX {
            warnings.push(format!(
                "only the first {SKILLS_MAX} of {} skills are in the prompt",
                brief.skills.len()
            ));
            brief.skills.truncate(SKILLS_MAX);
        }
        let until = Instant::now() + TOTAL_LIMIT;
        let mut room = TOTAL_MAX;
        for skill in brief.skills.iter_mut().filter(|skill| skill.body.is_none()) {
            let slug = &skill.slug;
            let body = match Instant::now() < until {
                true => self.skill(slug, room, halt),
                false => Err("no time left".to_owned()),
            };
            match body {
                Ok(body) => {
                    room -= body.len();
                    skill.body = Some(body);
                }
                Err(why) => warnings.push(format!("the skill {slug:?} was left out: {why}")),
            }
            if let Some(reason) = halt.reason() {
                return Err(reason.failure());
            }
        }
        Ok(brief)
    }

    /// `room`: the largest size that the skill may have, in bytes.
    fn skill(&self, slug: &str, room: usize, halt: &Halt) -> Result<String, String> {
        if slug.is_empty() || slug.len() > 256 {
            return Err("its name must have 1 to 256 bytes".to_owned());
        }
        let path = ["api", "library", "skills", slug];
        let data: SkillData = self.get(&self.route.api.endpoint(&path), halt)?;
        let body = data.body.or(data.content).ok_or("the answer has no body")?;
        if body.len() > room {
            return Err("all skills together are too large".to_owned());
        }
        Ok(body)
    }

    fn get<T: DeserializeOwned>(&self, address: &str, halt: &Halt) -> Result<T, String> {
        // The token goes to the backend's origin only, even if the address comes from a ticket.
        let address = self.route.api.same_origin(address)?;
        let mut pause = PAUSE;
        let mut failed = String::new();
        for attempt in 1..=TRIES {
            match self.get_once(&address) {
                Ok(data) => return Ok(data),
                Err(why) => failed = why,
            }
            debug!("{address}: try {attempt} of {TRIES}: {failed}");
            if attempt < TRIES && halt.pause(pause).is_some() {
                break;
            }
            pause *= 2;
        }
        Err(failed)
    }

    fn get_once<T: DeserializeOwned>(&self, address: &str) -> Result<T, String> {
        self.store.audit.asked(address);
        let request = self.agent.get(address);
        let request = request.header("Authorization", self.token.bearer());
        let request = request.header("Accept", "application/json");
        let mut answer = request.call().map_err(words)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("{status}: redirects are not followed"));
        }
        let body = answer.body_mut().with_config().limit(BODY_MAX);
        let envelope = body.read_to_string().map_err(words).and_then(|body| {
            serde_json::from_str::<Envelope<T>>(&body)
                .map_err(|e| format!("the answer cannot be read: {e}"))
        });
        match envelope {
            Ok(Envelope {
                success: true,
                data: Some(data),
                ..
            }) if status.is_success() => Ok(data),
            Ok(Envelope {
                error: Some(ApiError { code, message }),
                ..
            }) => Err(one_line(&format!("{status}: {code} {message}"), 300)),
            Ok(_) => Err(format!("{status}: the answer has no data")),
            Err(why) if status.is_success() => Err(why),
            Err(_) => Err(status.to_string()),
        }
    }
}

/// The assignment has precedence; the download fills in the rest.
fn merge(assigned: Brief, downloaded: Brief) -> Brief {
    Brief {
        title: assigned.title.or(downloaded.title),
        description: assigned.description.or(downloaded.description),
        skills: if assigned.skills.is_empty() {
            downloaded.skills
        } else {
            assigned.skills
        },
        subagent: assigned.subagent.or(downloaded.subagent),
    }
}

fn http_agent(route: Route) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(REQUEST_LIMIT))
        .user_agent(concat!("wf0-agent/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::with_parts(config, BackendConnector(route), NoResolver)
}

/// The text of the error. For an error of our own it omits ureq's prefix `other:`.
fn words(error: Error) -> String {
    match error {
        Error::Other(own) => own.to_string(),
        other => other.to_string(),
    }
}

#[derive(Debug)]
struct BackendConnector(Route);

impl Connector for BackendConnector {
    type Out = BackendTransport;

    /// Always connects to the backend, whatever host the request names.
    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<BackendTransport>, Error> {
        let stream = self.0.open(deadline(details.timeout));
        let stream = stream.map_err(|why| Error::Other(why.into()))?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(BackendTransport { stream, buffers }))
    }
}

/// Looks up nothing: [`Route::open`] finds the address, or the proxy does.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

#[derive(Debug)]
struct BackendTransport {
    stream: Stream,
    buffers: LazyBuffers,
}

impl Transport for BackendTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        wire_of(&mut self.stream).set_deadline(deadline(timeout));
        let output = &self.buffers.output()[..amount];
        let written = self.stream.write_all(output);
        written.map_err(|e| late(e, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        wire_of(&mut self.stream).set_deadline(deadline(timeout));
        let read = self.stream.read(self.buffers.input_append_buf());
        let read = read.map_err(|e| late(e, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        wire_of(&mut self.stream).is_quiet()
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::NativeTls(_))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a request may take is no policy"
)]
fn deadline(timeout: NextTimeout) -> Instant {
    Instant::now() + (*timeout.after).min(REQUEST_LIMIT)
}

fn late(e: io::Error, timeout: NextTimeout) -> Error {
    if e.kind() == ErrorKind::TimedOut {
        Error::Timeout(timeout.reason)
    } else {
        e.into()
    }
}
