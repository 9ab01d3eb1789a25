//! `minismtp demo`, `completions` and the help: what a newcomer tries first.

use crate::sandbox::{Sandbox, masked};

#[test]
fn demo_shows_the_dialog_and_the_mailbox() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&["demo"], "").code(0);
    let text = masked(&output.stdout);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut from = 0;
    for expected in [
        "S: 220 ",
        "C: EHLO ",
        "S: 250",
        "C: MAIL FROM:<stallings@localhost>",
        "S: 250 2.1.0",
        "C: DATA",
        "S: 354 ",
        "C: Subject: SMTP Experiment",
        "C: Please be ready.",
        "C: .",
        "S: 250 2.0.0 Ok: queued as ",
        "C: QUIT",
        "S: 221 2.0.0",
        "From: stallings@localhost",
        "To: andrew@localhost",
        "Subject: SMTP Experiment",
        "Received: <time>",
        "Next evaluation will be on 22 March 2021.",
        "Please be ready.",
        ".",
    ] {
        let at = lines[from..]
            .iter()
            .position(|line| line.starts_with(expected));
        from += 1 + at.unwrap_or_else(|| panic!("no {expected:?} in its place in:\n{text}"));
    }
    assert!(text.contains("C: RCPT TO:<andrew@localhost>"), "{text}");
    let left = std::fs::read_dir(sandbox.root()).unwrap().count();
    assert_eq!(left, 0, "the tour has a root of its own");
}

#[test]
fn demo_leaks_no_password() {
    let output = Sandbox::new().run(&["demo", "-vv"], "").code(0);
    for secret in ["AUTH PLAIN A", "AFN0YWxsaW5ncw"] {
        assert!(
            !output.stdout.contains(secret) && !output.stderr.contains(secret),
            "{output:#?}"
        );
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = sandbox.run(&["completions", shell], "").code(0).silent();
        for command in ["serve", "send", "users", "mailbox", "demo"] {
            assert!(
                output.stdout.contains(command),
                "{shell} does not know {command}"
            );
        }
    }
    sandbox.run(&["completions", "cmd"], "").code(64).stdout("");
    sandbox.run(&["completions"], "").code(64).stdout("");
}

#[test]
fn help_is_on_stdout_for_every_command() {
    let sandbox = Sandbox::new();
    let commands = ["serve", "send", "users", "mailbox", "demo", "completions"];
    let help = sandbox.run(&["--help"], "").code(0).silent();
    for command in commands {
        assert!(help.stdout.contains(command), "{}", help.stdout);
        let help = sandbox.run(&[command, "--help"], "").code(0).silent();
        assert!(help.stdout.contains("Usage: minismtp"), "{}", help.stdout);
    }
}

#[test]
fn colour_is_for_terminals_only() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["nonsense"][..],
        &["--help"],
        &["serve", "--no-such-flag"],
        &["demo"],
    ] {
        let output = sandbox.run(arguments, "");
        assert!(
            !output.stdout.contains('\x1b') && !output.stderr.contains('\x1b'),
            "{output:#?}"
        );
    }
}
