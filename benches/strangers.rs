//! What strangers do to everybody else: `cargo bench --bench strangers`.
//!
//! First, what 10,000 connections that only said EHLO take of the server's memory. Then ten ordinary
//! clients send messages of 1 KiB, each the next one 10 ms after the 250, and the time from MAIL to 250
//! is taken: alone, beside 2,000 clients that send one octet a second, and beside one that sends as fast
//! as it can.
//!
//! All of it runs on one machine, so that a client which floods takes a processor from everybody by what
//! it does itself. Therefore each flood is played twice, at the server and at *another* one beside it: the
//! ratio of the two is the server's fault. Medians of `--rounds` are printed; a phase takes `--seconds`,
//! ten at most. `--only auth` plays one kind.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]
#![expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const IDLE: usize = 10_000;
const ORDINARY: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);
const SLOW: usize = 2_000;
/// A slow client sends an octet each time that these have passed, in turn with the others.
const TICKS: usize = 20;
const TICK: Duration = Duration::from_millis(50);
/// Logins that are tried at once.
const GUESSERS: usize = 50;
const SECONDS_MAX: f64 = 10.0;
const MINISMTP: &str = env!("CARGO_BIN_EXE_minismtp");

#[derive(Parser)]
struct Args {
    /// Play only what has this in its name
    #[arg(long)]
    only: Option<String>,
    /// How often each kind is played
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a phase takes, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Another build of the server, instead of this one
    #[arg(long, default_value = MINISMTP)]
    binary: PathBuf,
    /// What cargo says
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let handles = raise_limit();
    if args.only.is_none() {
        memory(&args.binary, IDLE.min(handles.saturating_sub(100)));
    }
    let length = Duration::from_secs_f64(args.seconds.min(SECONDS_MAX));
    let (server, other) = (Server::start(&args.binary), Server::start(&args.binary));
    // What is done for the first time takes longer.
    ordinary(server.address, length.min(Duration::from_secs(1)));

    let strangers: Vec<Stranger> = Stranger::ALL
        .into_iter()
        .filter(|stranger| {
            let only = args.only.as_ref();
            only.is_none_or(|only| stranger.name().contains(only))
        })
        .collect();
    let mut alone = Results::default();
    let mut beside: Vec<[Results; 2]> = strangers.iter().map(|_| Default::default()).collect();
    for _ in 0..args.rounds {
        alone.add(&mut ordinary(server.address, length), 0.0);
        for (stranger, results) in strangers.iter().zip(&mut beside) {
            for (target, results) in [&server, &other].into_iter().zip(results) {
                let (mut waits, rate) = stranger.beside(&server, target, length);
                results.add(&mut waits, rate);
            }
        }
    }

    println!(
        "\n{ORDINARY} ordinary clients, {} rounds, median (minimum to maximum)",
        args.rounds
    );
    println!(
        "    {:32} {:>10}  {:>20}  {:>22}  {:>8}  {:>9}  {:>12}",
        "", "messages/s", "p50 ms", "p99 ms", "x alone", "x another", "strangers'/s"
    );
    let usual = alone.row("alone", None, None);
    for (stranger, [at_server, at_other]) in strangers.iter().zip(&mut beside) {
        let control = median(&mut at_other.worst);
        at_server.row(stranger.name(), Some(usual), Some(control));
        at_other.row("    at another server", Some(usual), None);
    }
}

/// Gives how many files and sockets this process, and each of its children, may have now.
fn raise_limit() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum.or(Some(2 * IDLE as u64));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap())
}

/// What came of a kind, a value a round.
#[derive(Default)]
struct Results {
    rates: Vec<f64>,
    medians: Vec<f64>,
    worst: Vec<f64>,
    strangers: Vec<f64>,
}

impl Results {
    fn add(&mut self, ordinary: &mut Ordinary, strangers: f64) {
        ordinary.waits.sort_by(f64::total_cmp);
        let waits = &ordinary.waits;
        self.rates.push(waits.len() as f64 / ordinary.seconds);
        self.medians.push(waits[waits.len() / 2]);
        self.worst.push(waits[(waits.len() - 1) * 99 / 100]);
        self.strangers.push(strangers);
    }

