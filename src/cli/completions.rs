//! `exectrace completions` and `exectrace man`: what a shell and `man` know of the command.

use crate::new_file::write_file;
use crate::outcome::{Failure, Outcome};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// Completions for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace completions bash > ~/.local/share/bash-completion/completions/exectrace
  exectrace completions zsh > ~/.zfunc/_exectrace
  exectrace completions fish > ~/.config/fish/completions/exectrace.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Manual pages
///
/// Prints the page of the command, or writes a page for it and for each subcommand to a directory.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  exectrace man | man -l -
  exectrace man --dir ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Write all pages to this directory
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub fn run(args: &Args, mut command: clap::Command) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "exectrace", &mut script);
    write_file(Path::new("-"), &script, &[])?;
    Ok(Outcome::Done)
}

pub fn man(args: &ManArgs, mut command: clap::Command) -> Result<Outcome, Failure> {
    command.build();
    let page = |command: &clap::Command, name: &str| {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).manual("exectrace");
        man.render(&mut page).map_err(Failure::writing)?;
        Ok::<_, Failure>(page)
    };
    let Some(dir) = &args.dir else {
        write_file(Path::new("-"), &page(&command, "exectrace")?, &[])?;
        return Ok(Outcome::Done);
    };
    if !dir.is_dir() {
        return Err(Failure::usage(format_args!("{} is no directory", dir.display()), "make it first"));
    }
    let mut left = vec![("exectrace".to_owned(), &command)];
    while let Some((name, command)) = left.pop() {
        write_file(&dir.join(format!("{name}.1")), &page(command, &name)?, &[])?;
        // `help` has all the others below it once more.
        if command.get_name() != "help" {
            left.extend(command.get_subcommands().map(|sub| (format!("{name}-{}", sub.get_name()), sub)));
        }
    }
    Ok(Outcome::Done)
}
