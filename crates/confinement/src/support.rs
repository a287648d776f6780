//! What the running kernel can enforce.

use serde::{Deserialize, Serialize};

/// Whether one part of the confinement can be enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "enforcement", content = "reason")]
pub enum Enforcement {
    /// All of it.
    Full,
    /// Less than all of it; the sentence says what and why.
    Partial(String),
    /// Nothing of it; the sentence says why.
    Missing(String),
}

/// What the running kernel can enforce, for each part of the confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// Only the listed files can be opened (Landlock).
    pub files: Enforcement,
    /// The program finds the proxy and no other network (a user and a network namespace).
    pub network: Enforcement,
    /// Calls that reach into other processes, into the kernel or around the other two parts are refused (seccomp).
    pub system_calls: Enforcement,
    /// Everything that the program starts ends with it and with its caller, whatever ends the caller (a process namespace).
    pub processes: Enforcement,
}

impl Support {
    /// Whether every part can be enforced.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.parts().iter().all(|(_, part)| **part == Enforcement::Full)
    }

    /// One sentence for each part that cannot be enforced fully, such as `files: this kernel does not have Landlock`.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let sentence = |(name, part): &(&str, &Enforcement)| match part {
            Enforcement::Full => None,
            Enforcement::Partial(reason) | Enforcement::Missing(reason) => Some(format!("{name}: {reason}")),
        };
        self.parts().iter().filter_map(sentence).collect()
    }

    fn parts(&self) -> [(&'static str, &Enforcement); 4] {
        [("files", &self.files), ("network", &self.network), ("system calls", &self.system_calls), ("processes", &self.processes)]
    }
}

#[cfg(test)]
mod tests {
    use super::{Enforcement, Support};

    #[test]
    fn every_part_that_is_not_full_is_named_with_its_reason() {
        let full = || Enforcement::Full;
        let mut support = Support { files: full(), network: full(), system_calls: full(), processes: full() };
        assert!(support.is_full() && support.missing().is_empty());
        support.files = Enforcement::Missing("this kernel does not have Landlock".to_string());
        support.network = Enforcement::Partial("ports only".to_string());
        assert!(!support.is_full());
        assert_eq!(support.missing(), ["files: this kernel does not have Landlock", "network: ports only"]);
    }
}
