//! A session of SMTP or LMTP with an owner who answers this way and that.
//!
//! However the octets are cut, the same is said and delivered; what is said is replies; what is
//! delivered was sent, between DATA and the one end that text has; every session comes to its end.
#![no_main]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use minismtp::sasl::scram;
use minismtp::secret::Secret;
use minismtp::smtp::limits;
use minismtp::smtp::server::{Answer, Delivery, Question, Session, Settings};
use minismtp::wire::line::LineEnd;
use minismtp::wire::{Channel, Machine as _, Step};
use minismtp_fuzz::{Dice, Reading, take_octet, take_seed};

const TIMEOUT: Duration = Duration::from_secs(300);
const RECIPIENTS_MAX: usize = 3;

/// What a session came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    said: Vec<u8>,
    delivered: Vec<Vec<u8>>,
    is_closed: bool,
}

struct Owner {
    seed: u64,
    asked: [u64; 6],
    octets_max: u64,
    text: Vec<u8>,
    may_send: bool,
    /// Recipients accepted, at most those of the transaction.
    recipients: usize,
    delivered: Vec<Vec<u8>>,
}

fn keys() -> scram::Keys {
    static KEYS: OnceLock<scram::Keys> = OnceLock::new();
    KEYS.get_or_init(|| scram::Keys::derive(&Secret::new("password"), b"salt", 4096))
        .clone()
}

impl Owner {
    /// A choice that is the same for each question of the kind, by its number.
    fn choose(&mut self, kind: usize, choices: usize) -> usize {
        self.asked[kind] += 1;
        let seed = self
            .seed
            .wrapping_add(self.asked[kind] * 0x9e37_79b9 + kind as u64);
        let mut dice = Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        dice.below(97);
        dice.below(choices)
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Login(login) => {
                if login.password.expose().starts_with(b"p") {
                    self.may_send = true;
                    return Answer::LoggedIn("Andrew".parse().unwrap());
                }
                [Answer::BadCredentials, Answer::TryLater][self.choose(0, 2)].clone()
            }
            Question::Keys(_) => match self.choose(1, 8) {
                0 => Answer::TryLater,
                _ => Answer::Keys(scram::Offer {
                    keys: keys(),
                    nonce: [9; scram::NONCE_OCTETS],
                }),
            },
            Question::Proof(proof) if proof.is_right => {
                self.may_send = true;
                Answer::LoggedIn("Andrew".parse().unwrap())
            }
            Question::Proof(_) => Answer::BadCredentials,
            Question::Sender(..) => {
                assert!(self.may_send, "a sender before the login");
                assert_eq!(self.text, b"");
                self.recipients = 0;
                match self.choose(2, 8) {
                    0 => Answer::LoginFirst,
                    1 => Answer::NotYours,
                    2 => Answer::TryLater,
                    _ => Answer::Accept,
                }
            }
            Question::Recipient(_) => match self.choose(3, 8) {
                0 => Answer::NoSuchUser,
                1 => Answer::NotOurs,
                2 => Answer::TryLater,
                _ => {
                    self.recipients += 1;
                    Answer::Recipient("Andrew".parse().unwrap())
                }
            },
            // Always: how many pieces there are depends on how the octets are cut.
            Question::Text(piece) => {
                assert!(self.recipients > 0 && !piece.is_empty());
                self.text.extend_from_slice(&piece);
                Answer::Accept
            }
            Question::Deliver(delivery) => self.deliver(&delivery),
            Question::DeliverEach(delivery) => {
                let answers = delivery.recipients.iter().map(|_| match self.choose(5, 4) {
                    0 => Answer::TryLater,
                    1 => Answer::NoSpace,
                    _ => Answer::Delivered("1".to_owned()),
                });
                let answers = answers.collect();
                self.deliver(&delivery);
                Answer::Each(answers)
            }
            Question::Discard => {
                self.text.clear();
                Answer::TryLater
            }
        }
    }

    fn deliver(&mut self, delivery: &Delivery) -> Answer {
        let text = std::mem::take(&mut self.text);
        let count = delivery.recipients.len();
        assert!((1..=RECIPIENTS_MAX).contains(&count) && count <= self.recipients);
        assert!(text.is_empty() || text.ends_with(b"\n"));
        assert!(!text.contains(&b'\r'));
        let line_feeds = text.iter().filter(|&&octet| octet == b'\n').count();
        assert_eq!(delivery.octets, (text.len() + line_feeds) as u64);
        assert!(delivery.octets <= self.octets_max);
        assert!(!delivery.client_name.is_empty());
        self.delivered.push(text);
        match self.choose(4, 8) {
            0 => Answer::Loop,
            1 => Answer::NoSpace,
            2 => Answer::TryLater,
            3 => Answer::Unknown,
            _ => Answer::Delivered("1".to_owned()),
        }
    }
}

