//! How fast mail is taken, durably, over real connections: `cargo bench --bench throughput`.
//!
//! The server, the limit (see [`limit`]), and whatever else there is to compare with get the same
//! loads in turn, so that a slow moment of the machine is everybody's; medians are printed. With
//! Debian's package `postfix` on the machine that is `smtp-sink`, which parses SMTP and stores
//! nothing. `--peers` adds Postfix and OpenSMTPD as `benches/peers.sh` starts them (root, Debian);
//! `--peer NAME=HOST:PORT` adds a server that is running. Before a load is measured, each server gets
//! a tenth of it to warm up. A run ends when all mail is in the mailboxes.
//!
//! `cargo bench --bench throughput -- --only pipelined --rounds 3` plays one load. `--one-cpu` has all run
//! on one processor: where client and server take turns, most of the time goes by while one of them is
//! woken, and that depends on which processors the system has put them on.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]
#![expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::thread::{CpuSet, sched_setaffinity};

use load::{Load, Report};

mod limit;
mod load;

const USERS: usize = 100;

#[derive(Parser)]
struct Args {
    /// Play only loads whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// How often each load is played
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Compare with Postfix and OpenSMTPD too
    #[arg(long)]
    peers: bool,
    /// Compare with this server, `NAME=HOST:PORT`
    #[arg(long)]
    peer: Vec<String>,
    /// Run everything on one processor
    #[arg(long)]
    one_cpu: bool,
    /// Another build of the server to compare with
    #[arg(long)]
    binary: Vec<PathBuf>,
    /// Be the limit, in this directory
    #[arg(long, hide = true)]
    limit: Option<PathBuf>,
    /// Be the limit in this way
    #[arg(long, hide = true, default_value = "journal")]
    way: limit::Way,
    /// What cargo says
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if let Some(directory) = &args.limit {
        limit::serve(args.way, directory, &mut std::io::stdout()).unwrap();
        return;
    }
    if args.one_cpu {
        let mut cpus = CpuSet::new();
        cpus.set(0);
        // Whoever is started from here on has this too.
        sched_setaffinity(None, &cpus).unwrap();
    }
    let mut peers = vec![Peer::minismtp(Path::new(env!("CARGO_BIN_EXE_minismtp")))];
    for binary in &args.binary {
        let mut peer = Peer::minismtp(binary);
        peer.name = binary.display().to_string();
        peers.push(peer);
    }
    peers.extend(LIMITS.map(|(name, way)| Peer::limit(name, way)));
    peers.extend(Peer::sink());
    if args.peers {
        peers.extend(Peer::installed("Postfix", "postfix"));
        peers.extend(Peer::installed("OpenSMTPD", "opensmtpd"));
    }
    for peer in &args.peer {
        let (name, address) = peer.split_once('=').expect("NAME=HOST:PORT");
        peers.push(Peer::new(name, address.parse().expect("NAME=HOST:PORT")));
    }
    println!("{} rounds each, median (minimum to maximum)", args.rounds);
    if args.only.is_none() {
        start_times();
    }
    for (what, load) in loads() {
        if args.only.as_ref().is_none_or(|only| what.contains(only)) {
            play(what, load, &peers, args.rounds);
        }
    }
}

fn loads() -> Vec<(&'static str, Load)> {
    let many = Load {
        connections: 50,
        messages: 30_000,
        octets: 1024,
        mailboxes: USERS,
        recipients: 1,
        is_pipelined: false,
        is_reconnecting: false,
    };
    let one = Load {
        connections: 1,
        messages: 4_000,
        ..many
    };
    vec![
        ("1 connection", one),
        (
            "50 connections, 1 mailbox",
            Load {
                mailboxes: 1,
                ..many
            },
        ),
        ("50 connections, 100 mailboxes", many),
        (
            "the same, pipelined",
            Load {
                is_pipelined: true,
                ..many
            },
        ),
        (
            "50 connections, 100 KiB messages",
            Load {
                messages: 3_000,
                octets: 100 * 1024,
                ..many
            },
        ),
        (
            "1 message to 100 mailboxes",
            Load {
                messages: 600,
                recipients: 100,
                ..one
            },
        ),
        (
            "a new connection for each message, 50 at once",
            Load {
                messages: 15_000,
                is_reconnecting: true,
                ..many
            },
        ),
    ]
}

