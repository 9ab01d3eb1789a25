//! `minismtp completions`: the completion script of a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::report::{Failure, Output};

/// Print a script that lets your shell complete minismtp's commands and options
///
/// Send the script to the place where your shell looks for such scripts, then open a new shell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bash:
      mkdir -p ~/.local/share/bash-completion/completions
      minismtp completions bash > ~/.local/share/bash-completion/completions/minismtp

  zsh, with ~/.zfunc in its `fpath`:
      minismtp completions zsh > ~/.zfunc/_minismtp

  fish:
      minismtp completions fish > ~/.config/fish/completions/minismtp.fish")]
pub(crate) struct Args {
    /// The shell to print it for
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `minismtp completions`.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<(), Failure> {
    out.write(&completion_script(args.shell))
}

/// The completion script of a shell, made from the definition of the command line.
#[must_use]
pub fn completion_script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "minismtp", &mut script);
    script
}
