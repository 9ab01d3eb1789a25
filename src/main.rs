//! The `minismtp` executable: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    minismtp::cli::main()
}
