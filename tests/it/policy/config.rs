//! G1: what can be set, what it is by default, and what is refused.

use std::time::Duration;

use piton::{
    CheckpointKind, ExternalizedCheckpointCleanup,
    contract::{Alignment, CheckpointStorage, CustomStorage, FilesystemStorage, MemoryStorage, Storage},
    disk::MemoryDisk,
    policy::{CheckpointConfig, CheckpointingMode, ConfigWarning},
};

use super::{config, ms};

type Defaults = fn(&CheckpointConfig) -> bool;

#[test]
fn defaults_are_those_of_the_rule() {
    let rows: &[(&str, Defaults)] = &[
        ("mode exactly-once", |c| c.checkpointing_mode() == CheckpointingMode::ExactlyOnce),
        ("mode, as a constant", |c| c.checkpointing_mode() == CheckpointConfig::DEFAULT_MODE),
        ("timeout 10 minutes", |c| c.checkpoint_timeout() == Duration::from_mins(10)),
        ("timeout, as a constant", |c| c.checkpoint_timeout() == CheckpointConfig::DEFAULT_TIMEOUT),
        ("no interval", |c| c.checkpoint_interval().is_none() && !c.is_checkpointing_enabled()),
        ("no pause", |c| c.min_pause_between_checkpoints() == Duration::ZERO),
        ("no pause, as a constant", |_| CheckpointConfig::DEFAULT_MIN_PAUSE_BETWEEN_CHECKPOINTS == Duration::ZERO),
        ("one at a time", |c| c.max_concurrent_checkpoints() == 1),
        ("one at a time, as a constant", |_| CheckpointConfig::DEFAULT_MAX_CONCURRENT_CHECKPOINTS == 1),
        ("no failure tolerated", |c| {
            c.tolerable_checkpoint_failure_number() == 0 && c.is_fail_on_checkpointing_errors()
        }),
        ("nothing externalized", |c| {
            c.externalized_checkpoint_cleanup() == ExternalizedCheckpointCleanup::NoExternalizedCheckpoints
                && !c.is_externalized_checkpoints_enabled()
        }),
        ("aligned", |c| !c.is_unaligned_checkpoints_enabled()),
        ("alignment timeout 0", |c| c.alignment_timeout() == Duration::ZERO),
        ("unaligned not forced", |c| !c.is_force_unaligned_checkpoints()),
        ("no storage", |c| c.checkpoint_storage().is_none()),
        ("nothing to complain about", |c| c.validate().unwrap().is_empty()),
        ("the same by any name", |c| *c == CheckpointConfig::default()),
    ];
    for (claim, holds) in rows {
        assert!(holds(&CheckpointConfig::new()), "{claim}");
    }
}

type Set = fn(&mut CheckpointConfig) -> &mut CheckpointConfig;

type Row = (&'static str, Set, Defaults);

/// What is set is what is got, and so it is written down.
fn check(rows: &[Row]) {
    for (claim, set, holds) in rows {
        let set = config(set);
        assert!(holds(&set), "{claim}");
        // And as it was written down.
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<CheckpointConfig>(&json).unwrap(), set, "{claim}: {json}");
    }
}

#[test]
fn times_and_numbers_that_are_set_are_got() {
    check(&[
        (
            "mode",
            |c| c.set_checkpointing_mode(CheckpointingMode::AtLeastOnce),
            |c| c.checkpointing_mode() == CheckpointingMode::AtLeastOnce,
        ),
        (
            "shortest interval",
            |c| c.set_checkpoint_interval(Some(ms(10))).unwrap(),
            |c| c.checkpoint_interval() == Some(ms(10)) && c.is_checkpointing_enabled(),
        ),
        (
            "interval off again",
            |c| c.set_checkpoint_interval(Some(ms(10))).unwrap().set_checkpoint_interval(None).unwrap(),
            |c| !c.is_checkpointing_enabled(),
        ),
        ("shortest timeout", |c| c.set_checkpoint_timeout(ms(10)).unwrap(), |c| c.checkpoint_timeout() == ms(10)),
        (
            "less than a millisecond is cut off",
            |c| c.set_checkpoint_timeout(Duration::from_micros(10_999)).unwrap(),
            |c| c.checkpoint_timeout() == ms(10),
        ),
        ("pause", |c| c.set_min_pause_between_checkpoints(ms(7)), |c| c.min_pause_between_checkpoints() == ms(7)),
        (
            "pause is a year at most",
            |c| c.set_min_pause_between_checkpoints(Duration::MAX),
            |c| c.min_pause_between_checkpoints() == Duration::from_hours(365 * 24),
        ),
        (
            "interval below the pause is raised to it, in whatever order they are set",
            |c| c.set_checkpoint_interval(Some(ms(10))).unwrap().set_min_pause_between_checkpoints(ms(500)),
            |c| c.checkpoint_interval() == Some(ms(500)),
        ),
        ("concurrent", |c| c.set_max_concurrent_checkpoints(3).unwrap(), |c| c.max_concurrent_checkpoints() == 3),
        (
            "tolerable",
            |c| c.set_tolerable_checkpoint_failure_number(5),
            |c| c.tolerable_checkpoint_failure_number() == 5 && !c.is_fail_on_checkpointing_errors(),
        ),
        (
            "tolerable above i32::MAX is unlimited",
            |c| c.set_tolerable_checkpoint_failure_number(u32::MAX),
            |c| c.tolerable_checkpoint_failure_number() == i32::MAX as u32,
        ),
    ]);
}

