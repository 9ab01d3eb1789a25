//! How fast mail is taken, durably, over real connections: `cargo bench`.
//!
//! Starts the server on a fresh root, lets clients send 1 KiB messages as fast as they get their
//! 250, and prints medians. With `smtp-sink` (Debian package `postfix`) on the machine, the same load
//! goes to it in turn: it parses SMTP and stores nothing, so it shows what the protocol and the
//! clients alone cost. `PEER=host:port=name` adds another server that is running already.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]
#![expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const USERS: usize = 100;

fn main() {
    let server = Server::start();
    println!("minismtp, {ROUNDS} runs each, median (minimum to maximum)\n");
    start_times();
    memory(&server);

    let sink = Sink::start();
    let mut peers = vec![("minismtp".to_owned(), server.address)];
    peers.extend(
        sink.as_ref()
            .map(|sink| ("smtp-sink (stores nothing)".to_owned(), sink.address)),
    );
    if let Ok(peer) = std::env::var("PEER") {
        let (address, name) = peer.split_once('=').expect("PEER is host:port=name");
        peers.push((
            name.to_owned(),
            address.parse().expect("PEER is host:port=name"),
        ));
    }
    for (what, connections, messages, octets, mailboxes, pipelined) in [
        ("1 connection", 1, 2_000, 1024, USERS, false),
        ("50 connections, 1 mailbox", 50, 10_000, 1024, 1, false),
        (
            "50 connections, 100 mailboxes",
            50,
            10_000,
            1024,
            USERS,
            false,
        ),
        (
            "50 connections, 100 mailboxes, pipelined",
            50,
            10_000,
            1024,
            USERS,
            true,
        ),
        (
            "50 connections, 100 KiB messages",
            50,
            1_000,
            100 * 1024,
            USERS,
            false,
        ),
    ] {
        let load = Load {
            connections,
            messages,
            octets,
            mailboxes,
            pipelined,
        };
        let mut rates = vec![Vec::new(); peers.len()];
        // In turn, so that a slow moment of the machine is everybody's.
        for _ in 0..ROUNDS {
            for (rates, (_, address)) in rates.iter_mut().zip(&peers) {
                rates.push(load.run(*address));
            }
        }
        println!("{what}, messages a second");
        for (rates, (name, _)) in rates.iter_mut().zip(&peers) {
            println!("    {name:28} {}", spread(rates, 0));
        }
    }
}

/// From `exec` to the first `220`.
fn start_times() {
    let mut times: Vec<f64> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            let server = Server::start();
            let mut line = String::new();
            let stream = TcpStream::connect(server.address).unwrap();
            BufReader::new(stream).read_line(&mut line).unwrap();
            assert!(line.starts_with("220"), "{line}");
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    println!(
        "exec to the first 220, milliseconds\n    {:28} {}",
        "minismtp",
        spread(&mut times, 1)
    );
}

fn memory(server: &Server) {
    let rest = server.resident_kib();
    let held: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let stream = TcpStream::connect(server.address).unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(b"EHLO c.example\r\n").unwrap();
            let mut reader = BufReader::new(&stream);
            while !line.starts_with("250 ") {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            stream
        })
        .collect();
    let full = server.resident_kib();
    println!("memory at rest, KiB\n    {:28} {rest}", "minismtp");
    let each = (full - rest) as f64 / held.len() as f64;
    println!(
        "memory for each of 1,000 idle connections, KiB\n    {:28} {each:.1}",
        "minismtp"
    );
}

fn spread(values: &mut [f64], digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values[0], values[values.len() - 1]);
    let median = values[values.len() / 2];
    format!("{median:.digits$} ({first:.digits$} to {last:.digits$})")
}

struct Load {
    connections: usize,
    messages: usize,
    octets: usize,
    mailboxes: usize,
    pipelined: bool,
}

impl Load {
    /// Sends everything; gives messages a second.
    fn run(&self, address: SocketAddr) -> f64 {
        let left = Arc::new(AtomicUsize::new(self.messages));
        let begin = Instant::now();
        let clients: Vec<_> = (0..self.connections)
            .map(|number| {
                let left = Arc::clone(&left);
                let (octets, mailboxes, pipelined) = (self.octets, self.mailboxes, self.pipelined);
                std::thread::spawn(move || {
                    let mut client = Client::connect(address);
                    let mut turn = number;
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                    {
                        client.send(turn % mailboxes, octets, pipelined);
                        turn += 1;
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        self.messages as f64 / begin.elapsed().as_secs_f64()
    }
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    line: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut client = Self {
            stream,
            reader,
            line: String::new(),
        };
        client.expect("220");
        client.command("EHLO bench.example\r\n", "250");
        client
    }

    fn send(&mut self, mailbox: usize, octets: usize, pipelined: bool) {
        let mail = "MAIL FROM:<s@localhost>\r\n";
        let rcpt = format!("RCPT TO:<user{mailbox}@localhost>\r\n");
        if pipelined {
            self.stream
                .write_all(format!("{mail}{rcpt}DATA\r\n").as_bytes())
                .unwrap();
            self.expect("250");
            self.expect("250");
            self.expect("354");
        } else {
            self.command(mail, "250");
            self.command(&rcpt, "250");
            self.command("DATA\r\n", "354");
        }
        let line = "All work and no play makes Jack a dull boy, says the proverb.\r\n";
        let body = line.repeat(octets / line.len());
        let text = format!("From: s@localhost\r\nSubject: bench\r\n\r\n{body}.\r\n");
        self.command(&text, "250");
    }

    fn command(&mut self, text: &str, code: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.expect(code);
    }

    fn expect(&mut self, code: &str) {
        loop {
            self.line.clear();
            self.reader.read_line(&mut self.line).unwrap();
            assert!(self.line.starts_with(code), "{code}: {:?}", self.line);
            if self.line.as_bytes().get(3) == Some(&b' ') {
                return;
            }
        }
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
    root: PathBuf,
}

impl Server {
    fn start() -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("minismtp-bench-{}-{number}", std::process::id());
        // Not in a directory that may be memory: a sync has to mean something.
        let base = std::env::var_os("BENCH_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let root = base.join(name);
        std::fs::create_dir_all(&root).unwrap();
        let users: String = (0..USERS)
            .map(|user| format!("user{user},password\n"))
            .collect();
        std::fs::write(root.join("logincred.txt"), users).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_minismtp"))
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
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.root));
    }
}

/// `smtp-sink` of Postfix.
struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    fn start() -> Option<Self> {
        let address: SocketAddr = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
            listener.local_addr().ok()?
        };
        let program = ["/usr/sbin/smtp-sink", "/usr/libexec/postfix/smtp-sink"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())?;
        let child = Command::new(program)
            .args(["-u", "nobody", &address.to_string(), "1024"])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let sink = Self { child, address };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            let Ok(mut stream) = TcpStream::connect(address) else {
                continue;
            };
            if stream.read(&mut [0; 4]).is_ok_and(|got| got > 0) {
                return Some(sink);
            }
        }
        None
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
