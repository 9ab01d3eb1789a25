//! `minismtp man`: the manual, a page for every command.

use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgAction, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;
use super::report::{ExitStatus, Failure, Output};
use crate::credentials::CREDENTIALS_FILE;
use crate::server::certificates::{CERTIFICATE_FILE, KEY_FILE};

/// What is in a mail root.
const FILES: [(&str, &str); 6] = [
    (
        CREDENTIALS_FILE,
        "The users, one on each line: `name,password`.",
    ),
    (
        "USER/mymailbox.mail",
        "The mail of that user, to be read with any program.",
    ),
    (
        "USER/mymailbox.torn-TIME",
        "What a crash left of a message that nobody was told is kept.",
    ),
    (
        CERTIFICATE_FILE,
        "The certificate of `serve --tls self-signed`, for clients to trust.",
    ),
    (KEY_FILE, "Its key."),
    (
        ".minismtp.*, USER/.minismtp.*",
        "What the program keeps for itself: locks, a journal, indexes.",
    ),
];

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
/// Never: a page is text that is written to memory.
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
    let page = String::from_utf8(page).expect("a page is made of text");
    let page = with_values(&with_headings(&page), command);
    let page = if command.get_name() == Cli::command().get_name() {
        page.replace(
            ".SH EXTRA\n",
            &format!("{}.SH NOTES\n", exit_status_and_files()),
        )
    } else {
        page
    };
    pages.push((man.get_filename(), page.into_bytes()));
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        add_pages(command, pages);
    }
}

/// Gives the examples and exit codes, which end a help text, the headings that a manual has for them,
/// and keeps their lines whole, to be copied from.
fn with_headings(page: &str) -> String {
    const EXAMPLES: &str = ".SH EXAMPLES\n.nf\n";
    page.replace(".SH EXTRA\nExamples:\n", EXAMPLES)
        .replace(".SH EXTRA\nExample:\n", EXAMPLES)
        .replace("\n\nExit codes:\n", "\n.fi\n.SH \"EXIT STATUS\"\n.nf\n")
}

/// Says in the synopsis which options take a value, and which may be given more than once.
fn with_values(page: &str, command: &clap::Command) -> String {
    let Some((before, (synopsis, behind))) = page
        .split_once(".SH SYNOPSIS\n")
        .and_then(|(before, rest)| Some((before, rest.split_once('\n')?)))
    else {
        return page.to_owned();
    };
    let mut synopsis = synopsis.trim_end().to_owned();
    for argument in command.get_arguments() {
        let (Some(long), Some([value])) = (argument.get_long(), argument.get_value_names()) else {
            continue;
        };
        if argument.get_action().takes_values() {
            let option = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
            let more = match argument.get_action() {
                ArgAction::Append => "...",
                _ => "",
            };
            let with_value = format!("{option} \\fI{value}\\fR]{more}");
            synopsis = synopsis.replace(&format!("{option}]"), &with_value);
        }
    }
    format!("{before}.SH SYNOPSIS\n{synopsis}\n{behind}")
}

/// What is the same for all commands, for the page of the program.
fn exit_status_and_files() -> String {
    let mut roff = Roff::new();
    let statuses = ExitStatus::ALL.map(|status| ((status as u8).to_string(), status.meaning()));
    add_section(&mut roff, "EXIT STATUS", &statuses);
    let files = FILES.map(|(name, what)| (name.to_owned(), what));
    add_section(&mut roff, "FILES", &files);
    // Without the macros that the page has at its top.
    roff.to_roff()
}

fn add_section(roff: &mut Roff, name: &str, entries: &[(String, &str)]) {
    roff.control("SH", [name]);
    for (name, what) in entries {
        roff.control("TP", []);
        roff.text([bold(name.as_str())]);
        roff.text([roman(*what)]);
    }
}
