//! How fast a large mailbox opens and answers over POP3: `cargo bench --bench maildrop`.
//!
//! Fills a mailbox with 100,000 messages, 1 GB in all, and goes through what a mail reader does;
//! prints medians. With Dovecot (Debian package `dovecot-pop3d`) on the machine, it serves the same
//! messages from an mbox file, and both are asked in turn, each from a warm cache. `MESSAGES`
//! changes the number of messages; `BENCH_DIR` is where the 2 GB go, `target` if it is not set.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const MESSAGES: usize = 100_000;
/// The size of a message in octets, near enough.
const OCTETS: usize = 10_000;
const PASSWORD: &str = "secret";
/// Who reads the mail where the benchmark is run by root, whom Dovecot will not serve.
const NOBODY: u32 = 65534;

fn main() {
    let messages = std::env::var("MESSAGES").map_or(MESSAGES, |n| n.parse().unwrap());
    let place = Place::new();
    println!(
        "{messages} messages of {OCTETS} octets, {ROUNDS} runs, median (minimum to maximum)\n"
    );
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(Minismtp::start(&place, messages))];
    match Dovecot::start(&place, messages) {
        Some(dovecot) => peers.push(Box::new(dovecot)),
        None => println!("dovecot is not installed (dovecot-pop3d): minismtp alone\n"),
    }

    let mut first = Vec::new();
    for peer in &peers {
        let session = Session::open(peer.address());
        let memory = peer.memory_kib();
        first.push((peer.name(), session.opened, memory));
        session.quit();
    }
    println!("login and STAT for the first time, milliseconds");
    for (name, opened, _) in &first {
        println!("    {name:12} {:.1}", opened.as_secs_f64() * 1000.0);
    }

    let kinds = ["login and STAT", "LIST", "UIDL", "first RETR", "QUIT"];
    let mut times = vec![vec![Vec::new(); kinds.len()]; peers.len()];
    for _ in 0..ROUNDS {
        for (times, peer) in times.iter_mut().zip(&peers) {
            let mut session = Session::open(peer.address());
            let opened = session.opened;
            let spent = [
                opened,
                session.timed("LIST", true),
                session.timed("UIDL", true),
                session.timed("RETR 1", true),
                session.timed("QUIT", false),
            ];
            for (times, spent) in times.iter_mut().zip(spent) {
                times.push(spent);
            }
        }
    }
    for (kind, what) in kinds.iter().enumerate() {
        println!("{what}, milliseconds");
        for (times, peer) in times.iter_mut().zip(&peers) {
            println!("    {:12} {}", peer.name(), spread(&mut times[kind]));
        }
    }

    for (what, places) in [
        ("DELE of the last five and QUIT", [0, 1, 2, 3, 4]),
        (
            "DELE of five in the second half and QUIT",
            [10, 20, 30, 40, 50],
        ),
    ] {
        println!("{what}, milliseconds");
        let mut times = vec![Vec::new(); peers.len()];
        for _ in 0..ROUNDS {
            for (times, peer) in times.iter_mut().zip(&peers) {
                let mut session = Session::open(peer.address());
                let count = session.count;
                let begin = Instant::now();
                for place in places {
                    let back = if place < 5 {
                        place
                    } else {
                        count * place / 100
                    };
                    session.timed(&format!("DELE {}", count - back), false);
                }
                session.timed("QUIT", false);
                times.push(begin.elapsed());
            }
        }
        for (times, peer) in times.iter_mut().zip(&peers) {
            println!("    {:12} {}", peer.name(), spread(times));
        }
    }

    println!("memory with the mailbox open, KiB at most");
    for peer in &peers {
        let mut session = Session::open(peer.address());
        for command in ["LIST", "UIDL", "RETR 1"] {
            session.timed(command, true);
        }
        println!("    {:12} {}", peer.name(), peer.memory_kib());
    }
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let [first, median, last] =
        [0, times.len() / 2, times.len() - 1].map(|at| times[at].as_secs_f64() * 1000.0);
    format!("{median:.1} ({first:.1} to {last:.1})")
}

/// A login, from the first octet on.
struct Session {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    opened: Duration,
    count: usize,
}

impl Session {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(600)))
            .unwrap();
        let input = BufReader::with_capacity(256 * 1024, stream.try_clone().unwrap());
        let mut session = Self {
            stream,
            input,
            opened: Duration::ZERO,
            count: 0,
        };
        session.status();
        // The password is in clear on both sides: no hash is timed here.
        session.timed("USER bench", false);
        let begin = Instant::now();
        session.timed(&format!("PASS {PASSWORD}"), false);
        session.stream.write_all(b"STAT\r\n").unwrap();
        let stat = session.status();
        session.opened = begin.elapsed();
        session.count = stat.split(' ').nth(1).unwrap().parse().unwrap();
        session
    }

    /// A command and its whole answer.
    fn timed(&mut self, command: &str, has_text: bool) -> Duration {
        let begin = Instant::now();
        self.stream
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        self.status();
        if has_text {
            let mut line = Vec::new();
            while line != b".\r\n" {
                line.clear();
                assert!(
                    self.input.read_until(b'\n', &mut line).unwrap() > 0,
                    "{command}"
                );
            }
        }
        begin.elapsed()
    }

    fn status(&mut self) -> String {
        let mut line = String::new();
        self.input.read_line(&mut line).unwrap();
        assert!(line.starts_with("+OK"), "{line:?}");
        line.trim_end().to_owned()
    }

    fn quit(mut self) {
        self.timed("QUIT", false);
    }
}

/// A server that is measured.
trait Peer {
    fn name(&self) -> &'static str;
    fn address(&self) -> SocketAddr;
    /// The most that the process with the mailbox ever had resident.
    fn memory_kib(&self) -> u64;
}

