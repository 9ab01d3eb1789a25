//! A mail server that plays a script, to meet the client with peers that are odd, old or broken.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::sandbox::PATIENCE;

/// Replies by the beginning of a command; the first rule that fits wins.
#[derive(Clone)]
pub(crate) struct Script {
    greeting: String,
    rules: Vec<(String, String)>,
    login: Vec<String>,
    holds_mail_reply: bool,
}

/// As a reply: say nothing and close.
pub(crate) const HANG_UP: &str = "\0hang up";

impl Script {
    /// A well-behaved server with `SIZE` and `8BITMIME`.
    pub(crate) fn new() -> Self {
        let rules = [
            (
                "EHLO",
                "250-fake.example greets you\r\n250-8BITMIME\r\n250 SIZE 1000000",
            ),
            ("HELO", "250 fake.example"),
            ("MAIL", "250 2.1.0 Ok"),
            ("RCPT", "250 2.1.5 Ok"),
            ("DATA", "354 go on"),
            (".", "250 2.0.0 Ok: queued as 1"),
            ("RSET", "250 2.0.0 Ok"),
            ("QUIT", "221 2.0.0 bye"),
            ("", "500 5.5.2 what?"),
        ];
        Self {
            greeting: "220 fake.example ESMTP".to_owned(),
            rules: rules
                .map(|(verb, reply)| (verb.to_owned(), reply.to_owned()))
                .to_vec(),
            login: Vec::new(),
            holds_mail_reply: false,
        }
    }

    /// Greets so.
    pub(crate) fn greeting(mut self, greeting: &str) -> Self {
        greeting.clone_into(&mut self.greeting);
        self
    }

    /// Answers commands that begin so, in any case, with this; `.` is the end of the data.
    pub(crate) fn on(mut self, verb: &str, reply: &str) -> Self {
        self.rules.insert(0, (verb.to_owned(), reply.to_owned()));
        self
    }

    /// Offers these EHLO keywords and no others.
    pub(crate) fn offers(self, keywords: &[&str]) -> Self {
        let mut reply = "250-fake.example greets you".to_owned();
        for keyword in keywords {
            reply.push_str("\r\n250-");
            reply.push_str(keyword);
        }
        reply.push_str("\r\n250 HELP");
        self.on("EHLO", &reply)
    }

    /// Answers AUTH with the first of these, and each line that then comes with the next.
    pub(crate) fn login(mut self, replies: &[&str]) -> Self {
        self.login = replies.iter().map(|&reply| reply.to_owned()).collect();
        self
    }

    /// Keeps the reply to MAIL until RCPT has come: only a client that pipelines goes on.
    pub(crate) fn holds_mail_reply(mut self) -> Self {
        self.holds_mail_reply = true;
        self
    }

    /// Starts on a free loopback port.
    pub(crate) fn start(self) -> Fake {
        self.start_on("127.0.0.1:0")
    }

    /// Starts on this address.
    pub(crate) fn start_on(self, address: &str) -> Fake {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (script, sender) = (self.clone(), sender.clone());
                thread::spawn(move || script.play(&stream, &sender));
            }
        });
        Fake { address, sessions }
    }

    fn reply_to(&self, command: &str) -> &str {
        let begins = |verb: &str| {
            command
                .get(..verb.len())
                .is_some_and(|c| verb.eq_ignore_ascii_case(c))
        };
        let rule = self.rules.iter().find(|(verb, _)| begins(verb));
        rule.map_or("500 5.5.2 what?", |(_, reply)| reply)
    }

    /// One session; what the client sent is handed over when it is done.
    fn play(&self, stream: &TcpStream, done: &Sender<Session>) {
        let mut session = Session::default();
        self.converse(stream, &mut session);
        // Waits for the client to go first, so that no reset eats a reply on its way.
        stream.shutdown(std::net::Shutdown::Write).ok();
        stream.set_read_timeout(Some(PATIENCE)).ok();
        let mut rest = Vec::new();
        let mut reader = stream;
        reader.read_to_end(&mut rest).ok();
        session.after_end = rest;
        done.send(session).ok();
    }

    fn converse(&self, stream: &TcpStream, session: &mut Session) {
        stream.set_read_timeout(Some(PATIENCE)).ok();
        let mut input = BufReader::new(stream);
        let mut held = String::new();
        let mut login = 0;
        if !say(stream, &self.greeting) {
            return;
        }
        loop {
            let mut line = Vec::new();
            if !input
                .read_until(b'\n', &mut line)
                .is_ok_and(|octets| octets > 0)
            {
                return;
            }
            let command = String::from_utf8_lossy(&line)
                .trim_end_matches("\r\n")
                .to_owned();
            session.pipelined |= !input.buffer().is_empty();
            session.bare_lf |= !line.ends_with(b"\r\n");
            session.commands.push(command.clone());
            let is_login = login > 0 || command.to_ascii_uppercase().starts_with("AUTH");
            if is_login && !self.login.is_empty() {
                let reply = &self.login[login.min(self.login.len() - 1)];
                login = if reply.starts_with("334") {
                    login + 1
                } else {
                    0
                };
                if !say(stream, reply) {
                    return;
                }
                continue;
            }
            let reply = self.reply_to(&command);
            if self.holds_mail_reply && command.to_ascii_uppercase().starts_with("MAIL") {
                held = format!("{reply}\r\n");
                continue;
            }
            if !say(stream, &format!("{}{reply}", std::mem::take(&mut held))) {
                return;
            }
            if command.to_ascii_uppercase().starts_with("QUIT") {
                return;
            }
            if command.eq_ignore_ascii_case("DATA") && reply.starts_with("354") {
                let Some(data) = read_data(&mut input) else {
                    return;
                };
                session.data.push(data);
                if !say(stream, self.reply_to(".")) {
                    return;
                }
            }
        }
    }
}

