//! How long it takes to look into a large mailbox: `cargo bench --bench reading`.
//!
//! Fills a mailbox with 100,000 messages, 1 GB in all, lists it, shows single messages, asks for its
//! state over POP3 and deletes near its end; beside that runs `grep ^Subject:` on the file and, where
//! they are installed (Debian packages `s-nail`, `mailutils`), two mail readers on the same messages as
//! mbox. All read from a warm cache, in turn; prints medians, and the most memory that each took (with
//! GNU time). `MESSAGES` changes the number of messages and `OCTETS` their size; `BENCH_DIR` is where
//! the 2 GB go, `target` if it is not set.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const MESSAGES: usize = 100_000;
/// The size of a message in octets, near enough.
const OCTETS: usize = 10_000;
const PASSWORD: &str = "secret";
const MINISMTP: &str = env!("CARGO_BIN_EXE_minismtp");
const GNU_TIME: &str = "/usr/bin/time";

fn main() {
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let (messages, octets) = (number("MESSAGES", MESSAGES), number("OCTETS", OCTETS));
    let place = Place::new(messages, octets);
    println!(
        "{messages} messages of {octets} octets, {ROUNDS} runs, median (minimum to maximum)\n"
    );
    println!("{:44} {:>24} {:>12}", "", "milliseconds", "KiB at most");

    let middle = (messages / 2).max(1).to_string();
    let unique_id = place.unique_id(&middle);
    let commands: Vec<(&str, Row)> = vec![
        (
            "grep ^Subject:",
            place.other("grep", &["^Subject:", "mymailbox.mail"], ""),
        ),
        (
            "mailbox list, which makes the index",
            place.first(&["list", "bench"]),
        ),
        ("mailbox list", place.own(&["list", "bench"])),
        (
            "s-nail: list",
            place.other("s-nail", &["-nRHf", "mbox"], ""),
        ),
        (
            "mailutils: list",
            place.other("mail.mailutils", &["-nHf", "mbox"], ""),
        ),
        (
            "mailbox show, by number",
            place.own(&["show", "bench", &middle]),
        ),
        (
            "mailbox show, by unique-id",
            place.own(&["show", "bench", &unique_id]),
        ),
        ("mailbox show last", place.own(&["show", "bench", "last"])),
        (
            "s-nail: one message",
            place.other(
                "s-nail",
                &["-nRf", "mbox"],
                &format!("print {middle}\nexit\n"),
            ),
        ),
        (
            "mailutils: one message",
            place.other(
                "mail.mailutils",
                &["-nf", "mbox"],
                &format!("print {middle}\nexit\n"),
            ),
        ),
    ];
    let mut results = vec![(Vec::new(), 0); commands.len()];
    for _ in 0..ROUNDS {
        for ((_, row), (times, memory)) in commands.iter().zip(&mut results) {
            if let Some((time, kib)) = place.run(row) {
                times.push(time);
                *memory = kib.max(*memory);
            }
        }
    }
    for ((what, _), (mut times, memory)) in commands.iter().zip(results) {
        print(what, &mut times, memory);
    }
    pop3(&place);
    let mut times = Vec::new();
    let mut memory = 0;
    for round in 0..ROUNDS {
        let number = messages.saturating_sub(5 + round).max(1).to_string();
        let (time, kib) = place
            .run(&place.own(&["delete", "bench", &number]))
            .unwrap();
        times.push(time);
        memory = kib.max(memory);
    }
    print("mailbox delete, near the end", &mut times, memory);
}

fn print(what: &str, times: &mut [Duration], kib: u64) {
    times.sort_unstable();
    if times.is_empty() {
        println!("{what:44} {:>24}", "not installed");
        return;
    }
    let [first, median, last] =
        [0, times.len() / 2, times.len() - 1].map(|at| times[at].as_secs_f64() * 1000.0);
    let spread = format!("{median:.1} ({first:.1} to {last:.1})");
    let memory = if kib > 0 {
        kib.to_string()
    } else {
        "-".to_owned()
    };
    println!("{what:44} {spread:>24} {memory:>12}");
}

