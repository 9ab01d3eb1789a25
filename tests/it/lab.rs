//! NITC's lab to the letter: two programs, a terminal, and the file that must come out.
//!
//! The client runs on a real pseudo-terminal with echo on, so that what is on the screen is what
//! the student would see.

use std::fs;
use std::process::Command;

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

use crate::fake::Script;
use crate::sandbox::{PATIENCE, Sandbox, Server, masked, until};

/// The program on a terminal.
pub(crate) struct Terminal {
    session: PtySession,
    device: String,
    screen: String,
}

impl Terminal {
    /// Runs the binary on a terminal, in the mail root.
    pub(crate) fn start(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        Self::start_with(sandbox, arguments, &[])
    }

    /// Runs the binary on a terminal, with these variables set.
    pub(crate) fn start_with(
        sandbox: &Sandbox,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = sandbox.command(arguments);
        command
            .current_dir(sandbox.root())
            .envs(variables.iter().copied());
        Self::run(&command)
    }

    /// Runs any program on a terminal.
    pub(crate) fn run(command: &Command) -> Self {
        // Says which terminal it is, turns the echo on, then becomes the program.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "tty; stty echo; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(command.get_current_dir().unwrap())
            .env("TERM", "dumb");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap();
        let mut session = spawn_command(shell, Some(patience)).unwrap();
        let device = session.read_line().unwrap();
        assert!(device.starts_with("/dev/"), "no terminal: {device:?}");
        Self {
            session,
            device,
            screen: String::new(),
        }
    }

    /// Waits until this is on the screen, after what was waited for before.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        match self.session.exp_string(text) {
            Ok(before) => {
                self.screen.push_str(&before);
                self.screen.push_str(text);
            }
            Err(error) => panic!(
                "{text:?} does not come: {error}\nbefore it:\n{}",
                self.screen
            ),
        }
    }

    /// Types a line.
    #[track_caller]
    pub(crate) fn line(&mut self, line: &str) {
        self.session.send_line(line).unwrap();
    }

    /// Waits for a prompt and for the echo to go off, then types a line.
    #[track_caller]
    pub(crate) fn hidden(&mut self, prompt: &str, line: &str) {
        self.expect(prompt);
        let device = self.device.clone();
        until("the echo is off", || {
            let stty = Command::new("stty")
                .args(["-F", &device, "-a"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&stty.stdout).contains("-echo ")
        });
        self.line(line);
    }

    /// Types Ctrl-D.
    pub(crate) fn end_of_input(&mut self) {
        self.session.send_control('d').unwrap();
    }

    /// Waits for the end; gives the exit code and all that was on the screen.
    #[track_caller]
    pub(crate) fn end(mut self) -> (i32, String) {
        match self.session.exp_eof() {
            Ok(rest) => self.screen.push_str(&rest),
            Err(error) => panic!("it does not end: {error}\non the screen:\n{}", self.screen),
        }
        let code = match self.session.process().wait().unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("it was killed: {other:?}"),
        };
        (code, self.screen)
    }
}

/// The lab as the sheet has it: credentials and one directory a user, all made by hand.
fn lab() -> Sandbox {
    let sandbox = Sandbox::lab();
    for user in ["Stallings", "Fourouzan", "Andrew"] {
        fs::create_dir(sandbox.path(user)).unwrap();
    }
    sandbox
}

/// A server as the lab starts it: in the directory, with a bare port.
fn smtpmail(sandbox: &Sandbox) -> Server {
    let mut command = sandbox.command(&["serve", "0"]);
    command
        .current_dir(sandbox.root())
        .env_remove("MINISMTP_ROOT");
    Server::start(command)
}

/// The client, logged in, its options shown.
fn mailclient(sandbox: &Sandbox, server: &Server, user: &str, password: &str) -> Terminal {
    let address = server.address().to_string();
    let mut terminal =
        Terminal::start_with(sandbox, &["send"], &[("MINISMTP_SERVER", address.as_str())]);
    terminal.expect("Username: ");
    terminal.line(user);
    terminal.hidden("Password: ", password);
    options(&mut terminal);
    terminal
}

#[track_caller]
fn options(terminal: &mut Terminal) {
    terminal.expect("1. Send Mail");
    terminal.expect("2. Quit");
}

/// Chooses 1 and types a mail.
#[track_caller]
fn send_mail(terminal: &mut Terminal, mail: &str) {
    terminal.line("1");
    for line in mail.lines() {
        terminal.line(line);
    }
}

const EXAMPLE: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\
                       Next evaluation will be on 22 March 2021.\nPlease be ready.\n.\n";

const STORED: &str = "From: stallings@localhost\nTo: andrew@localhost\n\
                      Subject: SMTP Experiment\nReceived: <time>\n\
                      Next evaluation will be on 22 March 2021.\nPlease be ready.\n.\n";

#[test]
fn lab_is_done_by_hand() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");

    send_mail(&mut terminal, EXAMPLE);
    terminal.expect("Mail sent successfully");
    options(&mut terminal);
    assert_eq!(masked(&sandbox.mailbox("Andrew")), STORED);

    send_mail(&mut terminal, &EXAMPLE.replace("To: andrew", "andrew"));
    terminal.expect("Incorrect format");
    options(&mut terminal);

    // The entire mail has to be entered again.
    send_mail(&mut terminal, &EXAMPLE.replace("SMTP Experiment", "Second"));
    terminal.expect("Mail sent successfully");
    options(&mut terminal);

    terminal.line("2");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(
        !screen.contains("network$ecurity"),
        "the password was echoed: {screen}"
    );
    let second = STORED.replace("SMTP Experiment", "Second");
    assert_eq!(
        sandbox.masked_mailbox("Andrew"),
        format!("{STORED}{second}")
    );
    assert_eq!(sandbox.mailbox("Stallings"), "");
    assert_eq!(sandbox.read("logincred.txt"), crate::sandbox::LAB);
}

