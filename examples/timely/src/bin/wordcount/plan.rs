//! When and how each life is ended: at a named point of the protocol, or at any time.

use std::time::Duration;

use timely_piton::{
    settings::Blow,
    trap::{Point, Trap},
};

use crate::{spec::Spec, splits::Random};

/// How the next life ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doom {
    /// The processes kill themselves, or the coordinator stops them, or nothing happens.
    Inside(Blow),
    /// The supervisor kills the coordinator after this time.
    Coordinator(Duration),
    /// The supervisor kills one of the processes after this time.
    Process(usize, Duration),
}

/// Draws the ends of lives.
#[derive(Debug)]
pub(crate) struct Plan {
    random: Random,
    kills: u32,
    pub(crate) done: u32,
    /// How long a life lasts at most.
    longest: Duration,
    /// How many checkpoints that are.
    checkpoints: u64,
    /// When a run without kills is rescaled: after so many lines each.
    stops: Vec<u64>,
}

impl Plan {
    /// Spreads this number of kills over a run of about this length.
    pub(crate) fn new(spec: &Spec, kills: u32, seed: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "the number of lines is far below 2^52")]
        let seconds = spec.rate.map_or(1.0, |rate| spec.lines() as f64 / rate);
        let longest = Duration::from_secs_f64(1.4 * seconds / f64::from(kills + 1));
        let every = spec.epoch_ms * spec.epochs_per_checkpoint.max(1);
        let checkpoints = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX) / every;
        let lives = if kills == 0 { spec.scales.len() as u64 } else { 1 };
        let stops = (1..lives).map(|life| spec.lines() * life / lives).collect();
        Self { random: Random(seed ^ 0x6b69_6c6c), kills, done: 0, longest, checkpoints, stops }
    }

    /// How a life ends.
    pub(crate) fn doom(&mut self, life: usize) -> Doom {
        if self.done == self.kills {
            return Doom::Inside(self.stops.get(life).map_or(Blow::None, |lines| Blow::Stop(*lines)));
        }
        let victim = usize::try_from(self.random.below(64)).unwrap_or_default();
        let skip = u32::try_from(self.random.below(self.checkpoints)).unwrap_or_default();
        match self.random.below(4) {
            0 => Doom::Inside(Blow::Coordinator(self.trap(&Point::OF_COORDINATOR, skip))),
            1 => Doom::Inside(Blow::Process(victim, self.trap(&Point::OF_PROCESS, skip))),
            2 => Doom::Coordinator(self.time()),
            _ => Doom::Process(victim, self.time()),
        }
    }

    fn trap(&mut self, points: &[Point], skip: u32) -> Trap {
        let point = points[usize::try_from(self.random.below(points.len() as u64)).unwrap_or_default()];
        let is_passed_once = matches!(point, Point::Joined | Point::Restored);
        Trap { point, skip: if is_passed_once { 0 } else { skip } }
    }

    fn time(&mut self) -> Duration {
        Duration::from_micros(self.random.below(u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Whether as many were killed as wanted.
    pub(crate) fn is_done(&self) -> bool {
        self.done == self.kills
    }
}
