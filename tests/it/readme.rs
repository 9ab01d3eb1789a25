//! Follows the README as its reader does: every command in it is run, in order, in one shell, and
//! what it prints is compared with what stands there.
//!
//! A fenced block is one of these:
//!
//! - `console`: lines `$ command` (with `> ` lines where it goes on), each followed by what it
//!   prints. A line `…` stands for any lines, a `…` in a line for any text. A command must end in 0
//!   unless the next one is `echo $?`. `minismtp serve` is left running, as in another terminal,
//!   and a bare `minismtp send` is played on a terminal, with what the reader types.
//! - `sh`: a script to be pasted; it must succeed.
//! - `log`: what the terminal of the running server shows from there on; `^C` stops the server.
//! - `text`, `ini`: nothing to run.
//!
//! Times, ids, host names and ports may differ; the port 2525 stands for a free one. Of `cargo`, only
//! the form is checked, and the demo is run by the binary that is built already.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clients::is_installed;
use crate::lab::Terminal;
use crate::sandbox::{PATIENCE, Sandbox, replaced};

const README: &str = include_str!("../../README.md");

/// The ports that the README's examples use, for SMTP and for mailbox access.
const PORT: &str = "2525";
const ACCESS_PORT: &str = "1110";

/// Programs that need not be installed. Without one, its section ends there.
const CLIENTS: [&str; 5] = ["curl", "msmtp", "nc", "python3", "swaks"];

/// What stands in for `cargo`: the README's command lines and no others.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
    "run --release -- demo") exec minismtp demo ;;
    "test" | "test --test it tidy" | "bench") ;;
    "install --locked --path .") ;;
    "fmt --check" | "clippy --all-targets -- -D warnings") ;;
    *) echo "no such cargo command line: $*"; exit 101 ;;
esac
"#;

/// Times, by their shape: `0` stands for a digit, `A` for a letter, `+` for a sign.
const TIMES: [&str; 4] = [
    "0000-00-00T00:00:00.000+00:00",
    "0000-00-00 : 00 : 00",
    "AAA, 00 AAA 0000 00:00:00 +0000",
    "AAA, 0 AAA 0000 00:00:00 +0000",
];

/// Words that differ from run to run, by what stands before and after them.
const WORDS: [(&str, &str); 14] = [
    ("certificate sha256 ", ""),
    ("A server runs on 127.0.0.1:", ","),
    ("The mailbox of Andrew, ", "/Andrew/"),
    (" peer=127.0.0.1:", ""),
    ("queued as ", ""),
    ("stopping sessions=", ""),
    (" delivered id=", " "),
    ("SMTP id ", ""),
    ("220 ", " ESMTP"),
    ("250 ", " greets"),
    ("250-", " greets"),
    ("221 2.0.0 ", " closing"),
    ("\tby ", " with"),
    ("+OK ", " POP3 server ready"),
];

#[test]
fn every_command_in_the_readme_does_what_stands_there() {
    let mut reader = Reader::new();
    let mut given_up = None;
    for block in blocks(README) {
        if given_up == Some(block.section) {
            continue;
        }
        for step in block.steps() {
            if let Some(client) = step.client().filter(|client| !is_installed(client)) {
                println!("skipped from line {} on, for want of {client}", step.line);
                given_up = Some(block.section);
                break;
            }
            reader.follow(&step);
        }
    }
    reader.stop_server();
}

/// A fenced block.
struct Block {
    /// Where it begins in the file, counted from 1.
    line: usize,
    /// How many second-level headings there are before it.
    section: usize,
    kind: String,
    lines: Vec<String>,
}

/// Something to do and what should come of it.
struct Step {
    line: usize,
    action: Action,
    expected: Vec<String>,
    /// Whether the README asks for its exit code next.
    may_fail: bool,
}

enum Action {
    Command(String),
    Script(String),
    Log,
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut section) = (Vec::new(), 0);
    let mut lines = (1..).zip(text.lines());
    while let Some((line, text)) = lines.next() {
        section += usize::from(text.starts_with("## "));
        let Some(kind) = text.trim_start().strip_prefix("```") else {
            continue;
        };
        // A block in a list is indented.
        let indent = text.len() - text.trim_start().len();
        let content = lines.by_ref().map(|(_, text)| text);
        let content = content.take_while(|text| text.trim() != "```");
        blocks.push(Block {
            line,
            section,
            kind: kind.to_owned(),
            lines: content
                .map(|text| text.get(indent..).unwrap_or_default().to_owned())
                .collect(),
        });
    }
    blocks
}

