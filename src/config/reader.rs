//! Reads settings one after the other by the table, and collects what is wrong with them.

use std::time::Duration;

use super::settings::{Fallback, Kind, Setting, find};
use super::sources::Sources;

/// One setting that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{setting}: {problem} (example: {setting}={example})")]
pub struct SettingError {
    pub setting: String,
    pub problem: String,
    /// A value that could stand there.
    pub example: &'static str,
}

pub(super) struct Reader<'a> {
    pub sources: &'a Sources,
    pub errors: Vec<SettingError>,
}

impl<'a> Reader<'a> {
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            errors: Vec::new(),
        }
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.sources.get(name).is_some()
    }

    /// Notes the error. The setting has no value then.
    pub fn wrong<T>(&mut self, name: &str, problem: impl Into<String>) -> Option<T> {
        self.errors.push(SettingError {
            setting: name.to_owned(),
            problem: problem.into(),
            example: known(name).example,
        });
        None
    }

    /// The value that counts or else the default, parsed. `None`: there is neither, or an error was noted.
    pub fn value<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match (self.sources.get(name), known(name).fallback) {
            (Some(value), _) => match value.to_str() {
                Some(text) => parse(text),
                None => Err("is not UTF-8".to_owned()),
            },
            (None, Fallback::Value(default)) => parse(default),
            (None, Fallback::Required) => Err("is not set".to_owned()),
            (None, Fallback::Nothing | Fallback::Computed(_)) => return None,
        };
        match parsed {
            Ok(value) => Some(value),
            Err(problem) => self.wrong(name, problem),
        }
    }

    /// After an error any number: the settings are refused then.
    pub fn number(&mut self, name: &str) -> u64 {
        let Kind::Number(range) = &known(name).kind else {
            panic!("{name} is no number in the table of settings");
        };
        let (least, most) = (range.start(), range.end());
        let parse = |text: &str| match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        };
        self.value(name, parse).unwrap_or_default()
    }

    pub fn seconds(&mut self, name: &str) -> Duration {
        Duration::from_secs(self.number(name))
    }

    /// `values` are in the order of the table's words. After an error the first: the settings are refused then.
    pub fn choice<T: Copy, const N: usize>(&mut self, name: &str, values: [T; N]) -> T {
        let Kind::Choice(words) = known(name).kind else {
            panic!("{name} is no choice in the table of settings");
        };
        let parse = |text: &str| {
            let mut pairs = words.iter().zip(values);
            match pairs.find(|(word, _)| word.eq_ignore_ascii_case(text.trim())) {
                Some((_, value)) => Ok(value),
                None => Err(format!("must be one of {}", words.join(", "))),
            }
        };
        self.value(name, parse).unwrap_or(values[0])
    }

    pub fn switch(&mut self, name: &str) -> bool {
        self.choice(name, [false, true])
    }
}

fn known(name: &str) -> &'static Setting {
    match find(name) {
        Some(setting) => setting,
        None => panic!("{name} is not in the table of settings"),
    }
}
