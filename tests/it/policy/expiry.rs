//! G6: which checkpoints take too long, and what is told to whoever comes late.

use piton::{CheckpointId, policy::Expiry};

use super::{config, id, ms};

fn expiry() -> Expiry {
    Expiry::new(&config(|c| c.set_checkpoint_timeout(ms(100)).unwrap()))
}

#[test]
fn checkpoint_expires_when_the_engine_asks_and_once() {
    // Started at 10 and 30; asked at so many; which expire then.
    let rows: &[(u64, &[u64])] = &[(0, &[]), (109, &[]), (110, &[1]), (129, &[1]), (130, &[1, 2]), (u64::MAX, &[1, 2])];
    for (now, expected) in rows {
        let mut expiry = expiry();
        expiry.started(id(1), ms(10));
        expiry.started(id(2), ms(30));
        assert_eq!(expiry.next_deadline(), Some(ms(110)));
        let expired: Vec<_> = std::iter::from_fn(|| expiry.expire(ms(*now))).map(CheckpointId::get).collect();
        assert_eq!(expired, *expected, "at {now}");
        assert_eq!(expiry.expire(ms(*now)), None);
        for number in [1, 2] {
            assert_eq!(expiry.has_expired(id(number)), expected.contains(&number), "at {now}");
        }
    }
}

#[test]
fn checkpoint_that_has_ended_does_not_expire() {
    let mut expiry = expiry();
    expiry.started(id(1), ms(0));
    expiry.started(id(2), ms(0));
    expiry.ended(id(1));
    expiry.ended(id(7));
    assert_eq!((expiry.expire(ms(100)), expiry.expire(ms(100))), (Some(id(2)), None));
    assert!(!expiry.has_expired(id(1)) && expiry.next_deadline().is_none());
}

#[test]
fn last_sixteen_that_expired_are_remembered() {
    let mut expiry = expiry();
    for number in 1..=20 {
        expiry.started(id(number), ms(number));
        assert_eq!(expiry.expire(ms(number + 100)), Some(id(number)));
    }
    let remembered: Vec<_> = (1..=20).filter(|number| expiry.has_expired(id(*number))).collect();
    assert_eq!(remembered, (5..=20).collect::<Vec<_>>());
}
