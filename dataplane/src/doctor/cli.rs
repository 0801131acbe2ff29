//! The command.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;

use super::{Host, State, Wish, examine};
use crate::cli::Flags;
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
    /// `limits.connections` of its configuration, in place of what the file says.
    #[arg(long)]
    connections: Option<usize>,
    #[command(flatten)]
    flags: Flags,
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
        let defaults = Limits::default().connections;
        let wish = match self.flags.clone().configure_for_any_source() {
            Ok(config) => Wish::of(&config),
            Err(refused) => Wish {
                refused,
                driver: DriverChoice::Auto,
                cores: Cores::All,
                connections: defaults,
                ports: Vec::new(),
            },
        };
        Wish { connections: self.connections.unwrap_or(wish.connections), ..wish }
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
