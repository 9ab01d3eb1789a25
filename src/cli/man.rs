//! `minismtp man`: the manual, a page for every command.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::Cli;
use super::report::{ExitStatus, Failure, Output};

/// Write the manual pages, one for every command, into a directory
///
/// The pages are `minismtp.1`, `minismtp-users.1`, `minismtp-users-add.1` and so on. The directory is
/// made where it is missing; pages that are there already are replaced.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  Read a page:
      minismtp man /tmp/man && man /tmp/man/minismtp.1

  Install them for yourself:
      minismtp man ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// The directory to write them into
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
}

/// Runs `minismtp man`.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<(), Failure> {
    let directory = &args.directory;
    let pages = man_pages();
    write(directory, &pages).map_err(|error| {
        Failure::new(
            ExitStatus::CannotCreate,
            format_args!(
                "cannot write manual pages to `{}`: {error}",
                directory.display()
            ),
        )
        .hint("name a directory that is yours")
    })?;
    let count = pages.len();
    out.done(format_args!(
        "wrote {count} pages to {}",
        directory.display()
    ))
}

/// A manual is public and can be made again: not a matter for `disk`, which keeps mail.
fn write(directory: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    pages
        .iter()
        .try_for_each(|(name, page)| std::fs::write(directory.join(name), page))
}

/// The manual pages with their file names, made from the definition of the command line.
///
/// # Panics
///
/// Never: a page is written to memory.
#[must_use]
pub fn man_pages() -> Vec<(String, Vec<u8>)> {
    let mut command = Cli::command().disable_help_subcommand(true);
    // Gives each command its whole name, and the options that all have.
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages);
    pages
}

fn add_pages(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let man = clap_mangen::Man::new(command.clone())
        .source(concat!("minismtp ", env!("CARGO_PKG_VERSION")))
        .manual("minismtp manual");
    let mut page = Vec::new();
    man.render(&mut page).expect("memory takes every write");
    pages.push((man.get_filename(), name_examples(page)));
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        add_pages(command, pages);
    }
}

/// Gives the examples, which end a help text, the heading that a manual has for them, and keeps their
/// lines whole, to be copied from.
fn name_examples(page: Vec<u8>) -> Vec<u8> {
    const EXAMPLES: &str = ".SH EXAMPLES\n.nf\n";
    match String::from_utf8(page) {
        Ok(page) => page
            .replace(".SH EXTRA\nExamples:\n", EXAMPLES)
            .replace(".SH EXTRA\nExample:\n", EXAMPLES)
            .into_bytes(),
        Err(not_text) => not_text.into_bytes(),
    }
}