impl Block {
    fn steps(&self) -> Vec<Step> {
        let step = |action, expected| Step {
            line: self.line,
            action,
            expected,
            may_fail: false,
        };
        match self.kind.as_str() {
            "console" => self.commands(),
            "sh" => vec![step(Action::Script(self.lines.join("\n")), Vec::new())],
            "log" => vec![step(Action::Log, self.lines.clone())],
            "text" | "ini" => Vec::new(),
            other => panic!("README.md:{}: what is a {other:?} block?", self.line),
        }
    }

    fn commands(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut goes_on = false;
        for (line, text) in (self.line + 1..).zip(&self.lines) {
            if let Some(command) = text.strip_prefix("$ ") {
                if let Some(before) = steps.last_mut() {
                    before.may_fail = command == "echo $?";
                }
                steps.push(Step {
                    line,
                    action: Action::Command(command.to_owned()),
                    expected: Vec::new(),
                    may_fail: false,
                });
                goes_on = true;
                continue;
            }
            let Some(step) = steps.last_mut() else {
                panic!("README.md:{line}: a console block begins with a command");
            };
            let more = text.strip_prefix('>').filter(|_| goes_on);
            match (more, &mut step.action) {
                (Some(more), Action::Command(command)) => {
                    command.push('\n');
                    command.push_str(more.strip_prefix(' ').unwrap_or(more));
                }
                _ => {
                    goes_on = false;
                    step.expected.push(text.clone());
                }
            }
        }
        steps
    }
}

impl Step {
    /// The client that it needs.
    fn client(&self) -> Option<&'static str> {
        let (Action::Command(text) | Action::Script(text)) = &self.action else {
            return None;
        };
        let program = text.split_whitespace().next();
        CLIENTS.into_iter().find(|client| program == Some(client))
    }

    #[track_caller]
    fn fail(&self, what: &str, actual: &str) -> ! {
        let expected = self.expected.join("\n");
        panic!(
            "README.md:{}: {what}\n--- it has:\n{expected}\n--- there is:\n{actual}",
            self.line
        );
    }
}

/// A reader at a shell, with a server in a second terminal.
struct Reader {
    sandbox: Sandbox,
    shell: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    port: String,
    access_port: String,
    server: Option<Running>,
    servers: usize,
}

/// The server in the second terminal.
struct Running {
    screen: PathBuf,
    /// How much of the screen the README has shown.
    shown: usize,
}

impl Reader {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let [programs, home, work] = ["programs", "home", "work"].map(|name| sandbox.beside(name));
        for directory in [&programs, &home, &work] {
            fs::create_dir_all(directory).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_minismtp"), programs.join("minismtp")).unwrap();
        let cargo = programs.join("cargo");
        fs::write(&cargo, CARGO).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();

        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        let port = free_port(None);
        let access_port = free_port(Some(&port));
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("MINISMTP_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(&*name);
            }
        }
        command
            .args(["--noprofile", "--norc"])
            .current_dir(work)
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", home)
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .env("MINISMTP_SERVER", format!("localhost:{port}"))
            .env_remove("XDG_DATA_HOME")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("RUST_BACKTRACE");
        let mut shell = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = shell.stdin.take().unwrap();
        let stdout = BufReader::new(shell.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        let mut reader = Self {
            sandbox,
            shell,
            stdin,
            answers,
            port,
            access_port,
            server: None,
            servers: 0,
        };
        // For a test that is interrupted.
        reader.ask("trap 'test -z \"$_server\" || kill -KILL $_server' EXIT; echo");
        reader
    }

    fn follow(&mut self, step: &Step) {
        match &step.action {
            Action::Log => self.compare_log(step),
            Action::Script(script) => {
                let (status, output) = self.run(&format!("set -e\n{script}\nset +e"));
                if status != "0" {
                    step.fail(&format!("the script ends with {status}"), &output);
                }
            }
            Action::Command(command) if command.starts_with("minismtp serve") => {
                self.start_server(command);
                self.compare_log(step);
            }
            Action::Command(command) if command == "minismtp send" => self.type_mails(step),
            Action::Command(command) => {
                let (status, output) = self.run(command);
                let output = self.as_shown(&output);
                if !is_like(&step.expected, &lines(&output)) {
                    step.fail(&format!("`{command}` prints something else"), &output);
                }
                if status != "0" && !step.may_fail {
                    step.fail(&format!("`{command}` ends with {status}"), &output);
                }
            }
        }
    }

    /// Runs a command in the shell itself; gives the exit code and what was printed.
    fn run(&mut self, command: &str) -> (String, String) {
        let [script, output] = ["step.sh", "step.out"].map(|name| self.sandbox.beside(name));
        fs::write(&script, self.with_free_ports(command) + "\n").unwrap();
        let (script, printed) = (script.display(), output.display());
        let status = self.ask(&format!(
            "(exit $_status); . {script} < /dev/null > {printed} 2>&1; _status=$?; echo $_status"
        ));
        let output = fs::read(output).unwrap();
        (status, String::from_utf8_lossy(&output).into_owned())
    }

