//! What a message costs the engines, without sockets, threads or a disk: `cargo bench --bench engine`.
//!
//! Dialogs go through the sessions in memory, with an owner that answers at once. The dot reader and
//! writer are shown in octets a second, beside `memcpy` and `memchr` of the same octets. What is
//! allocated is counted too; `cargo bench --bench engine -- dot` runs what has `dot` in its name.
//!
//! Nanoseconds differ from one machine and moment to the next; instructions hardly do. `--times N
//! NAME` does one thing so often and nothing else, and is run twice, so that what the start takes is
//! in both numbers (Debian package `valgrind`):
//!
//! ```console
//! $ engine=$(cargo bench --bench engine --no-run 2>&1 | sed -n 's/.*(\(.*\))/\1/p')
//! $ valgrind --tool=callgrind --callgrind-out-file=/dev/null $engine --times 1000 smtp-message
//! $ valgrind --tool=callgrind --callgrind-out-file=/dev/null $engine --times 2000 smtp-message
//! ```
//!
//! So counted, on x86-64 with AVX2: `smtp-dialog` 49,700 instructions, `smtp-message` 24,000,
//! `smtp-pipelined` 22,600, `pop3-dialog` 76,100, `record` 19,100, `draft` 19,900; `dot-decode` 2.5
//! and `dot-encode` 2.4 an octet. Twice the same number comes out, to one in a thousand.

#![expect(clippy::print_stdout, reason = "what a benchmark is for")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]

use std::hint::black_box;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use minismtp::address::{Address, ReversePath};
use minismtp::mailbox::format::Summary;
use minismtp::message::draft::{Draft, DraftReader, Progress};
use minismtp::message::trace::Trace;
use minismtp::user::UserName;
use minismtp::wire::dot::{Decoder, Encoder};
use minismtp::wire::line::LineEnd;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What the server reads at once.
const READ_OCTETS: usize = 64 * KIB;
const LINE: &str = "All work and no play makes Jack a dull boy, says the proverb.";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, times, name] = &arguments[..]
        && flag == "--times"
    {
        return repeat(name, times.parse().unwrap());
    }
    divan::main();
}

/// Does one thing so often.
fn repeat(name: &str, times: usize) {
    let mut work: Box<dyn FnMut()> = match name {
        "smtp-dialog" => {
            let writes = smtp::dialog_writes();
            Box::new(move || smtp::play(&mut smtp::session(), &writes))
        }
        "smtp-message" => {
            let mut session = smtp::session();
            smtp::play(&mut session, &[b"EHLO client.example\r\n".to_vec()]);
            let writes = smtp::message_writes();
            Box::new(move || smtp::play(&mut session, &writes))
        }
        "smtp-pipelined" => {
            let mut session = smtp::session();
            smtp::play(&mut session, &[b"EHLO client.example\r\n".to_vec()]);
            let writes = smtp::pipelined_writes();
            Box::new(move || smtp::play(&mut session, &writes))
        }
        "pop3-dialog" => {
            let (writes, owner) = (pop3::writes(), pop3::Owner::new());
            Box::new(move || pop3::play(&writes, &owner))
        }
        "dot-decode" => {
            let (octets, mut text) = (dot::stuffed(&dot::ordinary()), Vec::with_capacity(MIB));
            Box::new(move || dot::decode(&octets, &mut text))
        }
        "dot-encode" => {
            let (text, mut out) = (dot::ordinary(), Vec::with_capacity(2 * MIB));
            Box::new(move || dot::encode(&text, &mut out))
        }
        "record" => {
            let (text, mut out) = (message_text(KIB), Vec::with_capacity(2 * KIB));
            Box::new(move || record(&text, &mut out))
        }
        "draft" => {
            let mail = draft_text();
            Box::new(move || drop(black_box(draft(&mail))))
        }
        _ => panic!("nothing is called {name}"),
    };
    for _ in 0..times {
        work();
    }
    println!("{name}, {times} times");
}

/// A message of so many octets, LF line ends.
fn message_text(octets: usize) -> Vec<u8> {
    let mut text = b"From: s@localhost\nSubject: load\n\n".to_vec();
    while text.len() < octets {
        text.extend_from_slice(LINE.as_bytes());
        text.push(b'\n');
    }
    text
}

