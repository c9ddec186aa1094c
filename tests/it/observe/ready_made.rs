//! The observers for `log`, `tracing` and `metrics`.

#[cfg(feature = "log")]
mod to_log {
    use std::sync::Mutex;

    use piton::{Options, observe::to_log};

    use crate::support::{bytes, commit_states};

    struct Lines(Mutex<Vec<String>>);

    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}: {}", record.level(), record.target(), record.args());
            self.0.lock().unwrap().push(line);
        }

        fn flush(&self) {}
    }

    static LINES: Lines = Lines(Mutex::new(Vec::new()));

    #[test]
    fn events_become_lines_with_the_level_of_their_weight() {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let store = Options::memory().observer(to_log()).open("state").unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        let lines = LINES.0.lock().unwrap();
        assert_eq!(
            lines[1..3],
            ["DEBUG piton: began checkpoint 1", "DEBUG piton: wrote a state of 5000 bytes for checkpoint 1"]
        );
        assert!(lines[0].starts_with("INFO piton: made the store in "), "{}", lines[0]);
        assert!(lines[3].starts_with("INFO piton: committed checkpoint 1: 1 new states, 5000 bytes"), "{}", lines[3]);
    }
}

#[cfg(feature = "tracing")]
mod to_tracing {
    use std::{
        fmt::Debug,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering},
        },
    };

    use piton::{Options, observe::to_tracing};
    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span::{Attributes, Id, Record},
    };

    use crate::support::{bytes, commit_states};

    /// Remembers spans when they are entered and left, and events.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>, Arc<AtomicU64>, Arc<Mutex<Vec<&'static str>>>);

    impl Notes {
        fn add(&self, note: String) {
            self.0.lock().unwrap().push(note);
        }
    }

    struct Name(String);

    impl Visit for Name {
        fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "event" {
                value.clone_into(&mut self.0);
            }
        }
    }

    impl Subscriber for Notes {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, attributes: &Attributes<'_>) -> Id {
            self.2.lock().unwrap().push(attributes.metadata().name());
            Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut name = Name(String::new());
            event.record(&mut name);
            self.add(format!("{} {}", event.metadata().level(), name.0));
        }

        fn enter(&self, id: &Id) {
            let name = self.2.lock().unwrap()[id.into_u64() as usize - 1];
            self.add(format!("enter {name}"));
        }

        fn exit(&self, id: &Id) {
            let name = self.2.lock().unwrap()[id.into_u64() as usize - 1];
            self.add(format!("leave {name}"));
        }
    }

    #[test]
    fn commit_and_open_are_spans_with_the_events_in_them() {
        let notes = Notes::default();
        tracing::subscriber::with_default(notes.clone(), || {
            let store = Options::memory().observer(to_tracing()).open("state").unwrap();
            commit_states(&store, &[bytes(1, 5000)]).unwrap();
        });
        let notes = notes.0.lock().unwrap();
        let expected = [
            "enter open",
            "INFO opened",
            "leave open",
            "DEBUG begun",
            "DEBUG written",
            "enter commit",
            "INFO committed",
            "leave commit",
        ];
        assert_eq!(*notes, expected);
    }
}

#[cfg(feature = "metrics")]
#[expect(clippy::cast_sign_loss, reason = "gauges are no less than 0")]
mod to_metrics {
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
        Unit,
    };
    use piton::{Options, observe::to_metrics};

    use crate::support::{bytes, commit_states};

    #[derive(Clone, Default)]
    struct Numbers(Arc<Mutex<BTreeMap<String, u64>>>);

    /// One of them.
    struct Number(Numbers, String);

    impl Number {
        fn of(all: &Numbers, key: &Key) -> Arc<Self> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Self(all.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }

        fn set(&self, change: impl FnOnce(u64) -> u64) {
            let mut all = self.0.0.lock().unwrap();
            let number = all.entry(self.1.clone()).or_default();
            *number = change(*number);
        }
    }

    impl CounterFn for Number {
        fn increment(&self, value: u64) {
            self.set(|was| was + value);
        }

        fn absolute(&self, value: u64) {
            self.set(|_| value);
        }
    }

    impl GaugeFn for Number {
        fn increment(&self, value: f64) {
            self.set(|was| was + value as u64);
        }

        fn decrement(&self, value: f64) {
            self.set(|was| was - value as u64);
        }

        fn set(&self, value: f64) {
            Self::set(self, |_| value as u64);
        }
    }

    impl HistogramFn for Number {
        fn record(&self, _: f64) {
            self.set(|was| was + 1);
        }
    }

    impl Recorder for Numbers {
        fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
            self.0.lock().unwrap().insert(format!("{} is in {unit:?}", name.as_str()), 1);
        }

        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, what: SharedString) {
            self.describe_counter(name, unit, what);
        }

        fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, what: SharedString) {
            self.describe_counter(name, unit, what);
        }

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Number::of(self, key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Number::of(self, key))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Number::of(self, key))
        }
    }

    #[test]
    fn commits_states_and_space_are_counted_and_every_metric_is_described() {
        let numbers = Numbers::default();
        metrics::with_local_recorder(&numbers, || {
            let store = Options::memory().observer(to_metrics("words")).open("state").unwrap();
            for seed in 0..2 {
                commit_states(&store, &[bytes(seed, 5000), bytes(seed, 10)]).unwrap();
            }
            let _ = store.prune(1).unwrap();
        });
        let numbers = numbers.0.lock().unwrap();
        let of = |name: &str| numbers.get(&format!("{name}{{store=words}}")).copied();
        let expected = [
            ("piton_checkpoints_committed_total", 2),
            ("piton_checkpoints_forgotten_total", 1),
            ("piton_states_written_total", 4),
            ("piton_state_bytes_written_total", 10_020),
            ("piton_commit_bytes", 2),
            ("piton_logical_files", 2),
            ("piton_logical_bytes", 10_000),
            ("piton_physical_files", 1),
        ];
        for (name, number) in expected {
            assert_eq!(of(name), Some(number), "{name}: {numbers:?}");
        }
        assert_eq!(numbers["piton_commit_duration_seconds{store=words,step=publish}"], 2);
        for metric in numbers.keys().filter_map(|key| Some(key.split_once('{')?.0)) {
            let described = numbers.keys().any(|key| key.starts_with(&format!("{metric} is in Some")));
            assert!(described, "{metric} is not described, or has no unit");
        }
    }
}
