//! The log messages of a connector.

/// How severe a log message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// A LOG message. Its text is not scrubbed and not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: Level,
    pub message: String,
}

/// The log messages that are kept: the most severe ones and, among equally severe ones, the last ones.
#[derive(Debug)]
pub struct LogBook {
    capacity: usize,
    /// In the order in which they came.
    entries: Vec<Log>,
}

impl LogBook {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: Vec::new() }
    }

    /// Adds a message. The text is only read if the message is kept.
    pub fn add(&mut self, level: &str, message: impl FnOnce() -> Option<String>) {
        let level = match level {
            "FATAL" => Level::Fatal,
            "ERROR" => Level::Error,
            "WARN" | "WARNING" => Level::Warn,
            "DEBUG" => Level::Debug,
            "TRACE" => Level::Trace,
            _ => Level::Info,
        };
        let replaced = if self.entries.len() < self.capacity {
            None
        } else {
            match self.entries.iter().enumerate().min_by_key(|(_, log)| log.level) {
                Some((at, least)) if least.level <= level => Some(at),
                _ => return,
            }
        };
        let Some(message) = message() else { return };
        if let Some(at) = replaced {
            self.entries.remove(at);
        }
        self.entries.push(Log { level, message });
    }

    pub fn entries(&self) -> &[Log] {
        &self.entries
    }

    /// Returns the last message of level ERROR or FATAL.
    pub fn last_error(&self) -> Option<&Log> {
        self.entries.iter().rev().find(|log| log.level >= Level::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::LogBook;

    #[test]
    fn the_most_severe_and_the_last_messages_are_kept() {
        let mut logs = LogBook::new(3);
        for (level, message) in [("INFO", "1"), ("ERROR", "2"), ("INFO", "3"), ("WARN", "4"), ("INFO", "5"), ("DEBUG", "6")] {
            logs.add(level, || Some(message.to_owned()));
        }
        let kept: Vec<&str> = logs.entries().iter().map(|log| log.message.as_str()).collect();
        assert_eq!(kept, ["2", "4", "5"]);
        assert_eq!(logs.last_error().map(|log| log.message.as_str()), Some("2"));
    }

    #[test]
    fn a_book_without_room_keeps_nothing() {
        let mut logs = LogBook::new(0);
        logs.add("FATAL", || Some("1".to_owned()));
        assert_eq!(logs.entries(), []);
    }
}
