//! A session of POP3, or of the lab, with an owner who has three messages.
//!
//! However the octets are cut, the same is said and done; nothing is asked about a mailbox that is
//! not open; nothing is removed that was not marked or shown; every session comes to its end.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use minismtp::pop3::server::{Answer, Letter, Question, Session, Settings};
use minismtp::sasl::scram;
use minismtp::secret::Secret;
use minismtp::user::UserName;
use minismtp::wire::{Channel, Machine as _, Step};
use minismtp_fuzz::{Dice, take_octet, take_seed};

const TIMEOUT: Duration = Duration::from_secs(600);
const MESSAGES: [&[u8]; 3] = [
    b"Subject: one\n\nfirst\nsecond\nthird\n",
    b"Subject: two\n\n.\n..dots\n.\n",
    b"no header\n",
];

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    said: Vec<u8>,
    done: Vec<String>,
    is_closed: bool,
}

struct Owner {
    dice: Dice,
    is_open: bool,
    reading: Option<(usize, usize)>,
    read: Vec<usize>,
    removed: Vec<usize>,
    text: Vec<u8>,
    octets_max: u64,
    done: Vec<String>,
}

fn andrew() -> UserName {
    "Andrew".parse().unwrap()
}

fn keys() -> scram::Keys {
    static KEYS: OnceLock<scram::Keys> = OnceLock::new();
    KEYS.get_or_init(|| scram::Keys::derive(&Secret::new("password"), b"salt", 4096))
        .clone()
}

impl Owner {
    fn open(&mut self) -> Answer {
        assert!(!self.is_open, "opened twice");
        if self.dice.below(8) == 0 {
            return Answer::InUse;
        }
        self.is_open = true;
        self.read.clear();
        self.removed.clear();
        let octets = MESSAGES.iter().map(|text| {
            let line_feeds = text.iter().filter(|&&octet| octet == b'\n').count();
            (text.len() + line_feeds) as u64
        });
        Answer::Opened {
            user: andrew(),
            octets: octets.collect(),
        }
    }

    fn piece(&mut self) -> Answer {
        let (number, at) = self.reading.expect("nothing is being read");
        if self.dice.below(32) == 0 {
            return Answer::TryLater;
        }
        let rest = &MESSAGES[number - 1][at..];
        let size = (1 + self.dice.below(9)).min(rest.len());
        let is_last = size == rest.len();
        self.reading = Some((number, at + size));
        if is_last {
            self.read.push(number);
        }
        Answer::Text {
            text: rest[..size].to_vec(),
            is_last,
        }
    }

    fn take(&mut self, letter: &Letter) {
        assert!(!letter.text.contains(&b'\r') && letter.octets <= self.octets_max);
        let subject = letter.subject.as_deref().unwrap_or_default();
        assert!(!subject.contains(char::is_control));
        self.text.extend_from_slice(&letter.text);
    }

    fn answer(&mut self, question: Question) -> Answer {
        let is_about_mailbox = !matches!(
            question,
            Question::Login(_)
                | Question::Keys(_)
                | Question::Proof(_)
                | Question::Open(_)
                | Question::Users
                | Question::Add(_)
        );
        assert!(
            self.is_open || !is_about_mailbox,
            "{question:?} without a mailbox"
        );
        match question {
            Question::Login(login) if login.password.expose() == b"p" => self.open(),
            Question::Login(_) => Answer::BadCredentials,
            Question::Keys(_) => Answer::Keys(scram::Offer {
                keys: keys(),
                nonce: [9; scram::NONCE_OCTETS],
            }),
            Question::Proof(proof) if proof.is_right => self.open(),
            Question::Proof(_) => Answer::BadCredentials,
            Question::Open(name) if name == "Andrew" => self.open(),
            Question::Open(_) => Answer::NoSuchUser,
            Question::Reopen => self.open(),
            Question::Users => Answer::Users(vec![andrew()]),
            Question::Add(name) => {
                self.done.push(format!("add {name}"));
                Answer::Accept
            }
            Question::UniqueIds(numbers) => {
                self.check(&numbers);
                Answer::UniqueIds(numbers.iter().map(|number| format!("id{number}")).collect())
            }
            Question::Read(number) => {
                self.check(&[number]);
                self.reading = Some((number, 0));
                self.piece()
            }
            Question::ReadOn => self.piece(),
            Question::Remove(number) => {
                self.check(&[number]);
                assert!(self.read.contains(&number), "{number} was not shown");
                self.done.push(format!("remove {number}"));
                if self.dice.below(8) == 0 {
                    return Answer::TryLater;
                }
                self.removed.push(number);
                Answer::Accept
            }
            Question::Close(numbers) => {
                self.check(&numbers);
                self.is_open = false;
                self.done.push(format!("close {numbers:?}"));
                [Answer::Accept, Answer::TryLater][usize::from(self.dice.below(8) == 0)].clone()
            }
            Question::Recipient(name) if name.len() < 9 => Answer::Recipient(andrew()),
            Question::Recipient(_) => Answer::NoSuchUser,
            Question::Text(letter) => {
                self.take(&letter);
                Answer::Accept
            }
            Question::Deliver(letter) => {
                self.take(&letter);
                let text = std::mem::take(&mut self.text);
                assert!(text.is_empty() || text.ends_with(b"\n"));
                self.done.push(format!(
                    "deliver {:?} {}",
                    letter.subject,
                    text.escape_ascii()
                ));
                match self.dice.below(8) {
                    0 => Answer::TryLater,
                    1 => Answer::NoSpace,
                    2 => Answer::Unknown,
                    _ => Answer::Delivered,
                }
            }
            Question::Discard => {
                self.text.clear();
                Answer::Accept
            }
        }
    }

