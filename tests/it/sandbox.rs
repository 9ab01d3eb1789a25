//! A mail root of its own for each test, and the built binary run in it.
//!
//! Nothing here sleeps or guesses: a server is ready when it says `listening`, a program has
//! ended when its pipes are closed, and whatever takes longer than [`PATIENCE`] has failed.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::pop::Pop;
use crate::smtp::Smtp;

/// How long a test waits for something that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The lab's credentials file, to the letter.
pub(crate) const LAB: &str =
    "Stallings,network$ecurity\nFourouzan,d@t@comm\nAndrew,@dministr@tor\n";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory that holds a mail root and is removed in the end.
pub(crate) struct Sandbox {
    directory: PathBuf,
    root: PathBuf,
}

impl Sandbox {
    /// An empty mail root: no credentials file, no users.
    pub(crate) fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("minismtp-it-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let root = directory.join("root");
        fs::create_dir_all(&root).unwrap();
        Self { directory, root }
    }

    /// The lab's three users.
    pub(crate) fn lab() -> Self {
        let sandbox = Self::new();
        sandbox.write_users(LAB);
        sandbox
    }

    /// The credentials file, for its owner only.
    pub(crate) fn write_users(&self, text: &str) {
        let file = self.path("logincred.txt");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// One more user, with a plain password.
    pub(crate) fn user(self, name: &str, password: &str) -> Self {
        let mut file = self.read("logincred.txt");
        writeln!(file, "{name},{password}").unwrap();
        self.write_users(&file);
        self
    }

    /// The mail root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file in the mail root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file beside the mail root, that the program does not look at by itself.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The text of a file in the mail root; nothing if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.octets(name)).into_owned()
    }

    /// The octets of a file in the mail root; none if there is none.
    pub(crate) fn octets(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    /// A user's mailbox file as it is; nothing if there is none.
    pub(crate) fn mailbox(&self, user: &str) -> String {
        self.read(&format!("{user}/mymailbox.mail"))
    }

    /// A user's mailbox file with all times replaced.
    pub(crate) fn masked_mailbox(&self, user: &str) -> String {
        masked(&self.mailbox(user))
    }

    /// The records of a user's mailbox, un-stuffed.
    pub(crate) fn records(&self, user: &str) -> Vec<Record> {
        records(&self.octets(&format!("{user}/mymailbox.mail")))
    }

    /// The binary, in a neutral environment and in an empty directory beside the mail root.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minismtp"));
        let elsewhere = self.beside("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MINISMTP_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(&elsewhere)
            .env("HOME", self.beside("home"))
            .env("XDG_DATA_HOME", self.beside("data"))
            .env("MINISMTP_ROOT", &self.root)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("RUST_BACKTRACE")
            .env_remove("RUST_LOG");
        command
    }

    /// A copy of the binary outside root's home, for a user who may not look in there.
    pub(crate) fn copied_binary(&self) -> PathBuf {
        let copy = self.beside("minismtp");
        // Not by this program: a child that another test starts meanwhile would have the copy open
        // for writing for a moment, and it could not be run.
        let mut cp = Command::new("cp");
        run(cp.arg(env!("CARGO_BIN_EXE_minismtp")).arg(&copy), "").code(0);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    }

    /// Runs the binary on this mail root to its end.
    pub(crate) fn run(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        run(&mut self.command(arguments), stdin)
    }

    /// Sends a message as a script does, to a server given by address.
    pub(crate) fn send(
        &self,
        server: SocketAddr,
        arguments: &[&str],
        message: impl AsRef<[u8]>,
    ) -> Output {
        let mut command = self.command(&["send", "--server", &server.to_string()]);
        run(command.args(arguments), message)
    }

    /// Starts a server on a free port and waits until it accepts.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--port", "0"]);
        command.arg("--root").arg(&self.root).args(arguments);
        Server::start(command)
    }

    /// Starts a server under limits of the shell (`ulimit -f 4`), on a free port.
    pub(crate) fn serve_under(&self, limits: &str) -> Server {
        let serve = format!("{limits}; exec \"$@\"");
        let binary = env!("CARGO_BIN_EXE_minismtp");
        let mut shell = Command::new("sh");
        shell.args(["-c", &serve, "sh", binary, "serve", "--port", "0", "--root"]);
        shell
            .arg(&self.root)
            .current_dir("/")
            .env("HOME", self.beside("home"));
        Server::start(shell)
    }

