//! The part of a ticket that both frames and HTTP answers carry, as it looks on the wire (docs/protocol.md section 4).

use serde::Deserialize;

use crate::domain::ticket::{Brief, Skill, Subagent};

#[derive(Debug, Deserialize)]
pub struct WireBrief {
    title: Option<String>,
    description: Option<String>,
    skills: Option<Vec<WireSkill>>,
    subagent: Option<WireSubagent>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireSkill {
    Slug(String),
    Inline { slug: String, body: Option<String> },
}

#[derive(Debug, Deserialize)]
struct WireSubagent {
    #[serde(default)]
    slug: String,
    prompt: String,
}

impl From<WireBrief> for Brief {
    fn from(wire: WireBrief) -> Self {
        let skill = |skill| match skill {
            WireSkill::Slug(slug) => Skill { slug, body: None },
            WireSkill::Inline { slug, body } => Skill { slug, body },
        };
        Self {
            title: wire.title,
            description: wire.description,
            skills: wire
                .skills
                .unwrap_or_default()
                .into_iter()
                .map(skill)
                .collect(),
            subagent: wire.subagent.map(|s| Subagent {
                slug: s.slug,
                prompt: s.prompt,
            }),
        }
    }
}
