//! Plays `tests/dialogs/{smtp,lmtp,pop3}/*.txt` to the built binary.
//!
//! Each is played three times, to a fresh server: lines sent whole, octet by octet, and all of a
//! connection's lines in one segment. Every time the replies must be as written, and the same.
//!
//! A dialog is made of these lines; blank ones and `# comments` on why count for nothing:
//!
//! | line             | meaning                                                              |
//! |------------------|----------------------------------------------------------------------|
//! | `serve: FLAGS`   | the server runs with these flags (before the first connection)       |
//! | `user: NAME PW`  | one more user beside the lab's three                                 |
//! | `mail: NAME TEXT`| this user has got a message from Stallings with this body            |
//! | `---`            | a new connection; the old one is closed                              |
//! | `--- ehlo`       | a new connection, greeting read and EHLO said                        |
//! | `--- login`      | a new connection, greeting read and Andrew's mailbox open (POP3)     |
//! | `C: TEXT`        | the client sends the text and CRLF                                   |
//! | `L: TEXT`        | the client sends the text and a bare LF                              |
//! | `R: TEXT`        | the client sends the text and nothing behind it                      |
//! | `S: GLOB`        | one line from the server; `*` is any text                            |
//! | `S+ GLOB`        | one reply from the server, each of its lines so (SMTP)               |
//! | `E:`             | the server closes                                                    |
//! | `N: NAME NUMBER` | this user's mailbox now holds so many messages; nothing that the     |
//! |                  | connection still says may change that                                |
//!
//! In client lines `{x*300}` stands for three hundred `x`, `{0d}` for the octet with that code.

use std::fs;

use crate::pop::Pop;
use crate::sandbox::{Sandbox, Server};
use crate::smtp::Smtp;

/// What is spoken, and the directory of its dialogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Lmtp,
    Pop3,
    Smtp,
}

impl Protocol {
    fn directory(self) -> String {
        let name = match self {
            Self::Lmtp => "lmtp",
            Self::Pop3 => "pop3",
            Self::Smtp => "smtp",
        };
        format!("{}/tests/dialogs/{name}", env!("CARGO_MANIFEST_DIR"))
    }
}

/// How the client's lines are cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    LineByLine,
    OctetByOctet,
    AllAtOnce,
}

/// One line of a dialog.
#[derive(Debug)]
enum Line {
    Connect { is_introduced: bool },
    Client(Vec<u8>),
    Server(String),
    WholeReply(String),
    End,
    Count { user: String, messages: usize },
}

/// A dialog as read.
#[derive(Debug, Default)]
struct Dialog {
    flags: Vec<String>,
    users: Vec<(String, String)>,
    mails: Vec<(String, Vec<u8>)>,
    lines: Vec<(usize, Line)>,
}

fn parse(text: &str) -> Dialog {
    let mut dialog = Dialog::default();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        let parsed = match tag {
            "" | "#" => continue,
            "serve:" => {
                dialog
                    .flags
                    .extend(rest.split_whitespace().map(str::to_owned));
                continue;
            }
            "user:" => {
                let (name, password) = rest.split_once(' ').unwrap();
                dialog.users.push((name.to_owned(), password.to_owned()));
                continue;
            }
            "mail:" => {
                let (name, text) = rest.split_once(' ').unwrap();
                dialog.mails.push((name.to_owned(), expand(text)));
                continue;
            }
            "---" => Line::Connect {
                is_introduced: matches!(rest, "ehlo" | "login"),
            },
            "C:" => Line::Client([expand(rest), b"\r\n".to_vec()].concat()),
            "L:" => Line::Client([expand(rest), b"\n".to_vec()].concat()),
            "R:" => Line::Client(expand(rest)),
            "S:" => Line::Server(rest.to_owned()),
            "S+" => Line::WholeReply(rest.to_owned()),
            "E:" => Line::End,
            "N:" => {
                let (user, messages) = rest.split_once(' ').unwrap();
                Line::Count {
                    user: user.to_owned(),
                    messages: messages.parse().unwrap(),
                }
            }
            _ => panic!("line {number} is no line of a dialog: {line:?}"),
        };
        dialog.lines.push((number, parsed));
    }
    dialog
}