/// SMTP, the server's side.
mod smtp {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use minismtp::smtp::server::{Answer, Question, Session, Settings};
    use minismtp::wire::{Channel, Machine, Step};

    use super::{
        Bencher, BytesCount, KIB, MIB, READ_OCTETS, UserName, black_box, dot, message_text,
    };

    const EHLO: &[u8] = b"EHLO client.example\r\n";

    pub(super) fn session() -> Session {
        let settings = Settings {
            hostname: "mx.example".to_owned(),
            message_octets_max: 25 << 20,
            recipients_max: 1000,
            timeout: Duration::from_secs(300),
            login_required: false,
            has_tls: false,
        };
        Session::new(Arc::new(settings), Channel::Private, Instant::now())
    }

    /// What a client writes, piece by piece.
    pub(super) fn message_writes() -> Vec<Vec<u8>> {
        vec![
            b"MAIL FROM:<s@localhost>\r\n".to_vec(),
            b"RCPT TO:<user1@localhost>\r\n".to_vec(),
            b"DATA\r\n".to_vec(),
            dot::stuffed(&message_text(KIB)),
        ]
    }

    pub(super) fn dialog_writes() -> Vec<Vec<u8>> {
        let mut writes = vec![EHLO.to_vec()];
        writes.extend(message_writes());
        writes.push(b"QUIT\r\n".to_vec());
        writes
    }

    /// MAIL, RCPT and DATA in one write (RFC 2920).
    pub(super) fn pipelined_writes() -> Vec<Vec<u8>> {
        let mut writes = message_writes();
        let text = writes.pop().unwrap();
        vec![writes.concat(), text]
    }

    /// Plays what a client writes, and answers.
    pub(super) fn play(session: &mut Session, writes: &[Vec<u8>]) {
        let now = Instant::now();
        advance(session, now);
        for write in writes {
            for octets in write.chunks(READ_OCTETS) {
                session.receive(now, octets);
                advance(session, now);
            }
        }
    }

    fn advance(session: &mut Session, now: Instant) {
        loop {
            let step = session.step(now);
            while let Some(event) = session.event() {
                drop(black_box(event));
            }
            match step {
                Step::Send(octets) => {
                    assert!(
                        matches!(octets.first(), Some(b'2' | b'3')),
                        "{}",
                        String::from_utf8_lossy(&octets)
                    );
                    drop(black_box(octets));
                }
                Step::Ask(question) => session.answer(now, answer(&question)),
                Step::Wait(_) | Step::Close | Step::StartTls => return,
            }
        }
    }

    fn answer(question: &Question) -> Answer {
        match black_box(question) {
            Question::Recipient(_) => Answer::Recipient(UserName::new("user1").unwrap()),
            Question::Deliver(_) => Answer::Delivered("660ee04fada67.0".to_owned()),
            _ => Answer::Accept,
        }
    }

    /// A whole session with one message of 1 KiB, a write a command.
    #[divan::bench]
    fn dialog(bencher: Bencher<'_, '_>) {
        let writes = dialog_writes();
        bencher.bench_local(|| play(&mut session(), &writes));
    }

    /// One message more in a session that is there.
    #[divan::bench]
    fn message(bencher: Bencher<'_, '_>) {
        more(bencher, &message_writes());
    }

    #[divan::bench]
    fn message_pipelined(bencher: Bencher<'_, '_>) {
        more(bencher, &pipelined_writes());
    }

    #[divan::bench]
    fn message_of_1_mib(bencher: Bencher<'_, '_>) {
        let mut writes = message_writes();
        writes.pop();
        writes.push(dot::stuffed(&message_text(MIB)));
        more(bencher, &writes);
    }

    fn more(bencher: Bencher<'_, '_>, writes: &[Vec<u8>]) {
        let mut session = session();
        play(&mut session, &[EHLO.to_vec()]);
        let octets: usize = writes.iter().map(Vec::len).sum();
        bencher
            .counter(BytesCount::new(octets))
            .bench_local(move || play(&mut session, writes));
    }
}

/// The mailbox over POP3, the server's side.
mod pop3 {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use minismtp::pop3::server::{Answer, Question, Session, Settings};
    use minismtp::wire::{Channel, Machine, Step};