    /// Prints it and gives the p99.
    fn row(&mut self, name: &str, alone: Option<f64>, control: Option<f64>) -> f64 {
        let worst = median(&mut self.worst);
        let ratio =
            |other: Option<f64>| other.map_or_else(String::new, |o| format!("{:.1}", worst / o));
        println!(
            "    {name:32} {:>10.0}  {:>20}  {:>22}  {:>8}  {:>9}  {:>12.0}",
            median(&mut self.rates),
            spread(&mut self.medians),
            spread(&mut self.worst),
            ratio(alone),
            ratio(control),
            median(&mut self.strangers),
        );
        worst
    }
}

/// What connections take that do nothing.
fn memory(binary: &Path, connections: usize) {
    let server = Server::start(binary);
    let rest = server.resident_kib();
    let held: Vec<Client> = (0..connections)
        .map(|_| Client::connect(server.address).unwrap())
        .collect();
    let full = server.resident_kib();
    println!("memory at rest: {:.1} MB", rest as f64 / 1024.0);
    println!(
        "with {connections} idle connections: {:.1} MB, {:.1} KiB for each",
        full as f64 / 1024.0,
        (full - rest) as f64 / held.len() as f64
    );
}

/// How the ordinary clients fared.
struct Ordinary {
    /// From MAIL to 250, in milliseconds.
    waits: Vec<f64>,
    seconds: f64,
}

/// Lets the ordinary clients send for so long.
fn ordinary(address: SocketAddr, length: Duration) -> Ordinary {
    let begun = Instant::now();
    let waits = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..ORDINARY)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = Client::connect(address).unwrap();
                    let text = message();
                    let recipient = format!("RCPT TO:<user{number}@localhost>\r\n");
                    let mut waits = Vec::new();
                    while begun.elapsed() < length {
                        let begin = Instant::now();
                        client.ask(b"MAIL FROM:<s@localhost>\r\n", "250").unwrap();
                        client.ask(recipient.as_bytes(), "250").unwrap();
                        client.ask(b"DATA\r\n", "354").unwrap();
                        client.ask(&text, "250").unwrap();
                        waits.push(begin.elapsed().as_secs_f64() * 1000.0);
                        std::thread::sleep(PAUSE);
                    }
                    waits
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    Ordinary { waits, seconds }
}

fn message() -> Vec<u8> {
    let mut text = b"From: s@localhost\r\nSubject: load\r\n\r\n".to_vec();
    while text.len() < 1024 {
        text.extend_from_slice(
            b"All work and no play makes Jack a dull boy, says the proverb.\r\n",
        );
    }
    text.extend_from_slice(b".\r\n");
    text
}

/// Who else is there.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    Slow,
    Noops,
    Garbage,
    Recipients,
    Login,
    Logins,
}

impl Stranger {
    const ALL: [Self; 6] = [
        Self::Slow,
        Self::Noops,
        Self::Garbage,
        Self::Recipients,
        Self::Login,
        Self::Logins,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Slow => "2,000 slow clients",
            Self::Noops => "a flood of NOOP",
            Self::Garbage => "a flood of garbage",
            Self::Recipients => "a flood of refused RCPT",
            Self::Login => "a flood of wrong auth",
            Self::Logins => "wrong auth, 50 connections",
        }
    }

    /// Lets the ordinary clients send while these are at the target; gives also how many replies or
    /// octets a second there were for these.
    fn beside(self, server: &Server, target: &Server, length: Duration) -> (Ordinary, f64) {
        let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let address = target.address;
        std::thread::scope(|scope| {
            match self {
                Self::Slow => {
                    let crowd = slow_clients(address);
                    scope.spawn(|| trickle(crowd, &stop, &done));
                }
                Self::Logins => {
                    for _ in 0..GUESSERS {
                        scope.spawn(|| self.flood(address, &stop, &done));
                    }
                }
                _ => {
                    scope.spawn(|| self.flood(address, &stop, &done));
                }
            }
            let before = done.load(Ordering::Relaxed);
            let ordinary = ordinary(server.address, length);
            stop.store(true, Ordering::Relaxed);
            let count = done.load(Ordering::Relaxed) - before;
            let rate = count as f64 / ordinary.seconds;
            (ordinary, rate)
        })
    }

    /// What is said first, and what then again and again.
    fn words(self) -> (Vec<u8>, Vec<u8>) {
        let login = BASE64_STANDARD.encode(b"\0victim\0wrong");
        let (first, line) = match self {
            Self::Slow | Self::Noops => ("", "NOOP\r\n".to_owned()),
            Self::Garbage => ("", "\u{1}\u{2}garbage <<<>>>\r\n".to_owned()),
            Self::Recipients => (
                "EHLO c.example\r\nMAIL FROM:<s@localhost>\r\n",
                "RCPT TO:<nobody@localhost>\r\n".to_owned(),
            ),
            Self::Login | Self::Logins => ("EHLO c.example\r\n", format!("AUTH PLAIN {login}\r\n")),
        };
        (first.as_bytes().to_vec(), line.repeat(2000).into_bytes())
    }

    /// Sends as fast as the server takes it, and comes again when it is turned out.
    fn flood(self, address: SocketAddr, stop: &AtomicBool, done: &AtomicUsize) {
        let (first, again) = self.words();
        while !stop.load(Ordering::Relaxed) {
            // Without a port for a moment, it comes again.
            let Ok(stream) = TcpStream::connect(address) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            // That the server hangs up is what should happen.
            drop(pour(stream, &first, &again, stop, done));
        }
    }
}

