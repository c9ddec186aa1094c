//! G3: how one checkpoint is taken.

use piton::{
    CheckpointKind::{self, Checkpoint, Savepoint},
    contract::{
        Alignment::{self, Aligned, AtLeastOnce, ForcedAligned, Unaligned},
        CheckpointOptions,
    },
    policy::CheckpointingMode,
};

use super::{config, ms};

const PLAIN: Alignment = Aligned { timeout: None };

fn timed(millis: u64) -> Alignment {
    Aligned { timeout: Some(ms(millis)) }
}

fn forced(millis: Option<u64>) -> Alignment {
    ForcedAligned { timeout: millis.map(ms) }
}

fn options(kind: CheckpointKind, alignment: Alignment) -> CheckpointOptions {
    CheckpointOptions::new(kind, alignment).unwrap()
}

#[test]
fn what_can_never_be_is_refused() {
    let rows = [
        (Savepoint, Unaligned, "never unaligned"),
        (Savepoint, timed(5), "never unaligned"),
        (Savepoint, forced(None), "never unaligned"),
        (Savepoint, forced(Some(5)), "never unaligned"),
        (Checkpoint, timed(0), "zero"),
        (Checkpoint, forced(Some(0)), "zero"),
    ];
    for (kind, alignment, why) in rows {
        let error = CheckpointOptions::new(kind, alignment).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(why), "{kind:?} {alignment:?}: {error}");
    }
    for (kind, alignment) in [(Savepoint, AtLeastOnce), (Savepoint, PLAIN), (Checkpoint, AtLeastOnce)] {
        let options = options(kind, alignment);
        assert_eq!((options.kind(), options.alignment()), (kind, alignment));
    }
    // Nor by reading what somebody wrote.
    let json = serde_json::to_string(&options(Checkpoint, Unaligned)).unwrap();
    assert_eq!(serde_json::from_str::<CheckpointOptions>(&json).unwrap(), options(Checkpoint, Unaligned));
    let error = serde_json::from_str::<CheckpointOptions>(&json.replace("Checkpoint", "Savepoint")).unwrap_err();
    assert!(error.to_string().contains("never unaligned"), "{error}");
}

#[test]
fn options_are_derived_from_the_configuration() {
    // Exactly once, unaligned, the alignment timeout in milliseconds; what a checkpoint and a savepoint get.
    let rows = [
        (false, false, 0, AtLeastOnce, AtLeastOnce),
        (false, true, 5, AtLeastOnce, AtLeastOnce),
        (true, false, 0, PLAIN, PLAIN),
        (true, false, 5, PLAIN, PLAIN),
        (true, true, 0, Unaligned, PLAIN),
        (true, true, 5, timed(5), PLAIN),
    ];
    for (exactly_once, unaligned, timeout, checkpoint, savepoint) in rows {
        let config = config(|c| {
            if !exactly_once {
                c.set_checkpointing_mode(CheckpointingMode::AtLeastOnce);
            }
            if unaligned {
                c.enable_unaligned_checkpoints();
            }
            c.set_alignment_timeout(ms(timeout))
        });
        let row = (exactly_once, unaligned, timeout);
        assert_eq!(config.checkpoint_options(Checkpoint), options(Checkpoint, checkpoint), "{row:?}");
        assert_eq!(config.checkpoint_options(Savepoint), options(Savepoint, savepoint), "{row:?}");
    }
}

#[test]
fn options_say_what_is_needed_and_what_becomes_of_them() {
    // Whether it is exactly-once, needs alignment, needs channel state, has a timeout; what it becomes where unaligned is
    // supported, where it is not, and after its timeout.
    let rows = [
        (AtLeastOnce, [false, false, false, false], [AtLeastOnce, AtLeastOnce, AtLeastOnce]),
        (PLAIN, [true, true, false, false], [PLAIN, PLAIN, PLAIN]),
        (timed(5), [true, true, true, true], [timed(5), forced(Some(5)), Unaligned]),
        (Unaligned, [true, false, true, false], [Unaligned, forced(None), Unaligned]),
        (forced(None), [true, true, false, false], [Unaligned, forced(None), forced(None)]),
        (forced(Some(5)), [true, true, false, false], [timed(5), forced(Some(5)), forced(Some(5))]),
    ];
    for (of, needs, becomes) in rows {
        let timeout = (of == timed(5)).then(|| ms(5));
        let of = options(Checkpoint, of);
        let needed = [of.is_exactly_once(), of.needs_alignment(), of.needs_channel_state(), of.is_timeoutable()];
        assert_eq!((needed, of.timeout()), (needs, timeout), "{of:?}");
        let becoming = [of.with_unaligned_supported(), of.with_unaligned_unsupported(), of.timed_out()];
        assert_eq!(becoming.map(|options| options.alignment()), becomes, "{of:?}");
    }
    // A savepoint never becomes unaligned by any of it.
    for of in [CheckpointOptions::aligned(Savepoint), options(Savepoint, AtLeastOnce)] {
        assert_eq!([of.with_unaligned_supported(), of.with_unaligned_unsupported(), of.timed_out()], [of; 3]);
    }
}
