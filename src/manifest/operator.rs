//! What a checkpoint has of an operator, and of each of its partitions.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::KeyGroupRange;
use crate::{
    error::{Error, Result},
    handle::StateHandle,
    ordered::OrdMap,
};

/// The states of one operator of a dataflow, by partition. It is serde-serialisable, so that one process can tell another of
/// them.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, OperatorState, Options, PartitionState, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
/// let window = pending.write(Scope::Shared, &[1; 4096])?;
/// let partition = PartitionState { snapshot: Some(window.into()), ..PartitionState::default() };
/// let operator =
///     OperatorState { parallelism: 4, max_parallelism: 128, partitions: [(0, partition)].into(), ..OperatorState::default() };
/// let checkpoint = pending.commit(Manifest::builder().operator("window", operator))?;
/// assert_eq!(checkpoint.manifest().operator("window").unwrap().parallelism, 4);
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// How many partitions worked at the same time.
    pub parallelism: u32,
    /// How many there can ever be: the number of key groups.
    pub max_parallelism: u32,
    /// What the operator's coordinator remembers.
    pub coordinator: Option<StateHandle>,
    /// By number of the partition.
    pub partitions: OrdMap<u32, Arc<PartitionState>>,
}

/// The states of one partition of an operator: a snapshot, what has changed since, and whatever else has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// All of it, as of some moment.
    pub snapshot: Option<Artifact>,
    /// What has changed since the snapshot, oldest first. Without a snapshot it goes on from what the parent has, which must
    /// be kept: [pin](crate::Store::pin) the parent, or better name its artifacts here as well, before these; to name a
    /// state is to keep it.
    pub deltas: Vec<Artifact>,
    /// Other states of the partition, by name.
    pub states: BTreeMap<String, StateHandle>,
    /// The key groups that the partition holds, if its snapshot and its deltas are split into key groups. The number of such
    /// a partition is its first key group. The ranges of an operator's partitions do not overlap.
    ///
    /// Snapshot and deltas are then written with [`KeyGroupWriter`](crate::KeyGroupWriter), and read with
    /// [`Checkpoint::key_groups`](crate::Checkpoint::key_groups). The snapshot may have more key groups than the partition,
    /// and a delta more or fewer. So a rescaled operator names the same states again, under the new ranges. Without a
    /// snapshot, each key group of the range is in at least one delta.
    pub key_groups: Option<KeyGroupRange>,
}

impl PartitionState {
    /// Whether there is nothing of this partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.deltas.is_empty() && self.states.is_empty()
    }
}

/// A snapshot or a delta: a state, and perhaps the digest of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The state.
    pub handle: StateHandle,
    /// What its bytes must have beside the checksum of the handle.
    pub digest: Option<Digest>,
}

impl From<StateHandle> for Artifact {
    fn from(handle: StateHandle) -> Self {
        Self { handle, digest: None }
    }
}

/// The SHA-256 of an artifact's bytes. Its text form is 64 lower-case hexadecimal digits. Its serde form is that text in formats
/// for people, and 32 bytes otherwise.
///
/// # Examples
///
/// ```
/// use piton::Digest;
///
/// let digest = Digest::of(b"abc");
/// let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// assert_eq!(digest.to_string(), text);
/// assert_eq!(text.parse::<Digest>()?, digest);
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest itself, 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Makes a [`Digest`] of bytes that come piece by piece.
#[derive(Clone, Debug, Default)]
pub(crate) struct DigestHasher(sha2::Sha256);

impl DigestHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(sha2::Digest::finalize(self.0).into())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        <[u8; 32]>::deserialize(deserializer).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the text is not 64 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let whole = pairs.len() == bytes.len() && rest.is_empty();
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let read = bytes.iter_mut().zip(pairs).try_for_each(|(byte, [high, low])| {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
            Some(())
        });
        read.filter(|()| whole).map(|()| Self(bytes)).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Error::invalid("parse digest", format!("{shown:?} is not 64 lower-case hexadecimal digits"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_digest_is_refused() {
        let digest = Digest::of(b"").to_string();
        for text in ["", &digest[1..], &format!("{digest}0"), &digest.to_uppercase(), &format!("+{}", &digest[1..])] {
            assert!(text.parse::<Digest>().unwrap_err().is_invalid(), "{text}");
        }
    }
}