/// Replaces `{x*300}` and `{0d}`; other braces stay.
fn expand(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.extend_from_slice(&rest.as_bytes()[..open]);
        let close = rest[open..].find('}').map(|close| open + close);
        let inside = close.map(|close| &rest[open + 1..close]);
        let octets = inside.and_then(|inside| match inside.split_once('*') {
            Some((text, times)) => times.parse().ok().map(|n| text.repeat(n).into_bytes()),
            None if inside.len() == 2 => u8::from_str_radix(inside, 16).ok().map(|o| vec![o]),
            None => None,
        });
        match (octets, close) {
            (Some(octets), Some(close)) => {
                out.extend_from_slice(&octets);
                rest = &rest[close + 1..];
            }
            _ => {
                out.push(b'{');
                rest = &rest[open + 1..];
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Whether a text fits a pattern in which `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(first) else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    (0..=text.len())
        .filter(|&at| text.is_char_boundary(at))
        .any(|at| fits(rest, &text[at..]))
}

/// The client's side of a connection.
enum Connection {
    Pop3(Pop),
    Smtp(Smtp),
}

impl Connection {
    fn raw(&mut self, octets: &[u8]) {
        match self {
            Self::Pop3(pop) => pop.raw(octets),
            Self::Smtp(smtp) => smtp.raw(octets),
        }
    }

    fn trickle(&mut self, octets: &[u8]) {
        for octet in octets {
            self.raw(&[*octet]);
        }
    }

    fn try_raw(&mut self, octets: &[u8]) {
        match self {
            Self::Pop3(pop) => pop.try_raw(octets),
            Self::Smtp(smtp) => smtp.try_raw(octets),
        }
    }

    /// The lines of the next reply; where only the command tells how many there are, one.
    fn reply(&mut self) -> Vec<String> {
        match self {
            Self::Pop3(pop) => vec![pop.read_line()],
            Self::Smtp(smtp) => smtp.reply().lines,
        }
    }

    fn rest(&mut self) -> String {
        match self {
            Self::Pop3(pop) => pop.rest(),
            Self::Smtp(smtp) => smtp.rest(),
        }
    }
}

/// A player in mid-dialog.
struct Player<'a> {
    protocol: Protocol,
    server: &'a Server,
    pace: Pace,
    connection: Option<Connection>,
    /// Lines of the last reply not yet compared.
    unread: Vec<String>,
    /// All that the server said over SMTP, ids of messages left out.
    heard: Vec<String>,
}

impl Player<'_> {
    fn connection(&mut self) -> &mut Connection {
        self.connection
            .as_mut()
            .expect("a dialog begins with `---`")
    }

    /// The next reply's lines, or what is left of the one being read.
    fn reply(&mut self) -> Vec<String> {
        if self.unread.is_empty() {
            self.unread = self.connection().reply();
            let comparable = match self.protocol {
                Protocol::Pop3 => &[],
                Protocol::Lmtp | Protocol::Smtp => self.unread.as_slice(),
            };
            for line in comparable {
                let line = line.split(" queued as ").next().unwrap();
                self.heard.push(line.to_owned());
            }
        }
        std::mem::take(&mut self.unread)
    }

    /// Plays one line; gives what is wrong.
    fn play(
        &mut self,
        line: &Line,
        later: &[(usize, Line)],
        sandbox: &Sandbox,
    ) -> Result<(), String> {
        match line {
            Line::Connect { is_introduced } => {
                self.connection = None;
                let server = self.server;
                self.connection = Some(match (self.protocol, is_introduced) {
                    (Protocol::Lmtp, is_introduced) => {
                        let mut lmtp = Smtp::connect(server.lmtp_address());
                        if *is_introduced {
                            lmtp.expect("220 ");
                            lmtp.ask("LHLO client.example", "250");
                        }
                        Connection::Smtp(lmtp)
                    }
                    (Protocol::Smtp, true) => Connection::Smtp(server.hello()),
                    (Protocol::Smtp, false) => Connection::Smtp(Smtp::connect(server.address())),
                    (Protocol::Pop3, true) => {
                        Connection::Pop3(server.maildrop("Andrew", "@dministr@tor"))
                    }
                    (Protocol::Pop3, false) => {
                        Connection::Pop3(Pop::connect(server.pop3_address()))
                    }
                });
                if self.pace == Pace::AllAtOnce {
                    let mut all = Vec::new();
                    for (_, line) in later {
                        match line {
                            Line::Connect { .. } => break,
                            Line::Client(octets) => all.extend_from_slice(octets),
                            _ => {}
                        }
                    }
                    self.connection().try_raw(&all);
                }
            }
            Line::Client(octets) => match self.pace {
                Pace::LineByLine => self.connection().raw(octets),
                Pace::OctetByOctet => self.connection().trickle(octets),
                Pace::AllAtOnce => {}
            },
            Line::Server(pattern) => {
                let mut lines = self.reply();
                let line = lines.remove(0);
                self.unread = lines;
                if !fits(pattern, &line) {
                    return Err(format!("got {line:?}"));
                }
            }
            Line::WholeReply(pattern) => {
                let lines = self.reply();
                if !lines
                    .iter()
                    .all(|line| fits(pattern, &line.replacen('-', " ", 1)))
                {
                    return Err(format!("got {lines:?}"));
                }
            }
            Line::End => {
                let rest = self.connection().rest();
                if !rest.is_empty() || !self.unread.is_empty() {
                    return Err(format!("got {:?} {rest:?}", self.unread));
                }
            }
            Line::Count { user, messages } => {
                let there = sandbox.records(user).len();
                if there != *messages {
                    return Err(format!("there are {there}"));
                }
            }
        }
        Ok(())
    }
}

/// Plays a dialog at a pace; gives all that the server said.
fn play(protocol: Protocol, name: &str, text: &str, pace: Pace) -> Vec<String> {
    let dialog = parse(text);
    let mut sandbox = Sandbox::lab();
    for (user, password) in &dialog.users {
        sandbox = sandbox.user(user, password);
    }
    let flags: Vec<_> = dialog.flags.iter().map(String::as_str).collect();
    let server = match protocol {
        Protocol::Lmtp => sandbox.serve_lmtp(&flags),
        Protocol::Pop3 => sandbox.serve_pop3(&flags),
        Protocol::Smtp => sandbox.serve(&flags),
    };
    for (user, text) in &dialog.mails {
        let to = format!("{user}@localhost");
        let head = format!("From: stallings@localhost\nTo: {to}\nSubject: dialog\n\n");
        server.deliver(
            "stallings@localhost",
            &[&to],
            [head.as_bytes(), text, b"\n"].concat(),
        );
    }
    let mut player = Player {
        protocol,
        server: &server,
        pace,
        connection: None,
        unread: Vec::new(),
        heard: Vec::new(),
    };
    let source: Vec<_> = text.lines().collect();
    for (at, (number, line)) in dialog.lines.iter().enumerate() {
        if let Err(wrong) = player.play(line, &dialog.lines[at + 1..], &sandbox) {
            let before = source[number.saturating_sub(6)..*number].join("\n  ");
            panic!("{name}.txt line {number}, {pace:?}: {wrong}\n  {before}");
        }
        let client_goes_on = !matches!(line, Line::Server(_) | Line::WholeReply(_));
        assert!(
            player.unread.is_empty() || !client_goes_on,
            "{name}.txt line {number}, {pace:?}: the reply has more lines: {:?}",
            player.unread
        );
    }
    player.heard
}

fn play_at_every_pace(protocol: Protocol, name: &str) {
    let text = fs::read_to_string(format!("{}/{name}.txt", protocol.directory())).unwrap();
    let lines = play(protocol, name, &text, Pace::LineByLine);
    for pace in [Pace::OctetByOctet, Pace::AllAtOnce] {
        assert_eq!(lines, play(protocol, name, &text, pace), "{name}: {pace:?}");
    }
}

macro_rules! dialogs {
    ($module:ident $protocol:ident: $($name:ident)*) => {
        mod $module {
            use super::{Protocol, is_played, play_at_every_pace};

            $(
                #[test]
                fn $name() {
                    play_at_every_pace(Protocol::$protocol, stringify!($name));
                }
            )*

            #[test]
            fn every_dialog_is_played() {
                is_played(Protocol::$protocol, &[$(stringify!($name)),*]);
            }
        }
    };
}

/// Fails unless these are all dialogs there are, and each begins with a connection.
fn is_played(protocol: Protocol, names: &[&str]) {
    let mut files: Vec<_> = fs::read_dir(protocol.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut played: Vec<_> = names.iter().map(|name| format!("{name}.txt")).collect();
    played.sort_unstable();
    assert_eq!(files, played);
    for file in files {
        let text = fs::read_to_string(format!("{}/{file}", protocol.directory())).unwrap();
        let dialog = parse(&text);
        assert!(matches!(dialog.lines[0].1, Line::Connect { .. }), "{file}");
    }
}

dialogs! {
    pop3 Pop3:
        commands_and_states
        lab
        lab_texts
        logins
    authorization
    capabilities
    deletions
    lab_passwords
    lab_send
    lab_users
    lf_session
    line_too_long
    lists
    other_protocols
    read_and_delete
    retrieval
    syntax
    unknown_users
}

dialogs! {
    lmtp Lmtp:
    chunks
    hello
    one_reply_for_each_recipient
    refused_for_each_recipient
}

dialogs! {
    smtp Smtp:
    address_literals_and_odd_addresses
    argument_where_none_belongs
    auth_bad_base64
    auth_cancelled
    auth_in_the_wrong_place
    auth_login
    auth_plain
    auth_refused
    auth_unknown_mechanism
    bdat
    bdat_goes_with_no_others
    bdat_line_ends
    bdat_out_of_place
    bdat_size_limit
    bdat_syntax
    commands_before_hello
    commands_in_every_case
    commands_not_implemented
    controls_in_commands
    data_without_recipients
    dots
    dsn_parameters
    ehlo_and_helo
    ehlo_arguments
    hello_in_a_transaction
    help_noop_vrfy
    lf_session
    line_too_long
    mail_parameters
    mail_parameters_after_helo
    nested_mail
    non_ascii_addresses
    null_sender
    other_protocols
    postmaster
    quit
    quoted_local_parts
    rcpt_parameters
    recipient_syntax
    reset
    sender_syntax
    size_limit
    source_routes
    tags_and_case
    two_messages
    unknown_recipients
    unknown_verbs
}

#[test]
fn stars_match_any_text() {
    for (pattern, text, expected) in [
        ("250 ok", "250 ok", true),
        ("250 ok", "250 okay", false),
        ("250*", "250 ok", true),
        ("2*0*k", "250 ok", true),
        ("2*0*x", "250 ok", false),
        ("*", "", true),
        ("a*b*", "ab", true),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern:?} {text:?}");
    }
}

#[test]
fn braces_expand() {
    assert_eq!(expand("a{x*3}b{0d}{a}{{"), b"axxxb\r{a}{{");
}
