//! Which lines are logged: a level for this program, and one for each module that the setting names.

use log::LevelFilter;

/// The prefix of every module of this program.
const OWN: &str = "wf0_agent";

/// Modules, by the prefix of their name, each with the least urgent level that is logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter(Vec<(String, LevelFilter)>);

impl LogFilter {
    /// `LEVEL`, `MODULE=LEVEL`, or several of them with commas between. A level without a module is that of this program.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self(vec![(OWN.to_owned(), LevelFilter::Info)]);
        for directive in text.split(',').map(str::trim) {
            let (module, level) = directive.split_once('=').unwrap_or((OWN, directive));
            let (Ok(level), false) = (level.parse(), module.is_empty()) else {
                return Err(
                    "must be error, warn, info, debug or trace; a module has its own level as MODULE=LEVEL, after a comma"
                        .to_owned(),
                );
            };
            let is_own = module == OWN || module.starts_with("wf0_agent::");
            // At this level, the WebSocket and HTTP libraries log headers and frames with the token in them.
            if level == LevelFilter::Trace && !is_own {
                return Err(format!(
                    "{module} can be logged at debug, not at trace, where it shows the token"
                ));
            }
            filter.0.push((module.to_owned(), level));
        }
        Ok(filter)
    }

    /// Nothing less urgent than that.
    pub fn at_most(mut self, most: LevelFilter) -> Self {
        for (_, level) in &mut self.0 {
            *level = (*level).min(most);
        }
        self
    }

    /// The last entry of a module counts.
    pub fn modules(&self) -> impl Iterator<Item = (&str, LevelFilter)> {
        self.0.iter().map(|(module, level)| (&**module, *level))
    }
}
