//! Some key groups of an operator, out of the states that hold them.

use std::{
    borrow::Cow,
    iter::{self, FusedIterator},
    ops::Range,
    sync::Arc,
    vec,
};

use super::{
    Checkpoint, StateView,
    checkpoint::{Inner, Named},
    segment::Segment,
    verify,
};
use crate::{
    disk::layout,
    error::{Error, Malformed, Result},
    format::{
        key_groups::{FOOTER_LEN, Group, decode, decode_footer},
        segment::entry_end,
    },
    handle::{Either, Extent, StateHandle},
    manifest::{KeyGroupRange, OperatorState, PartitionState, StateName},
};

/// The state of one key group of an operator.
#[derive(Debug)]
pub struct KeyGroup {
    /// The number of the key group.
    pub number: u32,
    /// The bytes of the key group in the snapshot, then in each delta that has the key group, oldest first. At least one.
    pub pieces: Vec<StateView>,
}

/// Key groups of an operator, in ascending order: from [`Checkpoint::key_groups`].
///
/// A key group is read and verified when its turn comes. After an error the iterator goes on with the next key group.
#[derive(Debug)]
pub struct KeyGroups {
    checkpoint: Checkpoint,
    left: Range<u32>,
    /// Those of the key groups that are left, in order.
    pieces: vec::IntoIter<Piece>,
    bytes: u64,
    all_bytes: u64,
}

/// A key group in one state.
#[derive(Debug)]
struct Piece {
    handle: StateHandle,
    group: Group,
    /// Where in the state the last of the key groups ends that were asked for.
    end: u64,
}

/// A partition with some of the key groups that were asked for.
struct Holder<'a> {
    number: u32,
    held: KeyGroupRange,
    partition: &'a PartitionState,
}

impl KeyGroups {
    /// How many bytes the key groups have that the iterator has given out so far. Indexes do not count.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes all asked key groups have.
    #[must_use]
    pub fn all_bytes(&self) -> u64 {
        self.all_bytes
    }
}

