//! The command line as one type, and the way from a command to the function that does it.
//!
//! A command is a file here, with an `Args` whose doc comment is its help text and a `run` that is
//! given the [`Output`] and ends in a [`Failure`] or in nothing. To add one takes a `mod` line, a
//! variant of `Command` and an arm in `run`.

use std::env;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgAction, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use rustix::process::Signal;

use report::{ExitStatus, Failure, Output};
use root::Root;

mod certificate;
mod completions;
mod demo;
mod dialog;
mod mailbox;
mod man;
mod password;
mod privileges;
pub mod report;
mod root;
mod send;
mod serve;
mod shell;
mod tls;
mod users;

pub use completions::completion_script;
pub use man::man_pages;

/// A small mail system in one program: server, client, users and mailboxes in plain text
///
/// All mail is kept in one directory, the mail root: the users in `logincred.txt`, and for each user
/// a directory with the mailbox, `mymailbox.mail`. The mail root is the directory named by `--root`,
/// else by the variable `MINISMTP_ROOT`, else the current directory if it holds a `logincred.txt`, else
/// `minismtp` in your data directory (on Linux ~/.local/share/minismtp).
#[derive(Debug, Parser)]
#[command(
    name = "minismtp",
    version,
    max_term_width = 100,
    subcommand_value_name = "COMMAND",
    after_help = "`minismtp COMMAND --help` tells more about a command, with examples."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Send(send::Args),
    Shell(shell::Args),
    Users(users::Args),
    Mailbox(mailbox::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The options that every command has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The mail root: the directory that holds `logincred.txt` and the mailboxes
    ///
    /// Without it: the variable `MINISMTP_ROOT`, else the current directory if it holds a
    /// `logincred.txt`, else `minismtp` in your data directory.
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    root: Option<PathBuf>,

    /// Tell more on standard error
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

impl Global {
    /// The mail root that the command line and the environment name.
    pub(crate) fn root(&self) -> Result<Root, Failure> {
        Root::find(self.root.as_deref())
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    // Wanted before the parse, which prints its own errors.
    let color = color_of(&arguments);
    match parse(&arguments, color) {
        Ok(cli) => {
            let mut out = Output::standard(color, cli.global.quiet);
            install_panic_hook(&out);
            survive_file_size_limit();
            guarded(&mut out, |out| run(&cli, out)).into()
        }
        Err(error) => {
            // Whoever closed the pipe does not want to be told.
            drop(error.print());
            if error.use_stderr() {
                ExitStatus::Usage.into()
            } else {
                ExitStatus::Done.into()
            }
        }
    }
}

fn run(cli: &Cli, out: &mut Output) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Serve(args) => serve::run(args, global, out),
        Command::Send(args) => send::run(args, global, out),
        Command::Shell(args) => shell::run(args, global, out),
        Command::Users(args) => users::run(args, global, out),
        Command::Mailbox(args) => mailbox::run(args, global, out),
        Command::Demo(demo::Args {}) => demo::run(out),
        Command::Completions(args) => completions::run(args, out),
        Command::Man(args) => man::run(args, out),
    }
}

/// Has a file that may grow no more (`ulimit -f`) be an error of the one who writes, as a full disk is,
/// and not the end of the program.
fn survive_file_size_limit() {
    let signal = Signal::XFSZ.as_raw();
    // Where it cannot be had, the limit is as deadly as it was.
    drop(signal_hook::flag::register(signal, Arc::default()));
}

fn parse(arguments: &[OsString], color: ColorChoice) -> Result<Cli, clap::Error> {
    let mut command = Cli::command().color(color);
    // Set to nothing, it counts as not set.
    if env::var_os(send::SERVER_VARIABLE).is_some_and(|value| value.is_empty()) {
        command = command.mut_subcommand("send", |send| {
            send.mut_arg("server", |server| server.env(None::<&str>))
        });
    }
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// What `--color` says, wherever it stands; the parse proper finds what is wrong with it.
fn color_of(arguments: &[OsString]) -> ColorChoice {
    let mut color = ColorChoice::Auto;
    let mut words = arguments
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .map(|word| word.to_str().unwrap_or_default());
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        if let Some(Ok(value)) = value.map(|value| ColorChoice::from_str(value, false)) {
            color = value;
        }
    }
    color
}

/// Runs a command to its exit code; a bug in it is an internal error, whose report the hook prints.
fn guarded(
    out: &mut Output,
    command: impl FnOnce(&mut Output) -> Result<(), Failure>,
) -> ExitStatus {
    match panic::catch_unwind(AssertUnwindSafe(|| command(out))) {
        Ok(Ok(())) => ExitStatus::Done,
        Ok(Err(failure)) => {
            out.failure(&failure);
            failure.code
        }
        Err(_) => ExitStatus::Internal,
    }
}

fn install_panic_hook(out: &Output) {
    let theme = if out.stderr_is_colored() {
        color_eyre::config::Theme::dark()
    } else {
        color_eyre::config::Theme::new()
    };
    let (hook, _) = color_eyre::config::HookBuilder::default()
        .theme(theme)
        .display_env_section(false)
        .panic_section("This is a bug in minismtp, not in what you did. Please report it.")
        .into_hooks();
    hook.install();
}

#[cfg(test)]
mod tests {
    use super::report::tests::Written;
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn color_is_found_before_the_parse() {
        for (line, expected) in [
            ("minismtp users list", ColorChoice::Auto),
            ("minismtp --color always users list", ColorChoice::Always),
            ("minismtp users list --color=never", ColorChoice::Never),
            ("minismtp --color=always --color never", ColorChoice::Never),
            ("minismtp --color=purple", ColorChoice::Auto),
            ("minismtp --color", ColorChoice::Auto),
            ("minismtp --colorful never", ColorChoice::Auto),
            ("minismtp -- --color never", ColorChoice::Auto),
        ] {
            assert_eq!(color_of(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn every_command_has_a_page_and_is_completed() {
        let pages = man_pages();
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for expected in ["minismtp.1", "minismtp-users.1", "minismtp-users-add.1"] {
            assert!(names.contains(&expected), "{expected} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
        for shell in clap_complete::Shell::value_variants() {
            let script = String::from_utf8(completion_script(*shell)).unwrap();
            assert!(script.contains("passwd"), "{shell}");
        }
    }

    #[test]
    fn a_command_ends_in_its_exit_code() {
        let stderr = Written::default();
        let mut out = Output::new(std::io::sink(), stderr.clone(), false);
        let failure = Failure::new(ExitStatus::NoUser, "no such user");
        for (outcome, expected) in [
            (Ok(()), ExitStatus::Done),
            (Err(failure), ExitStatus::NoUser),
            (Err(Failure::silent(ExitStatus::No)), ExitStatus::No),
        ] {
            assert_eq!(guarded(&mut out, |_| outcome), expected);
        }
        assert_eq!(
            guarded(&mut out, |_| panic!("a bug, on purpose")),
            ExitStatus::Internal
        );
        assert_eq!(stderr.text(), "error: no such user\n");
    }
}