fn pour(
    mut stream: TcpStream,
    first: &[u8],
    again: &[u8],
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> io::Result<()> {
    stream.write_all(first)?;
    stream.set_nonblocking(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    while !stop.load(Ordering::Relaxed) {
        let wanted = PollFlags::IN | PollFlags::OUT;
        let mut polled = [PollFd::new(&stream, wanted)];
        poll(&mut polled, Some(&patience))?;
        let ready = polled[0].revents();
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            let got = match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                got => got?,
            };
            let replies = memchr::memchr_iter(b'\n', &buffer[..got]).count();
            done.fetch_add(replies, Ordering::Relaxed);
        }
        if ready.contains(PollFlags::OUT) {
            match stream.write(&again[at..]) {
                Ok(sent) => at = (at + sent) % again.len(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Clients that have begun: one half is within commands, the other within texts.
fn slow_clients(address: SocketAddr) -> Vec<TcpStream> {
    (0..SLOW)
        .map(|number| {
            let mut client = Client::connect(address).unwrap();
            if number % 2 == 0 {
                client.ask(b"MAIL FROM:<s@localhost>\r\n", "250").unwrap();
                client
                    .ask(b"RCPT TO:<user99@localhost>\r\n", "250")
                    .unwrap();
                client.ask(b"DATA\r\n", "354").unwrap();
            }
            client.0.into_inner()
        })
        .collect()
}

/// Sends an octet a second on each.
fn trickle(mut crowd: Vec<TcpStream>, stop: &AtomicBool, done: &AtomicUsize) {
    let words: [&[u8]; 2] = [b"All work and no play\r\n", b"NOOP\r\n"];
    let mut next = Instant::now();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        for (number, stream) in crowd
            .iter_mut()
            .enumerate()
            .skip(turn % TICKS)
            .step_by(TICKS)
        {
            let words = words[number % 2];
            let octet = words[turn / TICKS % words.len()];
            stream.write_all(&[octet]).unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        }
        next += TICK;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// A connection that said EHLO.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // Small, since there are many.
        let mut client = Self(BufReader::with_capacity(512, stream));
        client.ask(b"", "220")?;
        client.ask(b"EHLO client.example\r\n", "250")?;
        Ok(client)
    }

    fn ask(&mut self, words: &[u8], code: &str) -> io::Result<()> {
        self.0.get_mut().write_all(words)?;
        let mut line = String::new();
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            if !line.starts_with(code) {
                return Err(io::Error::other(format!("{code}: {line:?}")));
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

/// A server of its own, which goes with its mail in the end.
struct Server {
    child: Child,
    address: SocketAddr,
    root: PathBuf,
}

impl Server {
    fn start(binary: &Path) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        // Not where it may be memory: a sync has to mean something.
        let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let root = base.join(format!("strangers-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let users: String = (0..100)
            .map(|user| format!("user{user},password\n"))
            .collect();
        let file = root.join("logincred.txt");
        std::fs::write(&file, users).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        // One whose password is hashed: that is what a login costs.
        let mut add = Command::new(binary)
            .args(["users", "add", "victim", "--password-stdin", "--root"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        add.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        assert!(add.wait().unwrap().success(), "users add");
        let mut child = Command::new(binary)
            .args(["serve", "--port", "0", "--root"])
            .arg(&root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        Self {
            child,
            address,
            root,
        }
    }

    fn resident_kib(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.root));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &mut [f64]) -> String {
    let median = median(values);
    let (first, last) = (values[0], values[values.len() - 1]);
    format!("{median:.2} ({first:.2} to {last:.2})")
}
