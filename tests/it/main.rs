//! The test crate over the built binary and the library; the engines by themselves have `engines`.
//!
//! Everything here is black-box: it knows the contract (what users, scripts, peers and files of
//! other programs may rely on) and the built `minismtp`, nothing of the code inside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

mod fake;
mod pop;
mod sandbox;
mod smtp;

mod clients;
mod concurrency;
mod crash;
mod demo;
mod dialogs;
mod hostile;
mod lab;
mod leaving;
mod limits;
mod lmtp;
mod logins;
mod mailbox;
mod pop3;
mod pop_clients;
mod readme;
mod send;
mod serve;
mod shell;
mod smuggling;
mod tidy;
mod tls;
mod users;