/// A directory that is removed in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let place = base.join(format!("maildrop-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        Self(fs::canonicalize(place).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// What both have: trace fields, header section, body, LF line ends.
fn message(number: usize, out: &mut String) {
    out.clear();
    write!(
        out,
        "Return-Path: <stallings@localhost>\n\
         Received: from client.example by localhost with ESMTP id {number:x}\n\
         \tfor <bench@localhost>; Mon, 22 Mar 2021 14:05:06 +0000\n\
         From: Stallings <stallings@localhost>\nTo: bench@localhost\n\
         Subject: message {number}\nMessage-ID: <{number}@localhost>\n\
         Date: Mon, 22 Mar 2021 14:05:06 +0000\n\n"
    )
    .unwrap();
    while out.len() < OCTETS {
        out.push_str("All work and no play makes Jack a dull boy, says the proverb.\n");
    }
}

fn fill(path: &Path, messages: usize, head: &str, foot: &str) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut text = String::new();
    for number in 0..messages {
        message(number, &mut text);
        for piece in [head, text.as_str(), foot] {
            file.write_all(piece.as_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
}

fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    field(&status, "VmHWM:")
        .unwrap()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

struct Minismtp {
    child: Child,
    address: SocketAddr,
}

impl Minismtp {
    fn start(place: &Place, messages: usize) -> Self {
        let root = place.0.join("root");
        fs::create_dir_all(root.join("bench")).unwrap();
        fs::write(root.join("logincred.txt"), format!("bench,{PASSWORD}\n")).unwrap();
        let head = "From: stallings@localhost\nTo: bench@localhost\nSubject: message\n\
                    Received: 2021-03-22 : 14 : 05\n";
        fill(&root.join("bench/mymailbox.mail"), messages, head, ".\n");
        let mut child = Command::new(env!("CARGO_BIN_EXE_minismtp"))
            .args(["serve", "--port", "0", "--pop3-port", "0", "--root"])
            .arg(&root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening pop3 ")?.parse().ok());
        let address = address.unwrap();
        Self { child, address }
    }
}

impl Peer for Minismtp {
    fn name(&self) -> &'static str {
        "minismtp"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn memory_kib(&self) -> u64 {
        peak_kib(self.child.id())
    }
}

impl Drop for Minismtp {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Dovecot with a configuration, a directory and a port of its own.
struct Dovecot {
    child: Child,
    address: SocketAddr,
}

impl Dovecot {
    fn start(place: &Place, messages: usize) -> Option<Self> {
        let is_there = |path: &&str| Path::new(path).exists();
        let program = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"]
            .into_iter()
            .find(is_there)?;
        ["/usr/lib/dovecot/pop3", "/usr/libexec/dovecot/pop3"]
            .into_iter()
            .find(is_there)?;
        let directory = place.0.join("dovecot");
        let home = directory.join("home");
        fs::create_dir_all(&home).unwrap();
        let inbox = directory.join("inbox");
        let head = "From stallings@localhost Mon Mar 22 14:05:06 2021\n";
        fill(&inbox, messages, head, "\n");
        let owner = fs::metadata(&home).unwrap();
        let (uid, gid) = match (owner.uid(), owner.gid()) {
            (0, _) => (NOBODY, NOBODY),
            owner => owner,
        };
        for path in [&directory, &home, &inbox] {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let settings = directory.join("dovecot.conf");
        let internal = if uid == NOBODY {
            String::new()
        } else {
            rootless()
        };
        fs::write(
            &settings,
            format!(
                "base_dir = {directory}/run\nstate_dir = {directory}/run\n\
                 log_path = {directory}/log\nprotocols = pop3\nlisten = 127.0.0.1\nssl = no\n\
                 disable_plaintext_auth = no\nfirst_valid_uid = 1\n\
                 mail_location = mbox:{directory}/mail:INBOX={directory}/inbox\n\
                 passdb {{\n  driver = static\n  args = password={PASSWORD}\n}}\n\
                 userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={directory}/home\n}}\n\
                 namespace inbox {{\n  inbox = yes\n}}\n\
                 service pop3-login {{\n  inet_listener pop3 {{\n    port = {port}\n  }}\n  \
                 inet_listener pop3s {{\n    port = 0\n  }}\n}}\n{internal}",
                directory = directory.display(),
                port = address.port(),
            ),
        )
        .unwrap();
        let child = Command::new(program)
            .args(["-F", "-c"])
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dovecot = Self { child, address };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) {
            let Ok(mut stream) = TcpStream::connect(address) else {
                continue;
            };
            if stream.read(&mut [0; 3]).is_ok_and(|got| got > 0) {
                return Some(dovecot);
            }
        }
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        println!("dovecot does not start:\n{log}");
        None
    }
}

/// Dovecot runs its processes as others and in jails, where it can.
fn rootless() -> String {
    let user = std::env::var("USER").unwrap();
    let mut text = format!("default_internal_user = {user}\ndefault_login_user = {user}\n");
    for service in ["anvil", "pop3-login", "auth", "stats"] {
        writeln!(text, "service {service} {{\n  chroot =\n}}").unwrap();
    }
    text
}

impl Peer for Dovecot {
    fn name(&self) -> &'static str {
        "dovecot"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn memory_kib(&self) -> u64 {
        let parent = self.child.id().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let number = entry.unwrap().file_name().to_str()?.parse::<u32>().ok()?;
            let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
            let is_pop3 = field(&status, "Name:")? == "pop3" && field(&status, "PPid:")? == parent;
            is_pop3.then(|| peak_kib(number))
        });
        processes.max().unwrap_or_default()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // SIGTERM takes its other processes along.
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        drop(self.child.wait());
    }
}
