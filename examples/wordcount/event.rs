//! What happens during a run, and how a child process tells its parent: one line of text each.

use std::{fmt, str::FromStr, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The store is open; so many leftovers of crashed processes were removed.
    Opened { leftovers: u64 },
    /// The writing of a checkpoint begins.
    Begun,
    /// It is committed: how long that took, and how many bytes the workers had counted.
    Committed { took: Duration, bytes: u64 },
    /// It failed, and what it was to write goes into the next one.
    Failed { why: String },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { leftovers } => write!(f, "opened {leftovers}"),
            Self::Begun => f.write_str("begun"),
            Self::Committed { took, bytes } => write!(f, "committed {} {bytes}", took.as_micros()),
            Self::Failed { why } => write!(f, "failed {}", why.replace('\n', " ")),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("the child said what nobody understands: {line}"))
    }
}

fn parse(line: &str) -> Option<Event> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    match kind {
        "opened" => Some(Event::Opened { leftovers: rest.parse().ok()? }),
        "begun" => Some(Event::Begun),
        "committed" => {
            let (took, bytes) = rest.split_once(' ')?;
            let took = Duration::from_micros(took.parse().ok()?);
            Some(Event::Committed { took, bytes: bytes.parse().ok()? })
        }
        "failed" => Some(Event::Failed { why: rest.to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were() {
        for event in [
            Event::Opened { leftovers: 3 },
            Event::Begun,
            Event::Committed { took: Duration::from_micros(1234), bytes: 5 },
            Event::Failed { why: "no space left".to_owned() },
        ] {
            assert_eq!(event.to_string().parse(), Ok(event));
        }
        assert!("committed 1".parse::<Event>().is_err());
    }
}