    /// Locks the root against every change, as a program does that is stopped in the middle of one.
    pub(crate) fn lock(&self) -> fs::File {
        let lock = fs::File::create(self.path(".minismtp.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        lock
    }

    /// Starts a server with mailbox access, both on free ports, and waits until both accept.
    pub(crate) fn serve_pop3(&self, arguments: &[&str]) -> Server {
        let mut server = self.serve(&[&["--pop3-port", "0"], arguments].concat());
        server.next_listener();
        server
    }
}

impl Sandbox {
    /// Starts a server with LMTP, both on free ports, and waits until both accept.
    pub(crate) fn serve_lmtp(&self, arguments: &[&str]) -> Server {
        let mut server = self.serve(&[&["--lmtp-port", "0"], arguments].concat());
        server.next_listener();
        server
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// What a finished program left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Fails unless the program ended with this code.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "wrong exit code: {self:#?}");
        self
    }

    /// Fails unless this is all of stdout.
    #[track_caller]
    pub(crate) fn stdout(self, expected: &str) -> Self {
        assert_eq!(self.stdout, expected, "wrong stdout: {self:#?}");
        self
    }

    /// Fails unless stderr holds this.
    #[track_caller]
    pub(crate) fn stderr_has(self, expected: &str) -> Self {
        assert!(
            self.stderr.contains(expected),
            "no {expected:?} on stderr: {self:#?}"
        );
        self
    }

    /// Fails if anything is on stderr.
    #[track_caller]
    pub(crate) fn silent(self) -> Self {
        assert_eq!(self.stderr, "", "stderr is not empty: {self:#?}");
        self
    }
}

/// Runs a program to its end, or kills it when patience does.
pub(crate) fn run(command: &mut Command, stdin: impl AsRef<[u8]>) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let pipe = child.stdin.take().unwrap();
    let input = stdin.as_ref().to_vec();
    thread::spawn(move || feed(pipe, &input));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let ended = (
        stdout.recv_timeout(3 * PATIENCE),
        stderr.recv_timeout(PATIENCE),
    );
    let (Ok(stdout), Ok(stderr)) = ended else {
        child.kill().ok();
        child.wait().ok();
        let (stdout, stderr) = (stdout.recv(), stderr.recv());
        panic!("{command:?} does not end; stdout: {stdout:?} stderr: {stderr:?}");
    };
    Output {
        code: code(child.wait().unwrap()),
        stdout,
        stderr,
    }
}

/// Gives a program its input; one that ends without reading all of it is no error.
fn feed(mut pipe: ChildStdin, input: &[u8]) {
    pipe.write_all(input).ok();
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut octets = Vec::new();
        pipe.read_to_end(&mut octets).ok();
        sender
            .send(String::from_utf8_lossy(&octets).into_owned())
            .ok();
    });
    receiver
}

/// The exit code, or as a shell has it 128 and the signal's number.
fn code(status: std::process::ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A running server, killed in the end.
pub(crate) struct Server {
    child: Child,
    listeners: Vec<String>,
    lines: Mutex<Receiver<String>>,
    log: Arc<Mutex<String>>,
    log_ended: Mutex<Receiver<()>>,
}

/// What a stopped server left.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) code: i32,
    pub(crate) log: String,
}

impl Server {
    /// Starts a server and waits for its first `listening` line.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        let log = Arc::new(Mutex::new(String::new()));
        let (end, log_ended) = channel();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let shared = Arc::clone(&log);
        thread::spawn(move || {
            let mut line = Vec::new();
            while stderr
                .read_until(b'\n', &mut line)
                .is_ok_and(|octets| octets > 0)
            {
                shared
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            end.send(()).ok();
        });
        let (lines, log_ended) = (Mutex::new(lines), Mutex::new(log_ended));
        let mut server = Self {
            child,
            listeners: Vec::new(),
            lines,
            log,
            log_ended,
        };
        server.next_listener();
        server
    }