#[test]
fn every_user_of_the_lab_can_log_in() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    for (user, password) in [("Fourouzan", "d@t@comm"), ("Andrew", "@dministr@tor")] {
        let mut terminal = mailclient(&sandbox, &server, user, password);
        terminal.line("2");
        assert_eq!(terminal.end().0, 0);
    }
}

#[test]
fn every_breach_of_the_format_gives_the_options_again() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");
    for mail in [
        ".\n",
        "From: stallings@localhost\nTo: andrew@localhost\nhi\n.\n",
        "To: andrew@localhost\nFrom: stallings@localhost\nSubject: x\n.\n",
        "From: stallings\nTo: andrew@localhost\nSubject: x\n.\n",
        "From: stallings@localhost\nTo: @localhost\nSubject: x\n.\n",
        "From: stallings@localhost\nTo: a@b, c@d\nSubject: x\n.\n",
        &EXAMPLE.replace("SMTP Experiment", &"x".repeat(51)),
    ] {
        send_mail(&mut terminal, mail);
        terminal.expect("Incorrect format");
        options(&mut terminal);
    }
    terminal.line("2");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("Mail sent successfully"), "{screen}");
    assert_eq!(sandbox.mailbox("Andrew"), "");
}

#[test]
fn empty_body_is_fine() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");
    let head = "From: stallings@localhost\nTo: andrew@localhost\nSubject: x\n";
    send_mail(&mut terminal, &format!("{head}.\n"));
    terminal.expect("Mail sent successfully");
    options(&mut terminal);
    terminal.line("2");
    assert_eq!(terminal.end().0, 0);
    assert_eq!(
        sandbox.masked_mailbox("Andrew"),
        format!("{head}Received: <time>\n.\n")
    );
}

#[test]
fn refused_mail_gives_the_options_again() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");
    send_mail(&mut terminal, &EXAMPLE.replace("andrew", "nobody"));
    terminal.expect("550");
    options(&mut terminal);
    // One's own address is the only one a login may use.
    send_mail(
        &mut terminal,
        &EXAMPLE.replace("From: stallings", "From: fourouzan"),
    );
    terminal.expect("553");
    options(&mut terminal);
    send_mail(&mut terminal, EXAMPLE);
    terminal.expect("Mail sent successfully");
    options(&mut terminal);
    terminal.line("2");
    terminal.end();
    assert_eq!(sandbox.masked_mailbox("Andrew"), STORED);
}

#[test]
fn unknown_choice_gives_the_options_again() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");
    for choice in ["3", "", "send", "11"] {
        terminal.line(choice);
        options(&mut terminal);
    }
    terminal.line("2");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn end_of_input_quits() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");
    terminal.end_of_input();
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
}

#[test]
fn wrong_password_is_77() {
    let sandbox = lab();
    let server = smtpmail(&sandbox);
    for (user, password) in [("Stallings", "wrong"), ("nobody", "network$ecurity")] {
        let address = server.address().to_string();
        let mut terminal = Terminal::start(&sandbox, &["send", "--server", &address]);
        terminal.expect("Username: ");
        terminal.line(user);
        terminal.hidden("Password: ", password);
        let (code, screen) = terminal.end();
        assert_eq!(code, 77, "{screen}");
        assert!(!screen.contains("1. Send Mail"), "{screen}");
    }
}

#[test]
fn long_wait_at_the_options_does_not_lose_the_mail() {
    let sandbox = lab();
    let server = sandbox.serve(&["--timeout", "1"]);
    // This one idles as long as the client does, from a little earlier on.
    let mut idle = server.hello();
    let mut terminal = mailclient(&sandbox, &server, "Stallings", "network$ecurity");
    idle.expect("421 4.4.2");
    let mut later = server.hello();
    later.expect("421 4.4.2");
    send_mail(&mut terminal, EXAMPLE);
    terminal.expect("Mail sent successfully");
    options(&mut terminal);
    terminal.line("2");
    assert_eq!(terminal.end().0, 0);
    assert_eq!(sandbox.masked_mailbox("Andrew"), STORED);
}

#[test]
fn failure_of_the_server_gives_the_options_again() {
    for reply in [
        "451 4.3.0 try later",
        "421 4.3.2 closing",
        crate::fake::HANG_UP,
        "nonsense",
    ] {
        let script = Script::new()
            .offers(&["AUTH PLAIN"])
            .login(&["235 2.7.0 Ok"]);
        let fake = script.on("MAIL", reply).start();
        let sandbox = lab();
        let address = fake.address.to_string();
        let mut terminal = Terminal::start(&sandbox, &["send", "--server", &address]);
        terminal.expect("Username: ");
        terminal.line("Stallings");
        terminal.hidden("Password: ", "network$ecurity");
        options(&mut terminal);
        send_mail(&mut terminal, EXAMPLE);
        options(&mut terminal);
        terminal.line("2");
        let (_, screen) = terminal.end();
        assert!(!screen.contains("Mail sent successfully"), "{screen}");
    }
}

#[test]
fn server_that_is_not_there_is_75() {
    let sandbox = lab();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut terminal = Terminal::start(&sandbox, &["send", "--server", &closed.to_string()]);
    terminal.expect("Username: ");
    terminal.line("Stallings");
    terminal.hidden("Password: ", "network$ecurity");
    let (code, screen) = terminal.end();
    assert_eq!(code, 75, "{screen}");
}