#[test]
fn flags_and_kinds_that_are_set_are_got() {
    use ExternalizedCheckpointCleanup::{DeleteOnCancellation, RetainOnCancellation};
    check(&[
        (
            "fail on errors",
            |c| c.set_tolerable_checkpoint_failure_number(5).set_fail_on_checkpointing_errors(true),
            |c| c.tolerable_checkpoint_failure_number() == 0 && c.is_fail_on_checkpointing_errors(),
        ),
        (
            "do not fail on errors",
            |c| c.set_fail_on_checkpointing_errors(false),
            |c| c.tolerable_checkpoint_failure_number() == CheckpointConfig::UNLIMITED_TOLERABLE_FAILURE_NUMBER,
        ),
        (
            "externalized, by its old name",
            |c| c.enable_externalized_checkpoints(DeleteOnCancellation),
            |c| c.externalized_checkpoint_cleanup() == DeleteOnCancellation && c.is_externalized_checkpoints_enabled(),
        ),
        (
            "externalized",
            |c| c.set_externalized_checkpoint_cleanup(RetainOnCancellation),
            |c| c.externalized_checkpoint_cleanup() == RetainOnCancellation && c.is_externalized_checkpoints_enabled(),
        ),
        ("unaligned", |c| c.enable_unaligned_checkpoints(), CheckpointConfig::is_unaligned_checkpoints_enabled),
        (
            "unaligned off again",
            |c| c.enable_unaligned_checkpoints().disable_unaligned_checkpoints(),
            |c| !c.is_unaligned_checkpoints_enabled(),
        ),
        ("alignment timeout", |c| c.set_alignment_timeout(ms(30)), |c| c.alignment_timeout() == ms(30)),
        (
            "forced unaligned",
            |c| c.set_force_unaligned_checkpoints(true),
            CheckpointConfig::is_force_unaligned_checkpoints,
        ),
        (
            "storage",
            |c| c.set_checkpoint_storage(MemoryStorage::default()),
            |c| c.checkpoint_storage() == Some(&Storage::Memory(MemoryStorage::default())),
        ),
        (
            "storage, by its directory",
            |c| c.set_checkpoint_storage_dir("/here"),
            |c| c.checkpoint_storage() == Some(&FilesystemStorage::new("/here").into()),
        ),
    ]);
}