impl Iterator for KeyGroups {
    type Item = Result<KeyGroup>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.left.next()?;
        let count = self.pieces.as_slice().iter().take_while(|piece| piece.group.number == number).count();
        let pieces: Vec<_> = self.pieces.by_ref().take(count).collect();
        let read = pieces.iter().map(|piece| self.checkpoint.read_piece(piece)).collect::<Result<Vec<_>>>();
        Some(read.map(|views| {
            self.bytes += views.iter().map(|view| view.len() as u64).sum::<u64>();
            KeyGroup { number, pieces: views }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl ExactSizeIterator for KeyGroups {}
impl FusedIterator for KeyGroups {}

impl Checkpoint {
    /// Reads key groups of an operator out of the partitions that hold them
    /// ([`PartitionState::key_groups`](crate::PartitionState::key_groups)). A worker asks for its own range, whatever the
    /// parallelism was when the states were written. Several threads share the work when each asks for a range of its own.
    ///
    /// This call reads the index of each snapshot and delta of those partitions. [`KeyGroups`] then reads a key group when its
    /// turn comes, and nothing else of a state in a file.
    ///
    /// A key group must have the checksum that its index says. It is not compared if the store was opened with
    /// `Verify::Never`, or if the whole state was verified before. The digest of an artifact is that of the whole state, and
    /// is not compared. The bytes of a key group are not aligned.
    ///
    /// # Errors
    ///
    /// - `is_invalid` if the range is empty.
    /// - `is_not_found` if the checkpoint has no such operator, or if no partition holds some of the key groups. The error
    ///   names them.
    /// - `is_invalid` if the number of a partition is not its first key group, or if two partitions overlap. The call looks at
    ///   the partitions that hold the range, and at the two before it.
    /// - `is_invalid` if a snapshot or delta was not written with a [`KeyGroupWriter`](crate::KeyGroupWriter), or if none of
    ///   them has a key group that the partition holds.
    /// - `is_corrupt`, with the file, if an index is damaged; and the other errors of [`read`](Self::read). A damaged key
    ///   group fails when its turn comes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::io::Write;
    /// # use piton::{Error, KeyGroupRange, KeyGroupWriter, Manifest, Options, PartitionState, Scope};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let mut manifest = Manifest::builder();
    /// # for range in [KeyGroupRange::new(0, 4)?, KeyGroupRange::new(4, 8)?] {
    /// #     let mut writer = KeyGroupWriter::new(pending.writer(Scope::Shared)?);
    /// #     for group in range.start()..range.end() {
    /// #         writer.group(group)?;
    /// #         write!(writer, "group {group}").map_err(Error::from_writer)?;
    /// #     }
    /// #     let snapshot = Some(writer.finish()?.into());
    /// #     let partition = PartitionState { snapshot, key_groups: Some(range), ..PartitionState::default() };
    /// #     manifest = manifest.partition("window", range.start(), partition);
    /// # }
    /// # pending.commit(manifest)?;
    /// let checkpoint = store.latest()?.expect("one was committed");
    /// // Two partitions wrote 0..4 and 4..8. This is the second of three workers.
    /// let mut groups = checkpoint.key_groups("window", 3..6)?;
    /// for group in &mut groups {
    ///     let group = group?;
    ///     assert_eq!(*group.pieces[0], *format!("group {}", group.number).as_bytes());
    /// }
    /// assert_eq!(groups.bytes(), 3 * 7);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn key_groups(&self, operator: &str, groups: Range<u32>) -> Result<KeyGroups> {
        let operation = format!(
            "read key groups {}..{} of operator {operator:?} of checkpoint {}",
            groups.start,
            groups.end,
            self.id()
        );
        let asked = KeyGroupRange::of(groups.start, groups.end)
            .ok_or_else(|| Error::invalid(&*operation, "the range is empty: name at least one group"))?;
        let found = self.manifest().operator(operator);
        let found =
            found.ok_or_else(|| Error::not_found(&*operation, "the checkpoint has no operator of this name"))?;
        let mut pieces = Vec::new();
        for holder in holders(found, asked, &operation)? {
            pieces.append(&mut self.pieces(operator, &holder, &operation)?);
        }
        let all_bytes = pieces.iter().map(|piece| piece.group.len).fold(0, u64::saturating_add);
        Ok(KeyGroups { checkpoint: self.clone(), left: groups, pieces: pieces.into_iter(), bytes: 0, all_bytes })
    }

    /// Looks up the asked key groups of a partition in its states: by key group, then oldest first.
    fn pieces(&self, operator: &str, holder: &Holder<'_>, operation: &str) -> Result<Vec<Piece>> {
        let Holder { number, held, partition } = *holder;
        let snapshot = partition.snapshot.iter().map(|artifact| (StateName::Snapshot(operator, number), artifact));
        let deltas = partition.deltas.iter().zip(1..);
        let deltas = deltas.map(|(artifact, n)| (StateName::Delta(operator, number, n), artifact));
        let mut pieces = Vec::new();
        for (name, artifact) in snapshot.chain(deltas) {
            let groups = self.index(&artifact.handle, held)?.map_err(|wrong| {
                let why = format!("{name} has no index of key groups ({}): write it with KeyGroupWriter", wrong.what);
                Error::invalid(operation, why)
            })?;
            let end = groups.last().map_or(0, |last| last.offset.saturating_add(last.len));
            pieces.extend(groups.into_iter().map(|group| Piece { handle: artifact.handle.clone(), group, end }));
        }
        pieces.sort_by_key(|piece| piece.group.number);
        let mut there = pieces.iter().map(|piece| piece.group.number);
        for group in held.start()..held.end() {
            // It may be there several times.
            if there.find(|found| *found >= group) != Some(group) {
                let why = format!(
                    "partition {number} of operator {operator:?} holds key group {group}, which none of its states has: write \
                     a group without bytes if it is empty"
                );
                return Err(Error::invalid(operation, why));
            }
        }
        Ok(pieces)
    }

    /// Reads the entries of these key groups in the index of a state. `Malformed` says that the state was written without an
    /// index.
    fn index(&self, handle: &StateHandle, held: KeyGroupRange) -> Result<Index> {
        match handle.place() {
            Either::Inline(bytes) => match inline_index(bytes, held)? {
                Err(wrong) if wrong.newer.is_some() => {
                    Err(wrong.at(verify::OPERATION, &self.reading().volume().path(layout::MANIFESTS)))
                }
                index => Ok(index),
            },
            Either::File(extent) => self.look(handle, &extent, Named::ByManifest, |inner, segment, extent, _| {
                inner.index(segment, extent, held).map(|index| (index, false))
            }),
        }
    }

    fn read_piece(&self, piece: &Piece) -> Result<StateView> {
        let Group { offset, len, .. } = piece.group;
        match piece.handle.place() {
            // The bytes of a handle were compared with its checksum when it was read.
            Either::Inline(bytes) => {
                Ok(StateView::inline_part(bytes.clone(), in_memory(&(offset..offset.saturating_add(len)))))
            }
            Either::File(extent) => {
                self.look(&piece.handle, &extent, Named::ByManifest, |inner, segment, extent, is_verified| {
                    inner.group(segment, extent, piece, is_verified).map(|view| (view, false))
                })
            }
        }
    }
}

/// Finds the partitions that hold these key groups, in ascending order. Each begins where the one before it ends.
fn holders<'a>(operator: &'a OperatorState, asked: KeyGroupRange, operation: &str) -> Result<Vec<Holder<'a>>> {
    let partitions = &operator.partitions;
    let split =
        |(number, partition): (&u32, &'a Arc<PartitionState>)| Some((*number, partition.key_groups?, partition));
    let before = |number: &u32| {
        iter::successors(partitions.before(number), |(number, _)| partitions.before(*number)).find_map(split)
    };
    // The first may reach into the range. Its neighbour must not reach into the first.
    let first = before(&asked.start());
    let neighbour = first.and_then(|(number, ..)| before(&number));
    let from_start = partitions.range_from(&asked.start()).take_while(|(number, _)| **number < asked.end());
    let missing =
        |start, end| Err(Error::not_found(operation, format!("no partition holds key groups {start}..{end}")));
    let (mut holders, mut end, mut last) = (Vec::new(), asked.start(), None);
    for (number, range, partition) in neighbour.into_iter().chain(first).chain(from_start.filter_map(split)) {
        if number != range.start() {
            let why = format!("partition {number} holds key groups {range}: its number must be the first of them");
            return Err(Error::invalid(operation, why));
        }
        if let Some(last) = last.filter(|last: &KeyGroupRange| last.end() > range.start()) {
            return Err(Error::invalid(
                operation,
                format!("the key groups {last} and {range} of two partitions overlap"),
            ));
        }
        last = Some(range);
        if let Some(held) = range.intersection(asked) {
            if held.start() > end {
                return missing(end, held.start());
            }
            end = held.end();
            holders.push(Holder { number, held, partition });
        }
    }
    if end < asked.end() { missing(end, asked.end()) } else { Ok(holders) }
}

type Index = std::result::Result<Vec<Group>, Malformed>;

/// Reads the entries of these key groups in the index of a state. `read` gives a part of the state. `Malformed` counts from the
/// start of the state.
fn read_index<'a>(
    state_len: u64,
    footer: &[u8],
    held: KeyGroupRange,
    read: impl FnOnce(&Range<u64>) -> Result<Cow<'a, [u8]>>,
) -> Result<Index> {
    let at = |start: u64| move |wrong: Malformed| Malformed { offset: wrong.offset.saturating_add(start), ..wrong };
    let index = match decode_footer(footer, state_len).map_err(at(state_len.saturating_sub(FOOTER_LEN))) {
        Ok(index) => index,
        Err(wrong) => return Ok(Err(wrong)),
    };
    Ok(decode(&read(&index.place)?, &index, held).map_err(at(index.place.start)))
}

/// Reads the index of a state that travels in its handle.
fn inline_index(state: &[u8], held: KeyGroupRange) -> Result<Index> {
    let part = |part: &Range<u64>| state.get(in_memory(part)).unwrap_or_default();
    let len = state.len() as u64;
    let footer = part(&(len.saturating_sub(FOOTER_LEN)..len));
    read_index(len, footer, held, |place| Ok(Cow::Borrowed(part(place))))
}

fn in_memory(part: &Range<u64>) -> Range<usize> {
    let [start, end] = [part.start, part.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    start..end
}

impl Inner {
    /// Reads the index of a state in a file. A state without an index is not damaged if it has the checksum of its handle.
    fn index(&self, segment: &Segment, extent: &Extent, held: KeyGroupRange) -> Result<Index> {
        let wrong = match self.index_in_file(segment, extent, held)? {
            Err(wrong) if wrong.newer.is_none() => wrong,
            Err(newer) => return Err(self.blame(segment, newer)),
            index => return Ok(index),
        };
        match self.check(segment, extent, true) {
            // The bytes are right now: they may not have been before.
            Ok(_) => self.index_in_file(segment, extent, held),
            Err(error) if error.is_damage() => Err(self.blame(segment, wrong)),
            Err(error) => Err(error),
        }
    }

    /// Reads an index once. `Malformed` counts from the start of the file.
    fn index_in_file(&self, segment: &Segment, extent: &Extent, held: KeyGroupRange) -> Result<Index> {
        let footer_at = extent.end().saturating_sub(FOOTER_LEN).max(extent.offset);
        let behind = self.bytes(segment, extent, &(footer_at..entry_end(extent.offset, extent.len)))?;
        let footer_len = usize::try_from(extent.end() - footer_at).unwrap_or_default();
        let (footer, trailer) = behind.split_at_checked(footer_len).unwrap_or_default();
        segment.check_trailer(trailer, extent).map_err(|wrong| self.blame(segment, wrong))?;
        let in_file = |at: u64| at.saturating_add(extent.offset);
        let read = |place: &Range<u64>| self.bytes(segment, extent, &(in_file(place.start)..in_file(place.end)));
        let index = read_index(extent.len, footer, held, read)?;
        Ok(index.map_err(|wrong| Malformed { offset: in_file(wrong.offset), ..wrong }))
    }

    /// Reads a part of a state, or its trailer, and verifies nothing: in the mapping, or into memory of its own.
    fn bytes<'a>(&self, segment: &'a Segment, extent: &Extent, part: &Range<u64>) -> Result<Cow<'a, [u8]>> {
        let mapped = self.mapping(segment, extent)?.and_then(|mapping| {
            mapping.read_ahead(in_memory(part)).ok()?;
            mapping.get(in_memory(part))
        });
        match mapped {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => self.file(segment.data())?.read(part).map(Cow::Owned),
        }
    }

    /// Verifies a key group of a state in a file, and views it.
    fn group(&self, segment: &Arc<Segment>, extent: &Extent, piece: &Piece, is_verified: bool) -> Result<StateView> {
        let Group { offset, len, crc, .. } = piece.group;
        let [start, until] = [offset, piece.end].map(|at| at.saturating_add(extent.offset));
        let part = Extent { offset: start, len, crc, ..*extent };
        if let Some(mapping) = self.mapping(segment, extent)? {
            let Some(place) = segment.place(&part) else {
                return Err(self.blame(segment, Malformed::new(start, "the file ends before the key group does")));
            };
            if is_verified {
                return Ok(StateView::shared(segment, place));
            }
            if let Some(found) = segment.checksum(mapping, place.clone(), in_memory(&(start..until)).end) {
                verify::checksum(&part, found).map_err(|wrong| self.blame(segment, wrong))?;
                return Ok(StateView::shared(segment, place));
            }
        }
        let file = self.file(segment.data())?;
        if !is_verified {
            file.check_state(&part, |_| ())?;
        }
        Ok(StateView::own(file.map(&part)?, &self.pin))
    }
}
