//! A thread that counts the words of its share of the input, and hands over copies of what it has when it is asked to.

use std::{
    convert::Infallible,
    sync::mpsc::{Receiver, Sender, TryRecvError},
};

use bincode::{Decode, Encode};

use crate::{
    Failure,
    counts::{Counts, EncodedGroup},
    input::InputFile,
    words::Splitter,
};

const CHUNK: usize = 64 * 1024;

/// How far a worker is: everything before it was counted, nothing after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Position {
    /// How many times the whole share was counted.
    pub(crate) pass: u64,
    /// Which file of the share is being counted.
    pub(crate) file: usize,
    /// How far in that file.
    pub(crate) offset: u64,
    /// How many bytes that makes, all passes together: for the progress bar.
    pub(crate) bytes: u64,
}

/// What belongs into one checkpoint: the position, and the groups that changed since the last handover.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) position: Position,
    pub(crate) changed: Vec<EncodedGroup>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) share: Vec<InputFile>,
    pub(crate) passes: u64,
    pub(crate) position: Position,
    pub(crate) counts: Counts,
    /// Each request asks for one handover.
    pub(crate) requests: Receiver<()>,
    pub(crate) handovers: Sender<Handover>,
}

impl Worker {
    /// Counts everything, and then answers requests until nobody can make any. `busy` is dropped in between.
    pub(crate) fn run(mut self, busy: Sender<Infallible>) -> Result<(), Failure> {
        self.count()?;
        drop(busy);
        while self.requests.recv().is_ok() {
            self.hand_over(0)?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Failure> {
        let share = std::mem::take(&mut self.share);
        let mut buffer = vec![0; CHUNK];
        while self.position.pass < self.passes {
            while let Some(file) = share.get(self.position.file) {
                self.count_file(file, &mut buffer)?;
                self.position.file += 1;
                self.position.offset = 0;
            }
            self.position.pass += 1;
            self.position.file = 0;
        }
        Ok(())
    }

    /// Counts a file from where the position is.
    fn count_file(&mut self, file: &InputFile, buffer: &mut [u8]) -> Result<(), Failure> {
        let mut reader = file.open_at(self.position.offset)?;
        let mut splitter = Splitter::default();
        loop {
            self.answer_request(splitter.pending())?;
            let read = reader.read(buffer)?;
            if read == 0 {
                break;
            }
            splitter.feed(&mut buffer[..read], |word| self.counts.add(word));
            self.position.offset += read as u64;
            self.position.bytes += read as u64;
        }
        splitter.finish(|word| self.counts.add(word));
        Ok(())
    }

    /// The moment between two chunks. Once nobody can ask any more, the run has failed elsewhere: the worker stops.
    fn answer_request(&mut self, pending: u64) -> Result<(), Failure> {
        match self.requests.try_recv() {
            Ok(()) => self.hand_over(pending),
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err("stopped".into()),
        }
    }

    /// Hands over the consistent point that is `pending` bytes back, where the word begins that is not counted yet.
    fn hand_over(&mut self, pending: u64) -> Result<(), Failure> {
        let Position { pass, file, offset, bytes } = self.position;
        let position = Position { pass, file, offset: offset - pending, bytes: bytes - pending };
        let changed = self.counts.take_changed()?;
        self.handovers.send(Handover { position, changed }).map_err(|_| "stopped".into())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::mpsc::channel};

    use super::*;
    use crate::counts::decode;

    type Saved = (Position, BTreeMap<usize, Vec<u8>>);

    /// A worker that goes on from what was saved, is asked for a handover at its start and after each of 2 chunks, and
    /// is stopped then. (With one chunk it would not get past a word that goes on at the end of the chunk.)
    fn live(share: &[InputFile], (position, mut groups): Saved) -> Saved {
        let counts = Counts::restore(groups.iter().map(|(group, bytes)| Ok((*group, decode(bytes)?)))).unwrap();
        let ((requests, asked), (handovers, handed)) = (channel(), channel());
        let worker = Worker { share: share.to_vec(), passes: 2, position, counts, requests: asked, handovers };
        (0..3).for_each(|_| requests.send(()).unwrap());
        drop(requests);
        let _ = worker.run(channel().0);
        let handed: Vec<Handover> = handed.iter().collect();
        assert!(handed[0].changed.is_empty());
        for handover in &handed {
            groups.extend(handover.changed.iter().map(|group| (group.group, group.bytes.clone())));
        }
        (handed[2].position.clone(), groups)
    }

    #[test]
    fn stopping_after_every_chunk_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        // Chunk boundaries split words, and the file ends with one.
        let text = "words that go on ".repeat(3 * CHUNK / 17) + "end";
        std::fs::write(&path, &text).unwrap();
        let file = InputFile { path, len: text.len() as u64 };
        let share = [file.clone(), file];
        let (mut saved, mut lives) = (Saved::default(), 0);
        while saved.0.pass < 2 {
            saved = live(&share, saved);
            lives += 1;
        }
        assert!(lives > 10, "{lives}");
        assert_eq!(saved.0.bytes, 4 * text.len() as u64);
        let counts: BTreeMap<_, _> = saved.1.values().flat_map(|bytes| decode(bytes).unwrap()).collect();
        let times = 4 * (3 * CHUNK as u64 / 17);
        let expected = [(&b"end"[..], 4), (b"go", times), (b"on", times), (b"that", times), (b"words", times)];
        assert!(counts.iter().map(|(word, count)| (&**word, *count)).eq(expected), "{counts:?}");
    }
}