    use super::{Bencher, KIB, UserName, black_box, message_text};

    const MESSAGES: usize = 10;

    pub(super) struct Owner {
        text: Vec<u8>,
    }

    impl Owner {
        pub(super) fn new() -> Self {
            Self {
                text: message_text(KIB),
            }
        }

        fn answer(&self, question: &Question) -> Answer {
            match black_box(question) {
                Question::Login(_) => Answer::Opened {
                    user: UserName::new("user1").unwrap(),
                    octets: vec![1100; MESSAGES],
                },
                Question::UniqueIds(numbers) => {
                    let ids = numbers
                        .iter()
                        .map(|number| format!("660ee04fada67.{number}"));
                    Answer::UniqueIds(ids.collect())
                }
                Question::Read(_) => Answer::Text {
                    text: self.text.clone(),
                    is_last: true,
                },
                _ => Answer::Accept,
            }
        }
    }

    /// What a mail reader does that fetches one message of ten.
    pub(super) fn writes() -> Vec<&'static [u8]> {
        vec![
            b"USER user1\r\n",
            b"PASS secret\r\n",
            b"STAT\r\n",
            b"LIST\r\n",
            b"UIDL\r\n",
            b"RETR 1\r\n",
            b"DELE 1\r\n",
            b"QUIT\r\n",
        ]
    }

    pub(super) fn play(writes: &[&[u8]], owner: &Owner) {
        let settings = Settings {
            hostname: "mx.example".to_owned(),
            is_lab: false,
            has_tls: false,
            message_octets_max: 25 << 20,
            login_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(600),
        };
        let now = Instant::now();
        let mut session = Session::new(Arc::new(settings), Channel::Private, now);
        advance(&mut session, owner, now);
        for write in writes {
            session.receive(now, write);
            advance(&mut session, owner, now);
        }
    }

    fn advance(session: &mut Session, owner: &Owner, now: Instant) {
        loop {
            let step = session.step(now);
            while let Some(event) = session.event() {
                drop(black_box(event));
            }
            match step {
                Step::Send(octets) => {
                    assert!(!octets.starts_with(b"-ERR"), "refused");
                    drop(black_box(octets));
                }
                Step::Ask(question) => {
                    let answer = owner.answer(&question);
                    session.answer(now, answer);
                }
                Step::Wait(_) | Step::Close | Step::StartTls => return,
            }
        }
    }

    /// Login, STAT, LIST, UIDL, RETR, DELE and QUIT with ten messages of 1 KiB.
    #[divan::bench]
    fn dialog(bencher: Bencher<'_, '_>) {
        let (writes, owner) = (writes(), Owner::new());
        bencher.bench_local(|| play(&writes, &owner));
    }
}

/// The lone full stop, in octets on the wire a second; 1 MiB.
mod dot {
    use super::{
        Bencher, BytesCount, Decoder, Encoder, LINE, LineEnd, MIB, READ_OCTETS, black_box,
    };

    /// Lines of some 60 octets.
    pub(super) fn ordinary() -> Vec<u8> {
        lines(LINE)
    }

    /// The same with a full stop in front of each.
    fn dotted() -> Vec<u8> {
        lines(&format!(".{LINE}"))
    }

    /// Lines of 4 octets.
    fn short() -> Vec<u8> {
        lines("abcd")
    }

    fn lines(line: &str) -> Vec<u8> {
        let mut text = Vec::with_capacity(MIB);
        while text.len() + line.len() + 2 < MIB {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        text
    }

    /// As it is on the wire.
    pub(super) fn stuffed(text: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut encoder = Encoder::wire();
        encoder.encode(text, &mut wire);
        encoder.finish(&mut wire);
        wire
    }

    /// In pieces as the server reads them.
    pub(super) fn decode(octets: &[u8], text: &mut Vec<u8>) {
        text.clear();
        let mut decoder = Decoder::new(LineEnd::Crlf);
        for piece in octets.chunks(READ_OCTETS) {
            decoder.decode(piece, text);
        }
        assert!(decoder.is_finished() && !decoder.has_bare_line_end());
        black_box(text);
    }

    pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let mut encoder = Encoder::wire();
        encoder.encode(text, out);
        encoder.finish(out);
        black_box(out);
    }

