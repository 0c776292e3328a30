//! Owns what `-w -n -p -h` mean, and how a process of a cluster ends: with all its workers, or as
//! soon as another process is lost. It does not own what the workers do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::pipeline::Watch;
use differential_upsert::{Error, ErrorKind};
use timely::worker::Worker;
use timely::{CommunicationConfig, Config, WorkerConfig};
use tokio_util::sync::CancellationToken;

use crate::args::Args;

/// The port of process 0 without a host file; process i has the i-th after it.
const PORT: usize = 2101;

/// How long the workers have once they are told to stop.
const GRACE: Duration = Duration::from_millis(600);

/// Returns timely's configuration.
///
/// # Errors
///
/// What is wrong with the host file: a usage error.
pub(crate) fn config(args: &Args) -> Result<Config, String> {
    let threads = args.workers.get();
    let processes = args.processes.get();
    let communication = if processes > 1 {
        let addresses = match &args.hostfile {
            Some(path) => addresses(path, processes)?,
            None => (0..processes).map(|index| format!("localhost:{}", PORT + index)).collect(),
        };
        CommunicationConfig::Cluster {
            threads,
            process: args.process,
            addresses,
            report: false,
            zerocopy: false,
        }
    } else if threads > 1 {
        CommunicationConfig::Process(threads)
    } else {
        CommunicationConfig::Thread
    };
    Ok(Config { communication, worker: WorkerConfig::default() })
}

fn addresses(path: &str, processes: usize) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("-H {path}: {e}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let addresses: Vec<String> = lines.take(processes).map(str::to_string).collect();
    if addresses.len() < processes {
        let found = addresses.len();
        return Err(format!("-H {path}: {found} addresses, but -n {processes}"));
    }
    Ok(addresses)
}

/// Returns stdout for the summary alone: of a process of a cluster, what anything else prints there goes to stderr from
/// here on. timely prints there while it waits for the others.
///
/// # Errors
///
/// If the operating system does not let it be moved.
pub(crate) fn own_stdout(args: &Args) -> std::io::Result<Box<dyn std::io::Write>> {
    #[cfg(unix)]
    if args.processes.get() > 1 {
        use std::os::fd::AsFd as _;
        let own = std::io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(std::io::stderr())?;
        return Ok(Box::new(std::fs::File::from(own)));
    }
    #[cfg(not(unix))]
    let _ = args;
    Ok(Box::new(std::io::stdout()))
}

/// How the workers of this process ended.
pub struct Outcome {
    /// The first failure, or success.
    pub result: Result<(), Error>,
    /// The counts, on process 0.
    pub watch: Option<Watch>,
}

/// Where workers say how they ended.
#[derive(Clone)]
pub struct Report {
    result: Arc<Mutex<Result<(), Error>>>,
    watch: Arc<Mutex<Option<Watch>>>,
}

impl Report {
    /// Hands over the counts.
    pub fn watch(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    /// Says how a worker ended, or that it has failed and will end. The first failure stays, but for
    /// being stopped: that is what the failure of one worker does to the others.
    pub fn ended(&self, result: Result<(), Error>) {
        let mut first = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let says_why = |e: &Error| e.kind() != ErrorKind::Stopped;
        if first.as_ref().map_or_else(|e| !says_why(e) && result.is_err(), |()| true) {
            *first = result;
        }
    }
}

/// How the workers ended, if not by themselves.
enum End {
    /// Another process of the cluster is gone.
    Lost(Error),
    /// Something here has failed.
    Failed(Error),
    /// They are told to stop: no end yet, unless they do not obey in time.
    Stopped,
}

/// Runs the workers of this process to their end.
///
/// timely has no way to go on when a process of the cluster is lost: its network thread panics and
/// the workers wait for ever. So a panic anywhere ends the run here, and the process soon after.
pub fn execute(
    config: Config,
    work: impl Fn(&mut Worker, &Report) + Send + Sync + 'static,
    io: &Io,
    stop: &CancellationToken,
) -> Outcome {
    let report = Report { result: Arc::new(Mutex::new(Ok(()))), watch: Arc::default() };
    let (ends, end) = channel();
    report_panics(ends.clone());
    let (told, stopping) = (ends.clone(), stop.clone());
    let telling = io.spawn(async move {
        stopping.cancelled().await;
        let _ = told.send(Err(End::Stopped));
    });
    let workers = report.clone();
    std::thread::spawn(move || {
        let guards = timely::execute(config, move |worker| work(worker, &workers));
        let result = guards.map_err(|what| {
            let what = format!("the cluster cannot start: {what}");
            End::Failed(Error::new(ErrorKind::Unavailable, what).hint("check -n, -p and -h"))
        });
        // Joining also shuts the network down, so that the other processes see a clean end.
        let result = result.map(|guards| guards.join().into_iter().for_each(drop));
        let _ = ends.send(result);
    });
    let waited = wait(&end);
    telling.abort();
    let reported = report.result.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let failed = |e: &Error| e.kind() != ErrorKind::Stopped;
    let result = match (waited, reported) {
        // A failure is one, also of a run that was told to stop meanwhile.
        (_, Err(e)) | (Err(End::Failed(e)), _) if failed(&e) => Err(e),
        (Ok(()), Ok(())) => Ok(()),
        // All processes of a cluster are told to stop at once: one that is gone has obeyed.
        _ if stop.is_cancelled() => Err(crate::stop::stopped()),
        (Err(End::Lost(e)), _) => Err(e),
        // Nobody here wanted it, and no worker here failed.
        _ => Err(Error::new(ErrorKind::Unavailable, "another process of the cluster has stopped")
            .hint("see what it says, then rerun all processes to continue")),
    };
    let watch = report.watch.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Outcome { result, watch }
}

/// Waits for the end of the workers, or of their time: some wait where nothing tells them to stop,
/// for a process that has not come or for a store that does not answer. To leave them there is what
/// a kill does, which is safe at any moment.
fn wait(end: &Receiver<Result<(), End>>) -> Result<(), End> {
    let silent = |_| {
        let error = Error::new(ErrorKind::Unavailable, "no worker answers");
        Err(End::Failed(error))
    };
    match end.recv().unwrap_or_else(silent) {
        Err(End::Stopped) => end.recv_timeout(GRACE).unwrap_or(Err(End::Stopped)),
        end => end,
    }
}

/// Turns a panic of any thread into the end of the run.
fn report_panics(ends: Sender<Result<(), End>>) {
    let ends = Mutex::new(ends);
    let is_lost = AtomicBool::new(false);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let what = text.unwrap_or("it does not say why").to_string();
        // Once a process is lost, threads that depend on the one that noticed panic too, each
        // with words of its own.
        let lost = is_lost.load(Ordering::SeqCst) || what.starts_with("timely communication error");
        let end = if lost {
            is_lost.store(true, Ordering::SeqCst);
            let what = format!("another process of the cluster is lost: {what}");
            let error = Error::new(ErrorKind::Unavailable, what);
            End::Lost(error.hint("rerun all processes to continue"))
        } else {
            print(panic);
            let what = format!("a thread panicked: {what}");
            let error = Error::new(ErrorKind::Unavailable, what);
            End::Failed(error.hint("report this as a bug, and rerun to continue"))
        };
        let _ = ends.lock().unwrap_or_else(PoisonError::into_inner).send(Err(end));
    }));
}
