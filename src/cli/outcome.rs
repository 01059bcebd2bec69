//! How a subcommand ends, and what the caller's shell and screen get to know of it.

use exectrace::read::{Error, ErrorKind};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// A subcommand that could do its work.
pub enum Outcome {
    /// It is done.
    Done,
    /// It is done, and a limit is violated.
    Violated,
    /// It is done, and the exit code is that of the program that was run.
    Code(u8),
}

/// A subcommand that could not.
pub enum Failure {
    /// What was asked cannot be carried out: what, and a hint.
    Usage(String, String),
    /// The trace is broken: the sentence to print.
    Broken(String),
    /// Whoever reads our output has gone. That is their right, and no failure.
    OutputClosed,
}

impl Failure {
    /// The exit code of [`Failure::Usage`].
    pub const USAGE_CODE: u8 = 2;
    /// The exit code of [`Failure::Broken`].
    pub const BROKEN_CODE: u8 = 3;

    /// A failure with a hint how to do better; the hint may be empty.
    pub fn usage(what: impl Display, hint: impl Display) -> Failure {
        Failure::Usage(what.to_string(), hint.to_string())
    }

    /// What a failed write to standard output means.
    pub fn writing(e: io::Error) -> Failure {
        if e.kind() == io::ErrorKind::BrokenPipe {
            Failure::OutputClosed
        } else {
            Failure::usage(format_args!("cannot write: {e}"), "")
        }
    }

    /// A trace that cannot be read from its beginning on: there is nothing to lose.
    pub fn unreadable(name: &str, e: &Error) -> Failure {
        let hint = match e.kind() {
            ErrorKind::NotATrace => "; hint: `exectrace` reads what `runtime/trace` and this crate's tracer write",
            ErrorKind::OldVersion(_) => "; hint: record it anew with Go 1.22 or later",
            ErrorKind::UnknownVersion(_) => "; hint: a newer exectrace may know it",
            _ => "",
        };
        Failure::Broken(format!("{name}: {e}{hint}"))
    }

    /// Prints the failure and gives the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Failure::Usage(what, hint) => {
                let hint = if hint.is_empty() { hint } else { format!("; hint: {hint}") };
                complain(format_args!("{what}{hint}"));
                ExitCode::from(Failure::USAGE_CODE)
            }
            Failure::Broken(text) => {
                complain(format_args!("{text}"));
                ExitCode::from(Failure::BROKEN_CODE)
            }
            Failure::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

/// Says on standard error what is wrong. Where that cannot be written, the exit code alone has to say it.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "exectrace: {what}");
}