fn play(choices: u8, seed: u64, pieces: &[&[u8]]) -> Outcome {
    let settings = Arc::new(Settings {
        hostname: "mx.example".to_owned(),
        message_octets_max: if choices & 1 == 0 { 20 } else { 100_000 },
        recipients_max: RECIPIENTS_MAX,
        timeout: TIMEOUT,
        login_required: choices & 2 != 0,
        // STARTTLS has more than one answer by design: what comes in one piece with it counts.
        has_tls: false,
    });
    let now = Instant::now();
    let mut owner = Owner {
        seed,
        asked: [0; 6],
        octets_max: settings.message_octets_max,
        text: Vec::new(),
        may_send: !settings.login_required,
        recipients: 0,
        delivered: Vec::new(),
    };
    let is_lmtp = choices & 4 != 0;
    let mut session = if is_lmtp {
        Session::lmtp(settings, Channel::Private, now)
    } else {
        Session::new(settings, Channel::Private, now)
    };
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
    outcome.delivered = owner.delivered;
    outcome
}

fn check_replies(said: &[u8]) {
    let said = std::str::from_utf8(said).expect("replies are text");
    let mut code = None;
    for line in said.split_inclusive('\n') {
        let line = line.strip_suffix("\r\n").expect("CRLF ends a line");
        assert!(
            !line.contains(char::is_control) && line.len() <= 510,
            "{line:?}"
        );
        assert!(matches!(line.as_bytes()[0], b'2'..=b'5'));
        assert!(code.is_none_or(|code| code == &line[..3]), "{line}");
        code = match line.as_bytes()[3] {
            b'-' => Some(&line[..3]),
            b' ' => None,
            _ => panic!("{line:?}"),
        };
    }
    assert_eq!(code, None, "the last reply goes on");
}

/// Each text that was delivered stands in the input, in this order, behind a line of DATA.
fn check_delivered(input: &[u8], delivered: &[Vec<u8>]) {
    let has_chunks = input
        .windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"BDAT"));
    let first_line = input
        .split_inclusive(|&octet| octet == b'\n')
        .next()
        .unwrap_or_default();
    if has_chunks {
        return;
    }
    let line_end = if first_line.ends_with(b"\r\n") {
        LineEnd::Crlf
    } else {
        LineEnd::Any
    };
    let mut at = 0;
    for text in delivered {
        let found = (at..input.len()).find_map(|start| {
            let before = input[at..start].strip_suffix(b"\n")?;
            let before = match line_end {
                LineEnd::Crlf => before.strip_suffix(b"\r")?,
                LineEnd::Any => before.strip_suffix(b"\r").unwrap_or(before),
            };
            let line = before.trim_ascii_end();
            let is_data = line.len() >= 4 && line[line.len() - 4..].eq_ignore_ascii_case(b"DATA");
            let reading = is_data
                .then(|| Reading::of(&input[start..], line_end))
                .flatten()?;
            (reading.text.as_ref() == Some(text)).then_some(start + reading.used)
        });
        at = found.unwrap_or_else(|| panic!("{} was never sent", text.escape_ascii()));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut octets = input;
    let choices = take_octet(&mut octets);
    let seed = take_seed(&mut octets);
    let whole = play(choices, seed, &[octets]);
    check_replies(&whole.said);
    check_delivered(octets, &whole.delivered);
    let pieces = Dice::new(seed).cut(octets, 1 + usize::from(choices >> 3));
    let cut = play(choices, seed, &pieces);
    assert_eq!(
        cut.said.escape_ascii().to_string(),
        whole.said.escape_ascii().to_string()
    );
    assert_eq!(cut, whole);
    // A message that is stored begins the count anew. A chunk of unknown size is the last thing that is
    // refused, whatever the count.
    let said = String::from_utf8_lossy(&whole.said);
    for said in said.split("\r\n250 2.0.0 Ok: queued") {
        assert!(said.matches("\r\n500").count() <= limits::ERRORS_MAX as usize + 1);
    }
});
