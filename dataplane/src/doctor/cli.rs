//! The command.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;

use super::{Host, State, Wish, examine};
use crate::config::{Cores, Limits};
use crate::rt::DriverChoice;

/// The exit code where it will run, but something is not as advised.
pub const NEEDS_MENDING: u8 = 1;
/// The exit code where it will not start.
pub const WILL_NOT_START: u8 = 2;

/// `doctor`, as typed: what `kthena-dataplane` would be started with.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Ends with 0 unless the data plane would not start at all: for init containers.
    #[arg(long)]
    lenient: bool,
    /// auto, uring or epoll, as it will be started with.
    #[arg(long, default_value = "auto", value_parser = driver)]
    io_driver: DriverChoice,
    /// How many cores it will run on; all that this process may use by default.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    cores: usize,
    /// `limits.connections` of its configuration.
    #[arg(long, default_value_t = Limits::default().connections)]
    connections: usize,
}

impl Doctor {
    /// Examines this host, prints, and says by the exit code how it stands.
    pub fn run(&self) -> ExitCode {
        let report = examine(&Host::read(), &self.wish());
        let text = if self.json {
            // Strings and enums cannot fail to become JSON.
            serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
        } else {
            report.to_string()
        };
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => eprintln!("standard output: {error}"),
            _ => {}
        }
        ExitCode::from(code(report.worst(), self.lenient))
    }

    fn wish(&self) -> Wish {
        let cores = if self.cores == 0 { Cores::All } else { Cores::First(self.cores) };
        Wish { driver: self.io_driver, cores, connections: self.connections }
    }
}

/// What could not be read is no reason to fail.
pub(super) fn code(worst: State, lenient: bool) -> u8 {
    match worst {
        State::Fine | State::Unknown => 0,
        State::Advice if lenient => 0,
        State::Advice => NEEDS_MENDING,
        State::Fatal => WILL_NOT_START,
    }
}

fn driver(typed: &str) -> Result<DriverChoice, String> {
    match typed {
        "auto" => Ok(DriverChoice::Auto),
        "uring" => Ok(DriverChoice::Uring),
        "epoll" => Ok(DriverChoice::Epoll),
        _ => Err("none of auto, uring, epoll".into()),
    }
}