/// What a session costs after the login, and what it takes of the server's memory.
fn pop3(place: &Place) {
    let mut child = Command::new(MINISMTP)
        .args(["serve", "--port", "0", "--pop3-port", "0", "--root"])
        .arg(&place.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.strip_prefix("listening pop3 ")?.to_owned()));
    let stream = TcpStream::connect(address.unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut session = BufReader::with_capacity(256 * 1024, stream);
    let mut ask = |command: &str, has_text: bool| {
        let begin = Instant::now();
        if !command.is_empty() {
            let line = format!("{command}\r\n");
            session.get_mut().write_all(line.as_bytes()).unwrap();
        }
        let mut line = Vec::new();
        session.read_until(b'\n', &mut line).unwrap();
        assert!(line.starts_with(b"+OK"), "{command}");
        while has_text && line != b".\r\n" {
            line.clear();
            session.read_until(b'\n', &mut line).unwrap();
        }
        begin.elapsed()
    };
    ask("", false);
    ask("USER bench", false);
    let login = ask(&format!("PASS {PASSWORD}"), false);
    let kib = peak_kib(child.id());
    print("POP3: login", &mut [login], kib);
    for (command, has_text) in [
        ("STAT", false),
        ("LIST", true),
        ("UIDL", true),
        ("RETR 1", true),
    ] {
        let mut times: Vec<_> = (0..ROUNDS).map(|_| ask(command, has_text)).collect();
        print(
            &format!("POP3: {command}"),
            &mut times,
            peak_kib(child.id()),
        );
    }
    ask("QUIT", false);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// A command that is measured.
struct Row {
    program: String,
    arguments: Vec<String>,
    input: String,
    forgets_index: bool,
}

/// A mail root with one mailbox, which is removed in the end.
struct Place(PathBuf);

impl Place {
    fn new(messages: usize, octets: usize) -> Self {
        let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let place = base.join(format!("reading-{}", std::process::id()));
        fs::create_dir_all(place.join("bench")).unwrap();
        let place = Self(fs::canonicalize(place).unwrap());
        fs::write(place.0.join("logincred.txt"), format!("bench,{PASSWORD}\n")).unwrap();
        let head = "From: stallings@localhost\nTo: bench@localhost\nSubject: message\n\
                    Received: 2021-03-22 : 14 : 05\n";
        fill(&place.mailbox(), messages, octets, head, ".\n");
        let head = "From stallings@localhost Mon Mar 22 14:05:06 2021\n";
        fill(&place.0.join("bench/mbox"), messages, octets, head, "\n");
        place
    }

    fn mailbox(&self) -> PathBuf {
        self.0.join("bench/mymailbox.mail")
    }

    fn own(&self, arguments: &[&str]) -> Row {
        let root = self.0.display().to_string();
        let arguments = ["mailbox"].iter().chain(arguments).copied();
        Row {
            program: MINISMTP.to_owned(),
            arguments: arguments
                .chain(["--root", &root])
                .map(str::to_owned)
                .collect(),
            input: String::new(),
            forgets_index: false,
        }
    }

    fn first(&self, arguments: &[&str]) -> Row {
        Row {
            forgets_index: true,
            ..self.own(arguments)
        }
    }

    fn other(&self, program: &str, arguments: &[&str], input: &str) -> Row {
        Row {
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            input: input.to_owned(),
            forgets_index: false,
        }
    }

    /// How long it took, and the most memory; `None` where there is no such program.
    fn run(&self, row: &Row) -> Option<(Duration, u64)> {
        if row.forgets_index {
            fs::remove_file(self.0.join("bench/.minismtp.index")).unwrap_or_default();
        }
        let (input, report) = (self.0.join("input"), self.0.join("report"));
        fs::write(&input, &row.input).unwrap();
        let has_time = Path::new(GNU_TIME).exists();
        let mut command = if has_time {
            let mut command = Command::new(GNU_TIME);
            command
                .args(["-f", "%M", "-o"])
                .arg(&report)
                .arg(&row.program);
            command
        } else {
            Command::new(&row.program)
        };
        // With a file for its output: grep stops at the first line when nobody reads it.
        command
            .args(&row.arguments)
            .current_dir(self.0.join("bench"))
            .env("TERM", "dumb")
            .env("HOME", &self.0)
            .env_remove("PAGER")
            .stdin(File::open(&input).unwrap())
            .stdout(File::create(self.0.join("output")).unwrap())
            .stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().ok()?;
        let spent = begin.elapsed();
        if !status.success() {
            return None;
        }
        let kib = fs::read_to_string(&report).unwrap_or_default();
        Some((spent, kib.trim().parse().unwrap_or(0)))
    }

    fn unique_id(&self, number: &str) -> String {
        let shown = Command::new(MINISMTP)
            .args(["mailbox", "show", "bench", number, "--json", "--root"])
            .arg(&self.0)
            .output()
            .unwrap();
        let text = String::from_utf8(shown.stdout).unwrap();
        let (_, rest) = text.split_once("\"id\":\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn fill(path: &Path, messages: usize, octets: usize, head: &str, foot: &str) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut text = String::new();
    for number in 0..messages {
        text.clear();
        write!(
            text,
            "{head}Return-Path: <stallings@localhost>\n\
             Received: from client.example by localhost with ESMTP id {number:x}\n\
             \tfor <bench@localhost>; Mon, 22 Mar 2021 14:05:06 +0000\n\
             From: Stallings <stallings@localhost>\nTo: bench@localhost\n\
             Subject: message {number}\nMessage-ID: <{number}@localhost>\n\
             Date: Mon, 22 Mar 2021 14:05:06 +0000\n\n"
        )
        .unwrap();
        while text.len() < octets {
            text.push_str("All work and no play makes Jack a dull boy, says the proverb.\n");
        }
        text.push_str(foot);
        file.write_all(text.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    // All of it is in the cache from then on, and on the disk, so that nothing else is going on.
    drop(file);
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut file = file;
    while file.read(&mut buffer).unwrap() > 0 {}
}
