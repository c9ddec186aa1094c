//! One timely process: it joins the store as one member, connects with its peers, and runs its workers.
//!
//! A process does not outlive the life it belongs to. When the coordinator dies, stdin ends. When a peer dies, timely's threads
//! panic. In both cases the process exits at once: what it has in memory is of no use any more.

use std::{
    io::{self, Stdout, stdin, stdout},
    net::{Ipv4Addr, TcpListener},
    process::exit,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use piton::{Checkpoint, Options};
use timely::{WorkerConfig, execute::execute_from, worker::Worker};

use crate::{
    Failure,
    aligner::{Aligner, Shares, Work},
    clock::Clock,
    cluster,
    message::{Order, Report, Restored, Start, receive, send},
    trap::{self, Point},
};

/// The exit code of a process whose coordinator or peer is gone.
pub const ABANDONED: i32 = 3;

/// Sends reports to the coordinator, from any thread.
#[derive(Clone, Debug)]
pub struct Reporter(Arc<Mutex<Stdout>>);

impl Reporter {
    /// Sends one report.
    ///
    /// # Errors
    ///
    /// The coordinator is gone.
    pub fn send(&self, report: &Report) -> io::Result<()> {
        send(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner), report)
    }
}

/// What the workers of a process share.
#[derive(Debug)]
pub struct Context {
    /// What the coordinator said.
    pub start: Start,
    /// The checkpoint to go on from.
    pub resume: Option<Checkpoint>,
    /// Epochs.
    pub clock: Arc<Clock>,
    /// Where operators hand in their shares.
    pub shares: Shares,
}

/// Runs the process until all is counted. `build` restores the state of a worker and builds its dataflow.
///
/// # Errors
///
/// The store or a peer failed. The coordinator was told.
pub fn run(
    build: impl Fn(&mut Worker, &Context) -> Result<Restored, Failure> + Send + Sync + 'static,
) -> Result<(), Failure> {
    std::panic::set_hook(Box::new(abandon));
    let orders = orders();
    let reporter = Reporter(Arc::new(Mutex::new(stdout())));
    let outcome = live(&orders, &reporter, build);
    if let Err(error) = &outcome {
        let _ = reporter.send(&Report::Failed(error.to_string()));
    }
    outcome
}

/// A panic of timely's about a lost connection says that a peer was killed. All other panics are shown.
fn abandon(why: &std::panic::PanicHookInfo<'_>) {
    let text = why.payload_as_str().unwrap_or_default();
    if !text.contains("timely communication error") {
        eprintln!("process {}: {why}", std::process::id());
    }
    exit(ABANDONED);
}

/// The orders of the coordinator. They are read all the time, so that the end of stdin is seen at once.
fn orders() -> Receiver<Order> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = stdin().lock();
        while let Ok(Some(order)) = receive(&mut stdin) {
            if sender.send(order).is_err() {
                return;
            }
        }
        exit(ABANDONED);
    });
    receiver
}

fn live(
    orders: &Receiver<Order>,
    reporter: &Reporter,
    build: impl Fn(&mut Worker, &Context) -> Result<Restored, Failure> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    reporter.send(&Report::Listening(listener.local_addr()?))?;
    let Order::Start(start) = orders.recv()? else { return Err("the first order is no start".into()) };
    trap::arm(start.trap);
    let member = Options::new().join(&start.root, &start.membership)?;
    trap::pass(Point::Joined);
    let resume = match start.resume {
        Some(id) => Some(Options::new().open_read_only(&start.root)?.checkpoint(id)?),
        None => None,
    };
    let (process, workers) = (start.process, start.workers);
    let (builders, guard) = cluster::connect(&listener, process, &start.addresses, workers)?;
    let clock = Arc::new(Clock::default());
    let shares = align(Aligner::new(member, Arc::clone(&clock), reporter.clone(), workers), reporter.clone());
    let context = Arc::new(Context { start: *start, resume, clock: Arc::clone(&clock), shares: shares.clone() });
    let (ready, built) = mpsc::channel();
    let config = WorkerConfig::default().idle_spin(Duration::ZERO);
    let guards = execute_from(builders, guard, config, move |worker| {
        let _ = ready.send(build(worker, &context));
    })?;
    let restored = (0..workers).map(|_| built.recv()?).collect::<Result<_, Failure>>()?;
    trap::pass(Point::Restored);
    reporter.send(&Report::Ready(restored))?;
    follow(orders, &clock, &shares)?;
    // Dropping the guards waits for the workers, and for what they still send.
    drop(guards);
    Ok(())
}

/// The thread that makes parts. When it fails, the process ends.
fn align(aligner: Aligner, reporter: Reporter) -> Sender<Work> {
    let (shares, work) = mpsc::channel();
    thread::spawn(move || {
        if let Err(error) = aligner.run(&work) {
            let _ = reporter.send(&Report::Failed(error.to_string()));
            exit(1);
        }
    });
    shares
}

/// Does what the coordinator says until all is counted.
fn follow(orders: &Receiver<Order>, clock: &Clock, shares: &Shares) -> Result<(), Failure> {
    loop {
        match orders.recv()? {
            Order::Tick(tick) => clock.tick(tick),
            Order::Published(worn) => shares.send(Work::Published(worn))?,
            Order::Blob => shares.send(Work::Blob)?,
            Order::Start(_) => return Err("a process starts once".into()),
            Order::Finish => {
                clock.stop();
                return Ok(());
            }
        }
    }
}