fn play(what: &str, load: Load, peers: &[Peer], rounds: usize) {
    let takes = |peer: &&Peer| {
        let messages = peer.share(load) / 10;
        match peer.take(Load { messages, ..load }) {
            Ok(_) => true,
            // OpenSMTPD of some versions takes no commands that are sent ahead.
            Err(error) if peer.is_slow => {
                println!("\n{} is left out of the next load: {error}", peer.name);
                false
            }
            Err(error) => panic!("{}: {error}", peer.name),
        }
    };
    let peers: Vec<&Peer> = peers.iter().filter(takes).collect();
    let mut results: Vec<[Vec<f64>; 4]> = peers.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for (peer, [rates, medians, worst, cpu]) in peers.iter().zip(&mut results) {
            let messages = peer.share(load);
            let load = Load { messages, ..load };
            let taken = peer.take(load);
            let (report, seconds, used) =
                taken.unwrap_or_else(|error| panic!("{}: {error}", peer.name));
            rates.push(messages as f64 / seconds);
            medians.push(report.wait(0.5));
            worst.push(report.wait(0.99));
            cpu.push(used * 1e6 / messages as f64);
        }
    }
    println!("\n{what}");
    println!(
        "    {:24} {:>26}  {:>9}  {:>9}  {:>10}",
        "", "messages/s", "p50 ms", "p99 ms", "CPU us"
    );
    // What is in one file and overwritten there is in no mailbox: for small messages that comes later,
    // at little cost; large ones would have to be written a second time.
    let limits = &LIMITS[usize::from(load.octets >= LARGE_OCTETS)..];
    let mut limit: f64 = 0.0;
    for (peer, [rates, ..]) in peers.iter().zip(&mut results) {
        if limits.iter().any(|(name, _)| *name == peer.name) {
            limit = limit.max(median(rates));
        }
    }
    for (peer, [rates, medians, worst, cpu]) in peers.iter().zip(&mut results) {
        println!(
            "    {:24} {:>26}  {:>9.2}  {:>9.2}  {:>10.0}   {:.0} % of the limit",
            peer.name,
            spread(rates, 0),
            median(medians),
            median(worst),
            median(cpu),
            median(rates) / limit * 100.0,
        );
    }
}

/// From `exec` to the first `220`.
fn start_times() {
    let mut times: Vec<f64> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            let server = Peer::minismtp(Path::new(env!("CARGO_BIN_EXE_minismtp")));
            let mut line = String::new();
            let stream = TcpStream::connect(server.address).unwrap();
            BufReader::new(stream).read_line(&mut line).unwrap();
            assert!(line.starts_with("220"), "{line}");
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    println!("\nexec to the first 220: {} ms", spread(&mut times, 1));
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_minismtp")).unwrap();
    println!("binary: {:.1} MB", binary.len() as f64 / 1e6);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &mut [f64], digits: usize) -> String {
    let median = median(values);
    let (first, last) = (values[0], values[values.len() - 1]);
    format!("{median:.digits$} ({first:.digits$} to {last:.digits$})")
}

/// Messages of this size are held against the limit that writes them to a file each.
const LARGE_OCTETS: usize = 32 * 1024;
/// The faster one is the limit.
const LIMITS: [(&str, limit::Way); 2] = [
    ("the limit, one file", limit::Way::Journal),
    ("the limit, a file each", limit::Way::Files),
];
/// How long mail may be on its way.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that gets the load.
struct Peer {
    name: String,
    address: SocketAddr,
    is_slow: bool,
    _guard: Guard,
    /// The process whose and whose children's time counts.
    pid: Option<u32>,
    /// Messages that are on their way are in here.
    queues: Vec<PathBuf>,
}

/// Ends what was started.
#[derive(Default)]
struct Guard {
    child: Option<Child>,
    directory: Option<PathBuf>,
    /// What the script has to stop.
    word: Option<&'static str>,
}

