//! F4: the same bytes in two places.

use std::{io::Write, sync::Arc};

use piton::{Error, Scope, contract::CheckpointStream, snapshot::DuplicatingStream};

use super::Flaky;
use crate::support::{bytes, memory};

fn both(primary: Flaky, secondary: Flaky) -> DuplicatingStream {
    DuplicatingStream::new(Box::new(primary), Ok(Box::new(secondary)))
}

#[test]
fn both_get_the_same_bytes_whatever_each_takes_at_a_time() {
    for (first, second) in [(None, None), (Some(7), None), (None, Some(3)), (Some(5), Some(2))] {
        let (primary, secondary) =
            (Flaky { short: first, ..Flaky::default() }, Flaky { short: second, ..Flaky::default() });
        let (one, other) = (Arc::clone(&primary.written), Arc::clone(&secondary.written));
        let mut stream = both(primary, secondary);
        stream.write_all(&bytes(1, 1_000)).unwrap();
        stream.flush().unwrap();
        stream.sync().unwrap();
        assert_eq!(stream.position(), 1_000);
        let written = stream.finish_both().unwrap();
        assert_eq!((written.primary, *one.lock().unwrap() == bytes(1, 1_000)), (written.secondary.unwrap(), true));
        assert_eq!(*one.lock().unwrap(), *other.lock().unwrap());
    }
}

#[test]
fn interrupted_calls_are_repeated_on_either_side() {
    for (first, second) in [(true, false), (false, true), (true, true)] {
        let interrupted = |interrupted| Flaky { interrupted, ..Flaky::default() };
        let mut stream = both(interrupted(first), interrupted(second));
        stream.write_all(b"state").unwrap();
        let written = stream.finish_both().unwrap();
        assert_eq!(written.primary, written.secondary.unwrap());
    }
}

#[test]
fn failing_second_is_dropped_and_remembered_and_the_first_goes_on() {
    let rows = [
        ("write", Flaky { fails_at: Some(10), ..Flaky::default() }, true),
        ("sync", Flaky { fails_in: "sync", ..Flaky::default() }, true),
        ("flush", Flaky { fails_in: "flush", ..Flaky::default() }, true),
        ("takes nothing", Flaky { short: Some(0), ..Flaky::default() }, true),
        ("finish", Flaky { fails_in: "finish", ..Flaky::default() }, false),
    ];
    for (claim, secondary, at_once) in rows {
        let written = Arc::clone(&secondary.written);
        let mut stream = both(Flaky::default(), secondary);
        for _ in 0..3 {
            stream.write_all(b"12345678").unwrap();
            stream.sync().unwrap();
            stream.flush().unwrap();
        }
        assert_eq!(stream.secondary_error().is_some(), at_once, "{claim}");
        assert_eq!(Arc::strong_count(&written) == 1, at_once, "{claim}: dropped at once");
        let state = stream.finish_both().unwrap();
        assert_eq!(state.primary.inline_bytes(), Some(&b"12345678".repeat(3)[..]), "{claim}");
        assert!(state.secondary.is_err(), "{claim}");
        assert_eq!(Arc::strong_count(&written), 1, "{claim}");
    }
}

#[test]
fn second_that_could_not_be_created_or_is_elsewhere_has_failed_from_the_beginning() {
    let stream = DuplicatingStream::new(Box::new(Flaky::default()), Err(Error::invalid("create", "told so")));
    assert!(stream.secondary_error().unwrap().to_string().contains("told so"));
    let mut ahead = Flaky::default();
    ahead.write_all(b"before").unwrap();
    let mut stream = both(Flaky::default(), ahead);
    assert!(stream.secondary_error().unwrap().is_invalid());
    stream.write_all(b"state").unwrap();
    let finished = (Box::new(stream) as Box<dyn CheckpointStream>).finish().unwrap();
    assert_eq!(finished.inline_bytes(), Some(&b"state"[..]));
}

#[test]
fn failing_first_fails_both() {
    let second = Flaky::default();
    let written = Arc::clone(&second.written);
    let mut stream = both(Flaky { fails_at: Some(10), ..Flaky::default() }, second);
    stream.write_all(b"12345678").unwrap();
    let error = Error::from_writer(stream.write_all(b"12345678").unwrap_err());
    assert_eq!(error.raw_os_error(), Some(5));
    assert_eq!(*written.lock().unwrap(), b"12345678", "the second is never ahead");
    drop(stream);
    assert_eq!(Arc::strong_count(&written), 1);

    let second = Flaky::default();
    let written = Arc::clone(&second.written);
    let stream = both(Flaky { fails_in: "finish", ..Flaky::default() }, second);
    assert!(stream.finish_both().is_err());
    assert_eq!(Arc::strong_count(&written), 1, "it is not finished for nothing");
}

#[test]
fn copy_that_is_not_one_is_no_second() {
    /// Keeps something else than what it was given.
    #[derive(Debug)]
    struct Liar(u64);
    impl Write for Liar {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl CheckpointStream for Liar {
        fn position(&self) -> u64 {
            self.0
        }
        fn sync(&mut self) -> piton::Result<()> {
            Ok(())
        }
        fn finish(self: Box<Self>) -> piton::Result<piton::StateHandle> {
            Ok(piton::StateHandle::inline(b"elsewhere"))
        }
    }
    let mut stream = DuplicatingStream::new(Box::new(Flaky::default()), Ok(Box::new(Liar(0))));
    stream.write_all(b"nine byte").unwrap();
    assert!(stream.finish_both().unwrap().secondary.unwrap_err().is_invalid());
}

#[test]
fn two_stores_get_the_same_state() {
    let (store, local) = (memory(), memory());
    let (pending, beside) = (store.begin_next().unwrap(), local.begin_next().unwrap());
    let mut stream = DuplicatingStream::create(&pending, &beside, Scope::Shared).unwrap();
    stream.write_all(&bytes(1, 3_000_000)).unwrap();
    let written = stream.finish_both().unwrap();
    for (pending, handle) in [(pending, written.primary), (beside, written.secondary.unwrap())] {
        let checkpoint = pending.commit(piton::Manifest::builder().state("it", handle.clone())).unwrap();
        assert_eq!(*checkpoint.read(&handle).unwrap(), *bytes(1, 3_000_000));
    }
    // The second store is gone: the first one's checkpoint is taken all the same.
    let (pending, beside) = (store.begin_next().unwrap(), local.begin_next().unwrap());
    let gone = beside.streams();
    drop(beside);
    let mut stream = DuplicatingStream::create(&pending, &gone, Scope::Shared).unwrap();
    stream.write_all(b"state").unwrap();
    assert!(stream.finish_both().unwrap().secondary.unwrap_err().is_invalid());
}
