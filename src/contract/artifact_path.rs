//! How artifacts are called.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    id::CheckpointId,
    manifest::{Artifact, Manifest},
};

/// The name of an artifact: a checkpoint, an operator, a partition, and what it is to it.
///
/// As text `<id>/operators/<operator>/partition-<p>.snap`, `....delta` for the first delta, `....<n>.delta` for the n-th,
/// counted from 1. It names no file. The operator is everything between the second slash and the last, so that any name
/// will do: `../x`, the empty one, one with slashes.
///
/// # Examples
///
/// ```
/// use piton::contract::{ArtifactPath, ArtifactRole};
///
/// let path: ArtifactPath = "7/operators/join/left/partition-3.2.delta".parse()?;
/// assert_eq!((path.operator.as_str(), path.partition, path.role), ("join/left", 3, ArtifactRole::Delta(2)));
/// assert_eq!(path.to_string(), "7/operators/join/left/partition-3.2.delta");
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactPath {
    /// The checkpoint.
    pub id: CheckpointId,
    /// The operator: any text.
    pub operator: String,
    /// The partition of the operator.
    pub partition: u32,
    /// What it is to the partition.
    pub role: ArtifactRole,
}

/// What an artifact is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactRole {
    /// Its snapshot.
    Snapshot,
    /// Its n-th delta, counted from 1.
    Delta(usize),
}

impl ArtifactPath {
    /// The artifact of this name in its manifest.
    #[must_use]
    pub fn find<'a>(&self, manifest: &'a Manifest) -> Option<&'a Artifact> {
        let partition = manifest.operator(&self.operator)?.partitions.get(&self.partition)?;
        match self.role {
            ArtifactRole::Snapshot => partition.snapshot.as_ref(),
            ArtifactRole::Delta(n) => partition.deltas.get(n.checked_sub(1)?),
        }
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, operator, partition, role } = self;
        write!(f, "{id}/operators/{operator}/partition-{partition}")?;
        match role {
            ArtifactRole::Snapshot => f.write_str(".snap"),
            ArtifactRole::Delta(1) => f.write_str(".delta"),
            ArtifactRole::Delta(n) => write!(f, ".{n}.delta"),
        }
    }
}

impl FromStr for ArtifactPath {
    type Err = Error;

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the text is none.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let form = "<id>/operators/<operator>/partition-<p>.snap, .delta or .<n>.delta";
            Error::invalid("parse artifact path", format!("{shown:?} is not of the form {form}"))
        })
    }
}

fn parse(text: &str) -> Option<ArtifactPath> {
    let (id, rest) = text.split_once('/')?;
    let (operator, name) = rest.strip_prefix("operators/")?.rsplit_once('/')?;
    let (partition, role) = name.strip_prefix("partition-")?.split_once('.')?;
    let role = match role {
        "snap" => ArtifactRole::Snapshot,
        "delta" => ArtifactRole::Delta(1),
        role => ArtifactRole::Delta(number(role.strip_suffix(".delta")?).filter(|n| *n > 0)?),
    };
    let (id, partition) = (CheckpointId::new(number(id)?)?, number(partition)?);
    Some(ArtifactPath { id, operator: operator.to_owned(), partition, role })
}

/// Digits alone: no sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_comes_back_from_its_path() {
        for operator in ["", "/", "../x", "a/partition-1.snap", "nul\0", "операция", "partition-1.snap/", " "] {
            for role in [ArtifactRole::Snapshot, ArtifactRole::Delta(1), ArtifactRole::Delta(1000)] {
                let path =
                    ArtifactPath { id: CheckpointId::FIRST, operator: operator.to_owned(), partition: u32::MAX, role };
                assert_eq!(path.to_string().parse::<ArtifactPath>().unwrap(), path);
            }
        }
    }

    #[test]
    fn text_that_is_no_path_is_refused_by_name() {
        for text in [
            "",
            "1/operators/partition-1.snap",
            "0/operators/x/partition-1.snap",
            "+1/operators/x/partition-1.snap",
            "1/operators/x/partition-1",
            "1/operators/x/partition--1.snap",
            "1/operators/x/partition-4294967296.snap",
            "1/operators/x/partition-1.0.delta",
            "1/operators/x/partition-1..delta",
            "1/operators/x/partition-1.snap ",
            "../operators/x/partition-1.snap",
        ] {
            let error = text.parse::<ArtifactPath>().unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(text), "{error}");
        }
    }
}
