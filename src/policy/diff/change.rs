//! One change of the policy, and whether it lets AAM or a caller do more.

use serde::Serialize;
use std::fmt::{Display, Write};

/// The key of a line that only says what follows for connections.
pub const CONNECTIONS: &str = "connections";

/// What a change does to what is allowed, from the least to the most that a reviewer has to think about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It changes how AAM works within what it was allowed to do.
    #[default]
    Neutral,
    /// Less is allowed than before.
    Narrower,
    /// Something is allowed that was not: a host, a call, a credential, a caller, a higher limit.
    Wider,
}

impl Effect {
    /// The effect of a number whose increase allows more.
    #[must_use]
    pub fn raised<T: PartialOrd>(was: &T, is: &T) -> Effect {
        if is > was {
            Effect::Wider
        } else if is < was {
            Effect::Narrower
        } else {
            Effect::Neutral
        }
    }

    /// Returns `Wider` if `is_wider`, otherwise `Narrower`.
    #[must_use]
    pub fn wider_if(is_wider: bool) -> Effect {
        if is_wider { Effect::Wider } else { Effect::Narrower }
    }

    /// The mark at the end of a sentence about the change.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Effect::Wider => " (wider)",
            Effect::Narrower | Effect::Neutral => "",
        }
    }

    /// The name of the effect in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Neutral => "neutral",
            Effect::Narrower => "narrower",
            Effect::Wider => "wider",
        }
    }
}

/// One change of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub effect: Effect,
    /// The key of the policy, for example `network.allow_private`.
    pub key: String,
    /// One line, with the mark `(wider)` behind each part that allows more.
    pub text: String,
}

/// Collects changes in the order in which they are shown.
#[derive(Debug, Default)]
pub struct Changes(pub Vec<Change>);

impl Changes {
    /// Adds a change.
    pub fn add(&mut self, key: &str, effect: Effect, text: impl Display) {
        self.0.push(Change { effect, key: key.to_string(), text: format!("{text}{}", effect.mark()) });
    }

    /// Adds a change, followed by what it means for connections.
    pub fn add_with(&mut self, key: &str, effect: Effect, text: impl Display, consequence: &str) {
        let text = format!("{text}{}; {consequence}", effect.mark());
        self.0.push(Change { effect, key: key.to_string(), text });
    }

    /// Adds several changes of one thing as one line, unless there are none.
    pub fn add_parts(&mut self, key: &str, title: &str, parts: &Parts, separator: &str, consequence: Option<&str>) {
        if parts.0.is_empty() {
            return;
        }
        let mut text = format!("{title}: {}", parts.joined(separator));
        if let Some(consequence) = consequence {
            let _ = write!(text, "; {consequence}");
        }
        self.0.push(Change { effect: parts.effect(), key: key.to_string(), text });
    }
}

/// Changes of one thing, for example of one family, which are shown on one line. A part may have parts of its own, whose
/// texts have their marks already.
#[derive(Debug, Default)]
pub struct Parts(pub Vec<(Effect, String)>, Effect);

impl Parts {
    /// Adds a part.
    pub fn add(&mut self, effect: Effect, text: impl Display) {
        self.0.push((effect, text.to_string()));
    }

    /// Adds a text that consists of parts.
    pub fn add_nested(&mut self, title: &str, parts: &Parts) {
        self.0.push((Effect::Neutral, format!("{title}: {}", parts.joined(", "))));
        self.1 = self.1.max(parts.effect());
    }

    /// Adds `key changes from WAS to IS` if the two differ.
    pub fn changed(&mut self, key: &str, effect: Effect, was: &str, is: &str) {
        if was != is {
            self.add(effect, format!("{key} changes from {was} to {is}"));
        }
    }

    /// The strongest effect of the parts.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.0.iter().map(|(effect, _)| *effect).max().unwrap_or_default().max(self.1)
    }

    /// The parts as one text, with their marks.
    #[must_use]
    pub fn joined(&self, separator: &str) -> String {
        self.0.iter().map(|(effect, text)| format!("{text}{}", effect.mark())).collect::<Vec<_>>().join(separator)
    }
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The policies mean the same.
    None,
    /// There are changes, and none of them allows more.
    Narrower,
    /// At least one change allows more.
    Wider,
}

impl Verdict {
    /// The verdict over all changes.
    #[must_use]
    pub fn over(changes: &[Change]) -> Verdict {
        match changes.iter().map(|change| change.effect).max() {
            None => Verdict::None,
            Some(Effect::Wider) => Verdict::Wider,
            Some(Effect::Narrower | Effect::Neutral) => Verdict::Narrower,
        }
    }
}
