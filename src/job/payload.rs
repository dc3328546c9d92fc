//! The parts of a ticket that have to be downloaded: payload and skills, from the backend's own origin only.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::debug;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

use super::halt::Halt;
use super::http;
use crate::config::Token;
use crate::domain::text::one_line;
use crate::domain::ticket::{Brief, FailCode, Failure, Payload, Ticket};
use crate::net::Route;
use crate::store::Store;
use crate::wire::WireBrief;

const TRIES: u32 = 3;
/// Before the second try; twice that before the third.
const PAUSE: Duration = Duration::from_millis(500);
/// For one request, from the name lookup to the last byte. A request cannot be called off, so this is also how long
/// a run that is to end may take to notice.
const REQUEST_LIMIT: Duration = Duration::from_secs(8);
/// As for a frame (docs/protocol.md section 1).
const BODY_MAX: u64 = 5 << 20;
/// For all of a ticket's skills together: what comes later than that, or beyond it, is left out.
const TOTAL_LIMIT: Duration = Duration::from_secs(120);
const TOTAL_MAX: usize = 16 << 20;
/// A ticket that names more is not answered by a prompt that anything can read.
const SKILLS_MAX: usize = 64;

/// The backend's HTTP interface.
pub struct Downloads {
    route: Route,
    token: Token,
    /// What is asked for is noted in its audit log.
    store: Arc<Store>,
    /// Made at the first download: most tickets come whole.
    agent: OnceLock<Agent>,
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
            route,
            token,
            store,
            agent: OnceLock::new(),
        }
    }

    /// The whole brief of a ticket. A skill that cannot be had is a warning; a payload that cannot be had ends it.
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
                Some(
                    self.route
                        .api
                        .endpoint(&["api", "tickets", ticket.id.as_str()]),
                )
            }
            Payload::At(url) => Some(url.clone()),
        };
        if let Some(address) = address {
            let rest: WireBrief = self
                .get(&address, halt)
                .map_err(|why| self.unavailable(&why, halt))?;
            brief = merge(brief, rest.into());
        }
        if brief.skills.len() > SKILLS_MAX {
            warnings.push(format!(
                "only the first {SKILLS_MAX} of {} skills are in the prompt",
                brief.skills.len()
            ));
            brief.skills.truncate(SKILLS_MAX);
        }
        let until = Instant::now() + TOTAL_LIMIT;
        let mut total = 0;
        for skill in &mut brief.skills {
            if skill.body.is_none() {
                let slug = &skill.slug;
                let body = if Instant::now() < until {
                    self.skill(slug, halt)
                } else {
                    Err("no time left".to_owned())
                };
                match body {
                    Ok(body) if total + body.len() <= TOTAL_MAX => {
                        total += body.len();
                        skill.body = Some(body);
                    }
                    Ok(_) => warnings.push(format!(
                        "the skill {slug:?} is left out: the skills are too large"
                    )),
                    Err(why) => {
                        warnings.push(format!("the skill {slug:?} could not be had: {why}"))
                    }
                }
            }
            if let Some(reason) = halt.reason() {
                return Err(reason.failure());
            }
        }
        Ok(brief)
    }

    fn skill(&self, slug: &str, halt: &Halt) -> Result<String, String> {
        if slug.is_empty() || slug.len() > 256 {
            return Err("its name must have 1 to 256 bytes".to_owned());
        }
        let data: SkillData = self.get(
            &self.route.api.endpoint(&["api", "library", "skills", slug]),
            halt,
        )?;
        data.body
            .or(data.content)
            .ok_or_else(|| "the answer has no body".to_owned())
    }

    fn unavailable(&self, why: &str, halt: &Halt) -> Failure {
        match halt.reason() {
            Some(reason) => reason.failure(),
            None => Failure::new(
                FailCode::PayloadUnavailable,
                format!("the payload could not be downloaded: {why}"),
            ),
        }
    }

    fn get<T: DeserializeOwned>(&self, address: &str, halt: &Halt) -> Result<T, String> {
        // Whatever put the address together: nothing but this origin ever sees the token.
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
        self.store.audit().asked(address);
        let request = self
            .agent()
            .get(address)
            .header("Authorization", self.token.bearer())
            .header("Accept", "application/json");
        let mut answer = request.call().map_err(http::words)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("{status}: redirects are not followed"));
        }
        let body = answer
            .body_mut()
            .with_config()
            .limit(BODY_MAX)
            .read_to_string();
        let envelope = body.map_err(http::words).and_then(|body| {
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
                error: Some(error), ..
            }) => Err(one_line(
                &format!("{status}: {} {}", error.code, error.message),
                300,
            )),
            Ok(_) => Err(format!("{status}: the answer has no data")),
            Err(why) if status.is_success() => Err(why),
            Err(_) => Err(status.to_string()),
        }
    }

    fn agent(&self) -> &Agent {
        self.agent
            .get_or_init(|| http::agent(self.route.clone(), REQUEST_LIMIT))
    }
}

/// What came with the assignment counts; the download fills in the rest.
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