    /// Has the shell do something that prints a line.
    fn ask(&mut self, command: &str) -> String {
        writeln!(self.stdin, "{command}").unwrap();
        match self.answers.recv_timeout(3 * PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                let output = fs::read_to_string(self.sandbox.beside("step.out"));
                panic!("the shell does not answer ({error}) to {command}\n{output:?}");
            }
        }
    }

    fn start_server(&mut self, command: &str) {
        self.stop_server();
        self.servers += 1;
        let screen = self.sandbox.beside(&format!("server.{}", self.servers));
        let command = self.with_free_ports(command);
        self.ask(&format!(
            "{command} > {} 2>&1 & _server=$!; echo started",
            screen.display()
        ));
        self.server = Some(Running { screen, shown: 0 });
    }

    fn stop_server(&mut self) {
        if self.server.take().is_some() {
            let status = self.ask("kill -TERM $_server; wait $_server; echo $?; _server=");
            assert_eq!(status, "0", "the server's exit code");
        }
    }

    /// Compares what the server's terminal shows from where it was left.
    fn compare_log(&mut self, step: &Step) {
        let Some(server) = &self.server else {
            step.fail("no server is running", "");
        };
        let (screen, shown) = (server.screen.clone(), server.shown);
        let expected: Vec<_> = step
            .expected
            .iter()
            .filter(|line| *line != "^C")
            .cloned()
            .collect();
        if expected.len() < step.expected.len() {
            let status = self.ask("kill -INT $_server; wait $_server; echo $?; _server=");
            assert_eq!(status, "0", "the server's exit code");
            self.server = None;
        }
        let started = std::time::Instant::now();
        loop {
            let text = self.as_shown(&fs::read_to_string(&screen).unwrap_or_default());
            let actual = lines(&text).into_iter().skip(shown).collect::<Vec<_>>();
            if logs_the_same(&expected, &actual) {
                break;
            }
            if started.elapsed() > PATIENCE {
                step.fail("the server's terminal shows something else", &text);
            }
            thread::yield_now();
        }
        if let Some(server) = &mut self.server {
            server.shown += expected.len();
        }
    }

    /// Plays the menu on a terminal: what is typed is what stands after a prompt, after the
    /// options, and in a mail.
    fn type_mails(&mut self, step: &Step) {
        let environment = self.sandbox.beside("environment.sh");
        self.ask(&format!("export -p > {}; echo", environment.display()));
        let directory = self.ask("pwd");
        let mut command = Command::new("bash");
        let play = format!(". {}; exec minismtp send", environment.display());
        command.args(["-c", &play]).current_dir(&directory);
        let mut terminal = Terminal::run(&command);
        let (mut user, mut chooses, mut types) = (String::new(), false, false);
        for line in &step.expected {
            if let Some(name) = line.strip_prefix("Username: ") {
                terminal.expect("Username: ");
                terminal.line(name);
                user = format!("{name},");
            } else if line == "Password:" {
                let users = Path::new(&directory).join("logincred.txt");
                let users = fs::read_to_string(users).unwrap();
                let password = users.lines().find_map(|line| line.strip_prefix(&user));
                terminal.hidden("Password: ", password.unwrap());
            } else if line == "2. Quit" {
                terminal.expect("2. Quit");
                chooses = true;
            } else if chooses || types {
                terminal.line(line);
                types = (types && line != ".") || (chooses && line == "1");
                chooses = false;
            }
        }
        let (code, screen) = terminal.end();
        let screen = self.as_shown(&screen.replace('\r', ""));
        if code != 0 || !is_like(&step.expected, &lines(&screen)) {
            step.fail("the screen shows something else", &screen);
        }
    }

    /// A command with ports that are free instead of the README's.
    fn with_free_ports(&self, command: &str) -> String {
        command
            .replace(PORT, &self.port)
            .replace(ACCESS_PORT, &self.access_port)
    }

    /// The text with the README's ports and home directory.
    fn as_shown(&self, text: &str) -> String {
        let [home, work] = ["home", "work"].map(|name| self.sandbox.beside(name));
        text.replace(&format!(":{}", self.port), &format!(":{PORT}"))
            .replace(
                &format!(":{}", self.access_port),
                &format!(":{ACCESS_PORT}"),
            )
            .replace(home.to_str().unwrap(), "/home/you")
            .replace(work.to_str().unwrap(), "/home/you")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The shell may be stuck in a command, and the server is its child too.
        kill_process_group(Pid::from_child(&self.shell), Signal::KILL).ok();
        self.shell.wait().ok();
    }
}

/// A port that nobody uses, outside of the range that port 0 and clients take theirs from.
fn free_port(taken: Option<&str>) -> String {
    let first = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap();
    let mut free = (first..32_000).filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    let free = free.find(|port| taken != Some(port.to_string().as_str()));
    free.unwrap().to_string()
}