#[test]
fn what_can_never_be_is_refused_by_its_name_by_setters_and_readers_alike() {
    type Refused = fn(&mut CheckpointConfig) -> Option<piton::Error>;
    let rows: &[(&str, &str, Refused)] = &[
        ("checkpoint_interval", r#"{"checkpoint_interval_ms":9}"#, |c| c.set_checkpoint_interval(Some(ms(9))).err()),
        ("checkpoint_interval", r#"{"checkpoint_interval_ms":0}"#, |c| c.set_checkpoint_interval(Some(ms(0))).err()),
        ("checkpoint_timeout", r#"{"checkpoint_timeout_ms":9}"#, |c| {
            c.set_checkpoint_timeout(Duration::from_micros(9_999)).err()
        }),
        ("max_concurrent_checkpoints", r#"{"max_concurrent_checkpoints":0}"#, |c| {
            c.set_max_concurrent_checkpoints(0).err()
        }),
    ];
    for (member, json, set) in rows {
        let mut untouched = CheckpointConfig::new();
        let error = set(&mut untouched).unwrap();
        assert!(error.is_invalid() && error.to_string().contains(member), "{error}");
        assert_eq!(untouched, CheckpointConfig::new());
        let error = serde_json::from_str::<CheckpointConfig>(json).unwrap_err().to_string();
        assert!(error.contains(member), "{error}");
    }
    let error = serde_json::from_str::<CheckpointConfig>(r#"{"chekpoint_interval_ms":9}"#).unwrap_err().to_string();
    assert!(error.contains("chekpoint_interval_ms"), "{error}");
}

#[test]
fn parts_that_do_not_fit_together_are_refused_or_warned_of() {
    fn several(c: &mut CheckpointConfig) -> &mut CheckpointConfig {
        c.set_max_concurrent_checkpoints(2).unwrap().enable_unaligned_checkpoints()
    }
    let error = config(several).validate().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("max_concurrent_checkpoints"), "{error}");

    let at_least_once = config(|c| several(c).set_checkpointing_mode(CheckpointingMode::AtLeastOnce));
    assert!(!at_least_once.is_unaligned_checkpoints_enabled());
    assert_eq!(at_least_once.validate().unwrap(), [ConfigWarning::UnalignedNeedsExactlyOnce]);
    let options = at_least_once.checkpoint_options(CheckpointKind::Checkpoint);
    assert_eq!(options.alignment(), Alignment::AtLeastOnce);

    let raised = config(|c| c.set_checkpoint_interval(Some(ms(10))).unwrap().set_min_pause_between_checkpoints(ms(20)));
    let warnings = raised.validate().unwrap();
    assert_eq!(warnings, [ConfigWarning::IntervalBelowMinPause { interval: ms(10), min_pause: ms(20) }]);
    assert!(warnings[0].to_string().contains("20ms"), "{}", warnings[0]);
}

#[test]
fn store_of_a_configuration_is_opened_as_it_says() {
    let unset = CheckpointConfig::new().open_store().unwrap_err();
    assert!(unset.is_invalid() && unset.to_string().contains("checkpoint_storage"), "{unset}");

    let dir = tempfile::tempdir().unwrap();
    let config = config(|c| {
        c.set_checkpoint_storage_dir(dir.path())
            .set_externalized_checkpoint_cleanup(ExternalizedCheckpointCleanup::RetainOnCancellation)
    });
    for (outcome, left) in [(piton::JobOutcome::Cancelled, 1), (piton::JobOutcome::Finished, 0)] {
        let store = config.open_store().unwrap();
        store.begin_next().unwrap().commit(piton::Manifest::builder()).unwrap();
        let _ = store.end_job(outcome, config.externalized_checkpoint_cleanup()).unwrap();
        assert_eq!(config.open_store().unwrap().checkpoint_ids().len(), left);
    }
}

#[test]
fn storage_that_no_store_can_be_opened_with_does_not_validate() {
    let rows: [Storage; 4] = [
        MemoryStorage { max_state_size: 0, directory: None }.into(),
        FilesystemStorage { inline_threshold: Some(1 << 40), ..FilesystemStorage::new("/s") }.into(),
        FilesystemStorage::new("").into(),
        CustomStorage::new("mine", "", std::sync::Arc::new(MemoryDisk::new())).into(),
    ];
    for storage in rows {
        let error = config(|c| c.set_checkpoint_storage(storage.clone())).validate().unwrap_err();
        assert!(error.is_invalid(), "{storage:?}: {error}");
    }
    let detached = r#"{"custom":{"name":"mine","root":"/s"}}"#;
    let detached: Storage = serde_json::from_str(detached).unwrap();
    assert_eq!(config(|c| c.set_checkpoint_storage(detached)).validate().unwrap(), [], "it may get its disk yet");
}

#[test]
fn custom_storage_is_written_down_without_its_disk() {
    let mut custom = CustomStorage::new("mine", "/root", std::sync::Arc::new(MemoryDisk::new()));
    custom.settings.insert("key".to_owned(), "7".to_owned());
    let config = config(|c| c.set_checkpoint_storage(custom));
    let json = serde_json::to_string(&config).unwrap();
    let read: CheckpointConfig = serde_json::from_str(&json).unwrap();
    assert_eq!(read, config);
    let Some(Storage::Custom(custom)) = read.checkpoint_storage() else { panic!("{json}") };
    assert_eq!((custom.name.as_str(), custom.settings["key"].as_str(), custom.is_attached()), ("mine", "7", false));
    let error = custom.open().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("\"mine\""), "{error}");
}