impl Peer {
    fn new(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            is_slow: false,
            _guard: Guard::default(),
            pid: None,
            queues: Vec::new(),
        }
    }

    fn minismtp(binary: &Path) -> Self {
        let root = directory();
        let users: String = (0..USERS)
            .map(|user| format!("user{user},password\n"))
            .collect();
        std::fs::write(root.join("logincred.txt"), users).unwrap();
        let mut command = Command::new(binary);
        command.args(["serve", "--port", "0", "--root"]).arg(&root);
        Self::spawn("minismtp", &mut command, root)
    }

    fn limit(name: &str, way: limit::Way) -> Self {
        let directory = directory();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--limit").arg(&directory);
        if way == limit::Way::Files {
            command.args(["--way", "files"]);
        }
        Self::spawn(name, &mut command, directory)
    }

    fn spawn(name: &str, command: &mut Command, directory: PathBuf) -> Self {
        let mut child = command
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
            pid: Some(child.id()),
            _guard: Guard {
                child: Some(child),
                directory: Some(directory),
                word: None,
            },
            ..Self::new(name, address)
        }
    }

    /// `smtp-sink` of Postfix.
    fn sink() -> Option<Self> {
        let address = free_address();
        let program = ["/usr/sbin/smtp-sink", "/usr/libexec/postfix/smtp-sink"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let child = Command::new(program)
            .args(["-u", "nobody", &address.to_string(), "1024"])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let sink = Self {
            pid: Some(child.id()),
            _guard: Guard {
                child: Some(child),
                directory: None,
                word: None,
            },
            ..Self::new("smtp-sink, stores nothing", address)
        };
        sink.is_there().then_some(sink)
    }

    /// One that `peers.sh` starts; that prints the process and where messages wait.
    fn installed(name: &str, word: &'static str) -> Option<Self> {
        let address = free_address();
        let started = Command::new("bash")
            .args([PEERS_SCRIPT, "start", word, &address.port().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        if !started.status.success() {
            println!("{name} is left out: it does not start");
            return None;
        }
        let text = String::from_utf8(started.stdout).unwrap();
        let mut words = text.split_whitespace();
        let peer = Self {
            pid: words.next().map(|pid| pid.parse().unwrap()),
            queues: words.map(PathBuf::from).collect(),
            is_slow: true,
            _guard: Guard {
                child: None,
                directory: None,
                word: Some(word),
            },
            ..Self::new(name, address)
        };
        peer.is_there().then_some(peer)
    }

    fn is_there(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            let Ok(mut stream) = TcpStream::connect(self.address) else {
                continue;
            };
            if stream.read(&mut [0; 4]).is_ok_and(|got| got > 0) {
                return true;
            }
        }
        false
    }

    /// How many messages of the load: who takes a few hundred a second gets a few hundred.
    fn share(&self, load: Load) -> usize {
        load.messages / if self.is_slow { 15 } else { 1 }
    }

    /// Gets the load; also gives how many seconds it took until all was in the mailboxes, and how
    /// many of a processor.
    fn take(&self, load: Load) -> std::io::Result<(Report, f64, f64)> {
        // What the one before left for the system to write is not written in this one's time.
        rustix::fs::sync();
        let before = self.processor_seconds();
        let begin = Instant::now();
        let report = load.run(self.address)?;
        let mut seconds = report.seconds;
        if !self.queues.is_empty() {
            let name = &self.name;
            while self.queues.iter().any(|queue| has_files(queue)) {
                assert!(begin.elapsed() < PATIENCE, "{name} keeps mail");
                std::thread::sleep(Duration::from_millis(2));
            }
            seconds = begin.elapsed().as_secs_f64();
        }
        Ok((report, seconds, self.processor_seconds() - before))
    }

    /// Its processes' time, those that have ended included.
    fn processor_seconds(&self) -> f64 {
        let Some(pid) = self.pid else { return 0.0 };
        let mut family = vec![pid];
        let mut ticks = 0;
        let processes = processes();
        let mut at = 0;
        while at < family.len() {
            let parent = family[at];
            let children = processes.iter().filter(|process| process.1 == parent);
            family.extend(children.map(|process| process.0));
            at += 1;
        }
        for (pid, _, own) in processes {
            if family.contains(&pid) {
                ticks += own;
            }
        }
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        if let Some(word) = self.word {
            let mut command = Command::new("bash");
            drop(command.args([PEERS_SCRIPT, "stop", word]).status());
        }
        if let Some(directory) = &self.directory {
            drop(std::fs::remove_dir_all(directory));
        }
    }
}

const PEERS_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers.sh");

/// Process, parent, and clock ticks of it and of its children that have ended.
fn processes() -> Vec<(u32, u32, u64)> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let fields: Vec<u64> = rest
            .split(' ')
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        let Some(Ok(pid)) = entry.file_name().to_str().map(str::parse) else {
            continue;
        };
        let parent = u32::try_from(fields[1]).unwrap();
        processes.push((pid, parent, fields[11..15].iter().sum()));
    }
    processes
}

fn has_files(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        !is_directory || has_files(&entry.path())
    })
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A new directory. Not where it may be memory: a sync has to mean something.
fn directory() -> PathBuf {
    static COUNTER: AtomicUsize = AtomicUsize::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = format!("minismtp-bench-{}-{number}", std::process::id());
    let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let directory = base.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
