//! Plays `tests/dialogs/{smtp,pop3}/*.txt` to the built binary.
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
//! | `---`            | a new connection; the old one is closed                              |
//! | `--- ehlo`       | a new connection, greeting read and EHLO said                        |
//! | `C: TEXT`        | the client sends the text and CRLF                                   |
//! | `L: TEXT`        | the client sends the text and a bare LF                              |
//! | `S: GLOB`        | one line from the server; `*` is any text                            |
//! | `S+ GLOB`        | one reply from the server, each of its lines so                      |
//! | `E:`             | the server closes                                                    |
//! | `N: NAME NUMBER` | this user's mailbox now holds so many messages                       |
//!
//! A dialog of POP3 is with the mailbox access port, where every line from the server is a reply.
//!
//! In client lines `{x*300}` stands for three hundred `x`, `{0d}` for the octet with that code.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::sandbox::{Sandbox, Server};
use crate::smtp::Smtp;

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
    Connect { ehlo: bool },
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
            "---" => Line::Connect {
                ehlo: rest == "ehlo",
            },
            "C:" => Line::Client([expand(rest), b"\r\n".to_vec()].concat()),
            "L:" => Line::Client([expand(rest), b"\n".to_vec()].concat()),
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

/// A player in mid-dialog.
struct Player<'a> {
    server: &'a Server,
    /// Where to connect, and what is spoken there.
    address: SocketAddr,
    is_pop3: bool,
    pace: Pace,
    connection: Option<Smtp>,
    /// Lines of the last reply not yet compared.
    unread: Vec<String>,
    /// All that the server said, ids of messages left out.
    heard: Vec<String>,
}

impl Player<'_> {
    fn connection(&mut self) -> &mut Smtp {
        self.connection
            .as_mut()
            .expect("a dialog begins with `---`")
    }

    /// The next reply's lines, or what is left of the one being read.
    fn reply(&mut self) -> Vec<String> {
        if self.is_pop3 {
            let line = self.connection().read_line().unwrap();
            let line = line.unwrap_or_else(|| "(closed)".to_owned());
            self.heard.push(line.clone());
            return vec![line];
        }
        if self.unread.is_empty() {
            self.unread = self.connection().reply().lines;
            for line in &self.unread {
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
            Line::Connect { ehlo } => {
                let connection = if *ehlo {
                    self.server.hello()
                } else {
                    Smtp::connect(self.address)
                };
                self.connection = Some(connection);
                if self.pace == Pace::AllAtOnce {
                    let mut all = Vec::new();
                    for (_, line) in later {
                        match line {
                            Line::Connect { .. } => break,
                            Line::Client(octets) => all.extend_from_slice(octets),
                            _ => {}
                        }
                    }
                    self.connection().try_raw(all);
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
fn play(protocol: &str, name: &str, text: &str, pace: Pace) -> Vec<String> {
    let dialog = parse(text);
    let mut sandbox = Sandbox::lab();
    for (user, password) in &dialog.users {
        sandbox = sandbox.user(user, password);
    }
    let is_pop3 = protocol == "pop3";
    let mut flags: Vec<_> = dialog.flags.iter().map(String::as_str).collect();
    if is_pop3 {
        flags.extend(["--pop3-port", "0"]);
    }
    let mut server = sandbox.serve(&flags);
    let address = if is_pop3 {
        let line = server.next_listener();
        line.strip_prefix("listening pop3 ")
            .unwrap()
            .parse()
            .unwrap()
    } else {
        server.address()
    };
    let mut player = Player {
        server: &server,
        address,
        is_pop3,
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

fn path(protocol: &str, name: &str) -> String {
    format!(
        "{}/tests/dialogs/{protocol}/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn play_at_every_pace(protocol: &str, name: &str) {
    let text = fs::read_to_string(path(protocol, name)).unwrap();
    let lines = play(protocol, name, &text, Pace::LineByLine);
    assert_eq!(
        lines,
        play(protocol, name, &text, Pace::OctetByOctet),
        "{name}: octet by octet"
    );
    assert_eq!(
        lines,
        play(protocol, name, &text, Pace::AllAtOnce),
        "{name}: all at once"
    );
}

macro_rules! dialogs {
    ($protocol:literal: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                play_at_every_pace($protocol, stringify!($name));
            }
        )*

        #[test]
        fn every_dialog_is_played() {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs").join($protocol);
            let mut files: Vec<_> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let mut played = vec![$(concat!(stringify!($name), ".txt")),*];
            played.sort_unstable();
            assert_eq!(files, played);
            for name in [$(stringify!($name)),*] {
                let dialog = parse(&fs::read_to_string(path($protocol, name)).unwrap());
                assert!(matches!(dialog.lines[0].1, Line::Connect { .. }), "{name}");
            }
        }
    };
}

dialogs! { "smtp":
    address_literals_and_odd_addresses
    argument_where_none_belongs
    auth_bad_base64
    auth_cancelled
    auth_in_the_wrong_place
    auth_login
    auth_plain
    auth_refused
    auth_unknown_mechanism
    commands_before_hello
    commands_in_every_case
    commands_not_implemented
    controls_in_commands
    data_without_recipients
    dots
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

mod pop3 {
    use super::*;

    dialogs! { "pop3":
        commands_and_states
        deletions
        lab
        lab_texts
        logins
    }
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