/// Writes a reply; false when the session is over.
fn say(mut stream: &TcpStream, reply: &str) -> bool {
    reply != HANG_UP && stream.write_all(format!("{reply}\r\n").as_bytes()).is_ok()
}

/// Everything up to the line with only a full stop, as it was on the wire.
fn read_data(input: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let start = data.len();
        let octets = input.read_until(b'\n', &mut data).ok()?;
        if octets == 0 {
            return None;
        }
        if &data[start..] == b".\r\n" {
            data.truncate(start);
            return Some(data);
        }
    }
}

/// What a client did in one connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Its command lines, without CRLF; SASL responses are among them.
    pub(crate) commands: Vec<String>,
    /// The content of each DATA, still stuffed, with CRLF.
    pub(crate) data: Vec<Vec<u8>>,
    /// Whether more had come already when a command was read.
    pub(crate) pipelined: bool,
    /// Whether a line ended without CR.
    pub(crate) bare_lf: bool,
    /// What came after the server was done.
    pub(crate) after_end: Vec<u8>,
}

impl Session {
    /// The first command that begins so.
    pub(crate) fn command(&self, verb: &str) -> Option<&str> {
        let begins = |line: &str| {
            line.get(..verb.len())
                .is_some_and(|v| verb.eq_ignore_ascii_case(v))
        };
        self.commands
            .iter()
            .map(String::as_str)
            .find(|line| begins(line))
    }

    /// The only message, as text.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        assert_eq!(self.data.len(), 1, "not one message: {self:#?}");
        String::from_utf8(self.data[0].clone()).unwrap()
    }
}

/// A running script.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    sessions: Receiver<Session>,
}

impl Fake {
    /// The next finished session.
    #[track_caller]
    pub(crate) fn session(&self) -> Session {
        self.sessions
            .recv_timeout(PATIENCE)
            .expect("a client came and went")
    }
}

#[test]
fn script_is_played_and_what_was_sent_is_kept() {
    let script = Script::new()
        .login(&["334 ", "235 ok"])
        .on("rcpt to:<x", "550 no");
    let fake = script.start();
    let mut smtp = crate::smtp::Smtp::connect(fake.address);
    smtp.expect("220 ");
    smtp.ask("ehlo me", "250 ");
    smtp.ask("AUTH PLAIN", "334 ");
    smtp.ask("QUIT", "235 ok");
    smtp.envelope("a@b", &["c@d"]);
    smtp.ask("RCPT TO:<x@y>", "550 no");
    smtp.data("..hi\r\n").expect("250 2.0.0");
    smtp.ask("QUIT", "221");
    smtp.expect_end();
    drop(smtp);
    let session = fake.session();
    assert_eq!(session.message(), "..hi\r\n");
    assert_eq!(session.commands.len(), 8, "{session:#?}");
    assert_eq!(session.command("mail"), Some("MAIL FROM:<a@b>"));
    assert!(!session.pipelined && !session.bare_lf);
}

#[test]
fn script_can_hold_a_reply_and_hang_up() {
    let fake = Script::new()
        .holds_mail_reply()
        .on("RCPT", "250 2.1.5 b")
        .on("DATA", HANG_UP)
        .start();
    let mut smtp = crate::smtp::Smtp::connect(fake.address);
    smtp.expect("220 ");
    smtp.raw("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    smtp.expect("250 2.1.0");
    smtp.expect("250 2.1.5 b");
    smtp.line("DATA");
    smtp.expect_end();
    drop(smtp);
    assert!(fake.session().data.is_empty());
}