    /// Numbers are those of messages that are there, each once, in order.
    fn check(&self, numbers: &[usize]) {
        let is_there = |number: &usize| {
            (1..=MESSAGES.len()).contains(number) && !self.removed.contains(number)
        };
        assert!(numbers.iter().all(is_there), "{numbers:?}");
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{numbers:?}"
        );
    }
}

fn play(choices: u8, seed: u64, pieces: &[&[u8]]) -> Outcome {
    let settings = Arc::new(Settings {
        hostname: "mx.example".to_owned(),
        is_lab: choices & 1 == 0,
        has_tls: false,
        message_octets_max: if choices & 2 == 0 { 100_000 } else { 20 },
        login_timeout: TIMEOUT,
        idle_timeout: TIMEOUT,
    });
    let now = Instant::now();
    let mut owner = Owner {
        dice: Dice::new(seed),
        is_open: false,
        reading: None,
        read: Vec::new(),
        removed: Vec::new(),
        text: Vec::new(),
        octets_max: settings.message_octets_max,
        done: Vec::new(),
    };
    let mut session = Session::new(settings, Channel::Private, now);
    let mut outcome = Outcome::default();
    let mut steps = 0;
    let mut run = |session: &mut Session, outcome: &mut Outcome| loop {
        steps += 1;
        assert!(steps < 200_000, "it does not come to an end");
        match session.step(now) {
            Step::Send(octets) => {
                assert!(!octets.is_empty() && !outcome.is_closed);
                outcome.said.extend_from_slice(&octets);
            }
            Step::Ask(question) => {
                assert!(!outcome.is_closed);
                let answer = owner.answer(question);
                session.answer(now, answer);
            }
            Step::Wait(deadline) => {
                assert!(deadline > now && deadline <= now + TIMEOUT && !outcome.is_closed);
                return;
            }
            Step::StartTls => panic!("there is no certificate"),
            Step::Close if outcome.is_closed => return,
            Step::Close => outcome.is_closed = true,
        }
    };
    for piece in pieces {
        session.receive(now, piece);
        run(&mut session, &mut outcome);
        while session.event().is_some() {}
    }
    let is_closed = outcome.is_closed;
    session.disconnected(now);
    run(&mut session, &mut outcome);
    assert!(outcome.is_closed);
    outcome.is_closed = is_closed;
    outcome.done = owner.done;
    outcome
}

/// Lines are ended by CRLF and nothing else; the first of an answer that is no text is a status.
fn check_answers(outcome: &Outcome) {
    let is_closed = outcome.is_closed;
    let said = std::str::from_utf8(&outcome.said).expect("all there is to say is text");
    let mut is_text = false;
    for (at, line) in said.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix("\r\n") else {
            // A message that cannot be read on is cut off, so that it does not look whole.
            assert!(is_closed && said.ends_with(line), "{line:?}");
            return;
        };
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(at > 0 || line.starts_with("+OK "));
        // Text stands between a status and a lone full stop; here it never begins with `+OK`.
        let is_status = ["+OK", "-ERR", "+ "]
            .iter()
            .any(|status| line.starts_with(status));
        is_text = (is_text || !is_status) && line != ".";
        assert!(
            !line.starts_with('.') || line == "." || line.starts_with(".."),
            "{line:?}"
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let mut octets = input;
    let choices = take_octet(&mut octets);
    let seed = take_seed(&mut octets);
    let whole = play(choices, seed, &[octets]);
    check_answers(&whole);
    let pieces = Dice::new(seed).cut(octets, 1 + usize::from(choices >> 2));
    let cut = play(choices, seed, &pieces);
    assert_eq!(
        cut.said.escape_ascii().to_string(),
        whole.said.escape_ascii().to_string()
    );
    assert_eq!(cut, whole);
});