    /// Waits for the next `listening` line and gives it whole.
    #[track_caller]
    pub(crate) fn next_listener(&mut self) -> String {
        let line = self.next_line();
        assert!(
            line.starts_with("listening "),
            "unexpected on stdout: {line:?}"
        );
        self.listeners.push(line.clone());
        line
    }

    /// Waits for the next line on stdout.
    #[track_caller]
    pub(crate) fn next_line(&mut self) -> String {
        let Ok(line) = self.lines.get_mut().unwrap().recv_timeout(PATIENCE) else {
            self.child.kill().ok();
            let status = self.child.wait();
            self.log_ended
                .get_mut()
                .unwrap()
                .recv_timeout(PATIENCE)
                .ok();
            panic!(
                "the server does not say `listening` ({status:?}); its log:\n{}",
                self.log()
            );
        };
        line
    }

    /// Where it takes SMTP.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener("smtp")
    }

    /// Where it takes LMTP.
    #[track_caller]
    pub(crate) fn lmtp_address(&self) -> SocketAddr {
        self.listener("lmtp")
    }

    /// Where it gives access to mailboxes.
    #[track_caller]
    pub(crate) fn pop3_address(&self) -> SocketAddr {
        self.listener("pop3")
    }

    #[track_caller]
    pub(crate) fn listener(&self, protocol: &str) -> SocketAddr {
        let address = |line: &String| {
            let rest = line.strip_prefix("listening ")?.strip_prefix(protocol)?;
            rest.strip_prefix(' ')?.parse().ok()
        };
        let found = self.listeners.iter().find_map(address);
        found.unwrap_or_else(|| panic!("no {protocol} listener: {:?}", self.listeners))
    }

    /// A new connection for mailbox access, its greeting read.
    #[track_caller]
    pub(crate) fn pop3(&self) -> Pop {
        let mut pop = Pop::connect(self.pop3_address());
        pop.expect("+OK");
        pop
    }

    /// A new connection with a mailbox open.
    #[track_caller]
    pub(crate) fn maildrop(&self, user: &str, password: &str) -> Pop {
        let mut pop = self.pop3();
        pop.login(user, password);
        pop
    }

    /// A new connection, its greeting read.
    pub(crate) fn connect(&self) -> Smtp {
        let mut smtp = Smtp::connect(self.address());
        smtp.expect("220 ");
        smtp
    }

    /// The number of its process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// A new connection that has said EHLO.
    pub(crate) fn hello(&self) -> Smtp {
        let mut smtp = self.connect();
        smtp.ask("EHLO client.example", "250");
        smtp
    }

    /// Delivers one message on a connection of its own.
    #[track_caller]
    pub(crate) fn deliver(&self, from: &str, to: &[&str], content: impl AsRef<[u8]>) {
        let mut smtp = self.hello();
        smtp.deliver(from, to, content);
        smtp.ask("QUIT", "221 2.0.0");
        smtp.expect_end();
    }

    /// The most memory it ever had resident, in octets.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1024
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to stop and waits for that.
    pub(crate) fn terminate(self) -> Stopped {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Kills it as a crash does.
    pub(crate) fn kill(mut self) -> Stopped {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Stopped {
        if self
            .log_ended
            .get_mut()
            .unwrap()
            .recv_timeout(PATIENCE)
            .is_err()
        {
            panic!("the server does not stop; its log:\n{}", self.log());
        }
        let code = code(self.child.wait().unwrap());
        Stopped {
            code,
            log: self.log(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// One message of a mailbox file, read by the contract's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) received: String,
    /// Everything after the four lines, one full stop taken off each line that has one.
    pub(crate) content: Vec<u8>,
}

impl Record {
    /// Whether this is a full record.
    pub(crate) fn is_full(&self) -> bool {
        self.content.starts_with(b"Return-Path: ")
    }

    /// The content as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// A full record's trace: the `Return-Path` line, then the unfolded `Received` field.
    #[track_caller]
    pub(crate) fn trace(&self) -> (String, String) {
        let (trace, _) = self.split();
        let text = String::from_utf8(trace).unwrap();
        let (path, received) = text.split_once('\n').unwrap();
        (
            path.to_owned(),
            received.replace('\n', "").replace('\t', " "),
        )
    }

    /// A full record's message, as it came but with LF line ends.
    #[track_caller]
    pub(crate) fn message(&self) -> Vec<u8> {
        self.split().1
    }

    #[track_caller]
    fn split(&self) -> (Vec<u8>, Vec<u8>) {
        assert!(self.is_full(), "not a full record: {self:#?}");
        let mut lines = self
            .content
            .split_inclusive(|&octet| octet == b'\n')
            .peekable();
        let mut trace = lines.next().unwrap().to_vec();
        let received = lines.next().unwrap_or_default();
        assert!(
            received.starts_with(b"Received: "),
            "no trace field: {}",
            self.text()
        );
        trace.extend_from_slice(received);
        while let Some(folded) = lines.next_if(|line| line.starts_with(b"\t")) {
            trace.extend_from_slice(folded);
        }
        (trace, lines.collect::<Vec<_>>().concat())
    }
}

/// Reads a mailbox file, strictly.
#[track_caller]
pub(crate) fn records(file: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let mut content = Vec::new();
        loop {
            let Some(end) = rest.iter().position(|&octet| octet == b'\n') else {
                panic!("a record has no end: {}", String::from_utf8_lossy(file));
            };
            let (line, next) = rest.split_at(end + 1);
            rest = next;
            if line == b".\n" {
                break;
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        records.push(record(content));
    }
    records
}

#[track_caller]
fn record(mut octets: Vec<u8>) -> Record {
    let mut field = |name: &str| {
        let end = octets.iter().position(|&octet| octet == b'\n');
        let line: Vec<u8> = octets
            .drain(..=end.expect("a record has four lines"))
            .collect();
        let line = String::from_utf8(line).unwrap();
        let value = line
            .strip_prefix(name)
            .unwrap_or_else(|| panic!("no {name:?} in {line:?}"));
        value.trim_end_matches('\n').to_owned()
    };
    let (from, to) = (field("From: "), field("To: "));
    let (subject, received) = (field("Subject: "), field("Received: "));
    assert!(is_arrival(&received), "not a time of arrival: {received:?}");
    Record {
        from,
        to,
        subject,
        received,
        content: octets,
    }
}

/// Whether this is `YYYY-MM-DD : HH : MM`.
pub(crate) fn is_arrival(time: &str) -> bool {
    shaped(time, "0000-00-00 : 00 : 00")
}

/// Whether a text has this shape: `0` stands for a digit, `A` for a letter.
fn shaped(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.chars().zip(shape.chars()).all(|(c, s)| match s {
            '0' => c.is_ascii_digit(),
            'A' => c.is_ascii_alphabetic(),
            '+' => c == '+' || c == '-',
            _ => c == s,
        })
}

/// RFC 5322 dates, by their shape.
const DATES: [&str; 2] = [
    "AAA, 00 AAA 0000 00:00:00 +0000",
    "AAA, 0 AAA 0000 00:00:00 +0000",
];

/// Replaces the times of arrival by `<time>` and RFC 5322 dates by `<date>`.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let arrival = line
            .strip_prefix("Received: ")
            .filter(|t| is_arrival(t.trim_end()));
        if arrival.is_some() {
            out.push_str("Received: <time>\n");
        } else {
            out.push_str(&replaced(line, &DATES, "<date>"));
        }
    }
    out
}

/// Replaces what has one of these shapes by a word.
pub(crate) fn replaced(text: &str, shapes: &[&str], word: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found = shapes.iter().find(|shape| {
            rest.get(..shape.len())
                .is_some_and(|text| shaped(text, shape))
        });
        if let Some(shape) = found {
            out.push_str(word);
            rest = &rest[shape.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Waits until something is so, looking again and again; for what no pipe tells.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::yield_now();
    }
}

#[test]
fn times_are_masked() {
    let text = "Received: 2021-03-22 : 14 : 05\nDate: Mon, 22 Mar 2021 14:05:06 +0530 é\n";
    assert_eq!(masked(text), "Received: <time>\nDate: <date> é\n");
    assert_eq!(masked("Received: today\n"), "Received: today\n");
}

#[test]
fn records_are_read_as_the_contract_has_them() {
    let file = b"From: a@b\nTo: c@d\nSubject: \nReceived: 2021-03-22 : 14 : 05\n..\n..x\n.\n";
    let read = records(file);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].content, b".\n.x\n");
    assert!(!read[0].is_full());
}
