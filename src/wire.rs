//! The part of a ticket that can come in a frame or in an HTTP answer (docs/protocol.md section 4).

use serde::Deserialize;

use crate::domain::ticket::{Brief, Skill, Subagent};

#[derive(Debug, Deserialize)]
pub struct WireBrief {
    title: Option<String>,
    description: Option<String>,
    skills: Option<Vec<WireSkill>>,
    subagent: Option<Subagent>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireSkill {
    Slug(String),
    Inline(Skill),
}

impl From<WireBrief> for Brief {
    fn from(wire: WireBrief) -> Self {
        let skill = |skill| match skill {
            WireSkill::Slug(slug) => Skill { slug, body: None },
            WireSkill::Inline(skill) => skill,
        };
        let skills = wire.skills.unwrap_or_default();
        Self {
            title: wire.title,
            description: wire.description,
            skills: skills.into_iter().map(skill).collect(),
            subagent: wire.subagent,
        }
    }
}