    #[divan::bench(args = ["ordinary", "dotted", "short"])]
    fn reader(bencher: Bencher<'_, '_>, kind: &str) {
        let octets = stuffed(&text(kind));
        let mut text = Vec::with_capacity(octets.len());
        bencher
            .counter(BytesCount::new(octets.len()))
            .bench_local(|| decode(&octets, &mut text));
    }

    #[divan::bench(args = ["ordinary", "dotted", "short"])]
    fn writer(bencher: Bencher<'_, '_>, kind: &str) {
        let text = text(kind);
        let mut out = Vec::with_capacity(2 * text.len());
        bencher
            .counter(BytesCount::new(text.len()))
            .bench_local(|| encode(&text, &mut out));
    }

    fn text(kind: &str) -> Vec<u8> {
        match kind {
            "dotted" => dotted(),
            "short" => short(),
            _ => ordinary(),
        }
    }

    /// The bound: what the system's copy takes.
    #[divan::bench]
    fn memcpy(bencher: Bencher<'_, '_>) {
        let octets = stuffed(&ordinary());
        let mut copy = Vec::with_capacity(octets.len());
        bencher
            .counter(BytesCount::new(octets.len()))
            .bench_local(|| {
                copy.clear();
                copy.extend_from_slice(black_box(&octets));
                black_box(&mut copy);
            });
    }

    /// For an octet that is not there.
    #[divan::bench]
    fn memchr(bencher: Bencher<'_, '_>) {
        let octets = stuffed(&ordinary());
        bencher
            .counter(BytesCount::new(octets.len()))
            .bench_local(|| assert!(memchr::memchr(0, black_box(&octets)).is_none()));
    }

    /// For the end of each line.
    #[divan::bench]
    fn memchr_lines(bencher: Bencher<'_, '_>) {
        let octets = stuffed(&ordinary());
        bencher
            .counter(BytesCount::new(octets.len()))
            .bench_local(|| {
                let ends = memchr::memchr_iter(b'\n', black_box(&octets));
                black_box(ends.fold(0, |sum, at| sum ^ at))
            });
    }
}

/// What is stored of a message for one recipient: the four lines, the trace fields, the text.
fn record(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let reverse_path = ReversePath::Address(Address::parse("s@localhost").unwrap());
    let trace = Trace {
        client_name: "client.example",
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        hostname: "mx.example",
        protocol: "ESMTP",
        id: "660ee04fada67.0",
        recipient: Some("user1@localhost"),
        received: "Mon, 22 Mar 2021 14:05:00 +0000",
    };
    let summary = Summary::new(text, true, &reverse_path, "2021-03-22 : 14 : 05");
    out.extend_from_slice(summary.head("user1@localhost").lines.as_bytes());
    out.extend_from_slice(trace.fields(&reverse_path).as_bytes());
    let mut encoder = Encoder::file();
    encoder.encode(text, out);
    encoder.finish(out);
    black_box(out);
}

#[divan::bench]
fn record_of_1_kib(bencher: Bencher<'_, '_>) {
    let text = message_text(KIB);
    let mut out = Vec::with_capacity(2 * KIB);
    bencher.bench_local(|| record(&text, &mut out));
}

fn draft_text() -> Vec<u8> {
    let mut mail = b"From: stallings@localhost\nTo: andrew@localhost\nSubject: Lab\n".to_vec();
    while mail.len() < KIB {
        mail.extend_from_slice(LINE.as_bytes());
        mail.push(b'\n');
    }
    mail.extend_from_slice(b".\n");
    mail
}

fn draft(mail: &[u8]) -> Draft {
    let mut reader = DraftReader::default();
    for line in mail.split_inclusive(|&octet| octet == b'\n') {
        if reader.line(line) == Progress::Complete {
            break;
        }
    }
    reader.finish().unwrap()
}

/// A mail as a person types it, line by line: is it in the right format?
#[divan::bench]
fn draft_of_1_kib(bencher: Bencher<'_, '_>) {
    let mail = draft_text();
    bencher.bench_local(|| draft(&mail));
}
