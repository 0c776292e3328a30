//! Owns what `-w -n -p -h` mean: the configuration handed to timely. It does not own what a
//! cluster does.

use std::process::ExitCode;

use timely::{CommunicationConfig, Config, WorkerConfig};

use crate::args::Args;

/// The port of process 0 when there is no host file; process i has the i-th after it.
const PORT: usize = 2101;

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
    let text = std::fs::read_to_string(path).map_err(|e| format!("-h {path}: {e}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let addresses: Vec<String> = lines.take(processes).map(str::to_string).collect();
    if addresses.len() < processes {
        let found = addresses.len();
        return Err(format!("-h {path}: {found} addresses, but -n {processes}"));
    }
    Ok(addresses)
}

/// Sends what this process prints on stdout to stderr, in every process but the first.
///
/// Only process 0 may print on stdout, and timely prints there while it waits for the others.
pub(crate) fn quiet_stdout(args: &Args) -> Result<(), ExitCode> {
    #[cfg(unix)]
    if args.process > 0 {
        let moved = rustix::stdio::dup2_stdout(std::io::stderr());
        if let Err(e) = moved {
            eprintln!("error: cannot redirect stdout: {e} at process {}; rerun", args.process);
            return Err(ExitCode::from(1));
        }
    }
    #[cfg(not(unix))]
    let _ = args;
    Ok(())
}