/// Whether a log has these lines, in order within each session: sessions overlap.
fn logs_the_same(expected: &[String], actual: &[String]) -> bool {
    let wanted = by_session(expected);
    let found = by_session(actual);
    wanted.iter().all(|(session, lines)| {
        found.get(session).is_some_and(|found| {
            found.len() >= lines.len() && is_like(lines, &found[..lines.len()])
        })
    })
}

fn by_session(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut sessions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ');
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let session = second.filter(|word| word.starts_with("session="));
        // What the server prints, and what it logs outside of sessions.
        let is_printed = ["listening", "certificate"].contains(&first);
        let other = if is_printed { "" } else { "log" };
        let lines = sessions.entry(session.unwrap_or(other).to_owned());
        lines.or_default().push(line.clone());
    }
    sessions
}

/// The lines of what was shown, but for what only root is told.
fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.contains(" warning \"running as root; "))
        .map(str::to_owned)
        .collect()
}

/// Whether a text is what the README has, apart from what may differ.
fn is_like(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=actual.len()).any(|from| is_like(rest, &actual[from..]))
        }
        Some((first, rest)) => actual
            .split_first()
            .is_some_and(|(line, more)| line_is_like(first, line) && is_like(rest, more)),
    }
}

fn line_is_like(expected: &str, actual: &str) -> bool {
    let (expected, actual) = (masked(expected), masked(actual));
    match expected.split_once('…') {
        None => expected == actual,
        Some((start, end)) => actual
            .strip_prefix(start)
            .is_some_and(|rest| rest.ends_with(end)),
    }
}

fn masked(line: &str) -> String {
    let line = replaced(line.trim_end(), &TIMES, "<time>");
    WORDS.iter().fold(line, |line, (before, after)| {
        let Some((start, rest)) = line.split_once(before) else {
            return line;
        };
        let end = if after.is_empty() {
            rest.find(' ').unwrap_or(rest.len())
        } else {
            rest.find(after).unwrap_or(0)
        };
        if end == 0 || rest[..end].contains(' ') {
            return line;
        }
        format!("{start}{before}<word>{}", &rest[end..])
    })
}

#[test]
fn what_may_differ_and_what_may_not() {
    let text = |text: &str| lines(text);
    for (expected, actual, alike) in [
        ("a\n…\nb", "a\nb", true),
        ("a\n…\nb", "a\n1\n2\nb", true),
        ("a\n…\nb", "a\n1", false),
        ("a\nb", "a\nb\nc", false),
        (
            "Received: 2026-11-23 : 09 : 17",
            "Received: 2027-01-02 : 10 : 00",
            true,
        ),
        ("Received: 2026-11-23 : 09 : 17", "Received: today", false),
        (
            "x session=1 connected peer=127.0.0.1:5",
            "x session=1 connected peer=127.0.0.1:77",
            true,
        ),
        (
            "x session=1 connected peer=127.0.0.1:5",
            "x session=2 connected peer=127.0.0.1:5",
            false,
        ),
        ("220 myhost ESMTP minismtp", "220 a.b ESMTP minismtp", true),
        ("220 myhost ESMTP minismtp", "220 a b ESMTP minismtp", false),
        (
            "250 2.0.0 Ok: queued as 1.2",
            "250 2.0.0 Ok: queued as ab.9",
            true,
        ),
        (
            "\tby myhost with ESMTP id 1.2",
            "\tby vm with ESMTP id 1f.3",
            true,
        ),
        ("error: `x`: …", "error: `x`: no", true),
        ("error: `x`: …", "error: `y`: no", false),
    ] {
        assert_eq!(
            is_like(&text(expected), &text(actual)),
            alike,
            "{expected:?} {actual:?}"
        );
    }
}

#[test]
fn blocks_are_cut_into_steps() {
    let text = "## One\n\n- list\n\n  ```console\n  $ cat <<END\n  > a\n  >\n  > END\n  a\n\n  > b\n  $ false\n  $ echo $?\n  1\n  ```\n";
    let blocks = blocks(text);
    assert_eq!((blocks.len(), blocks[0].section, blocks[0].line), (1, 1, 5));
    let steps: Vec<_> = blocks[0]
        .steps()
        .into_iter()
        .map(|step| match step.action {
            Action::Command(command) => (step.line, command, step.expected, step.may_fail),
            _ => panic!("not a command"),
        })
        .collect();
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|&line| line.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        steps,
        [
            (
                6,
                "cat <<END\na\n\nEND".to_owned(),
                lines(&["a", "", "> b"]),
                false
            ),
            (13, "false".to_owned(), lines(&[]), true),
            (14, "echo $?".to_owned(), lines(&["1"]), false),
        ]
    );
}
