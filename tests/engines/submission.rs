//! A client submits a message to a server, over a connection that delays, splits and breaks, with
//! an owner who refuses, hesitates and fails; thousands of times, each time as its seed has it.
//!
//! What must hold is what people rely on: a message that the client reports as taken is stored
//! once, with the same octets, for those whom it reports as accepted; one that it reports as
//! refused, or as never sent, is not stored; only where the full stop was sent and no answer came
//! is it unknown. Both sides come to an end by the deadlines that they name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minismtp::address::{ForwardPath, ReversePath};
use minismtp::message::envelope::Envelope;
use minismtp::message::outgoing::Outgoing;
use minismtp::net::tls::HANDSHAKE_TIMEOUT;
use minismtp::sasl::{Login, scram};
use minismtp::secret::Secret;
use minismtp::smtp::client::{self, Cause, Stage, StartTls, Submission, Verdict};
use minismtp::smtp::server::{self, Answer, Question, Session};
use minismtp::smtp::{Event, limits};
use minismtp::wire::{Channel, Machine as _, Step};

use crate::world::{Arrival, Dice, Line, each_seed};

const SEEDS: u64 = 6000;
const TIMEOUT: Duration = Duration::from_secs(300);

/// What was stored: for whom, and what.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    recipients: Vec<String>,
    /// Escaped.
    text: String,
}

/// How the owner answers.
struct Owner {
    /// One in so many answers is no.
    refusals: u64,
    /// How long an answer takes at most, in milliseconds.
    delay_millis: u64,
    text: Vec<u8>,
    stored: Vec<Stored>,
}

impl Owner {
    fn answer(&mut self, dice: &mut Dice, question: Question) -> Answer {
        let is_refused = self.refusals > 0 && dice.one_in(self.refusals);
        let mut pick = |answers: &[Answer]| answers[dice.below_usize(answers.len())].clone();
        match question {
            Question::Login(_) if is_refused => pick(&[Answer::BadCredentials, Answer::TryLater]),
            Question::Login(_) => Answer::LoggedIn("Andrew".parse().unwrap()),
            Question::Sender(..) if is_refused => {
                pick(&[Answer::LoginFirst, Answer::NotYours, Answer::TryLater])
            }
            Question::Recipient(_) if is_refused => {
                pick(&[Answer::NoSuchUser, Answer::NotOurs, Answer::TryLater])
            }
            Question::Recipient(_) => Answer::Recipient("Andrew".parse().unwrap()),
            Question::Text(_) if is_refused => pick(&[Answer::NoSpace, Answer::TryLater]),
            Question::Text(piece) => {
                self.text.extend_from_slice(&piece);
                Answer::Accept
            }
            Question::Deliver(delivery) => {
                let text = std::mem::take(&mut self.text);
                let answer = if is_refused {
                    pick(&[
                        Answer::Loop,
                        Answer::NoSpace,
                        Answer::TryLater,
                        Answer::Unknown,
                    ])
                } else {
                    Answer::Delivered("1".to_owned())
                };
                let is_stored = match answer {
                    Answer::Delivered(_) => true,
                    Answer::Unknown => dice.one_in(2),
                    _ => false,
                };
                if is_stored {
                    let recipients = delivery.recipients.iter();
                    let recipients = recipients.map(|(path, _)| path.to_string()).collect();
                    let text = text.escape_ascii().to_string();
                    self.stored.push(Stored { recipients, text });
                }
                answer
            }
            Question::Discard => {
                self.text.clear();
                Answer::Accept
            }
            Question::Sender(..) => Answer::Accept,
            other => panic!("{other:?} is not asked here"),
        }
    }
}

/// A connection, both of its ends and who answers the server's questions.
struct Play {
    dice: Dice,
    now: Instant,
    client: Submission,
    server: Session,
    owner: Owner,
    to_server: Line,
    to_client: Line,
    /// The answer that the owner is thinking about.
    answer: Option<(Instant, Answer)>,
    /// How long each side waits for the other to agree on TLS, once it does.
    client_handshake: Option<Instant>,
    server_handshake: Option<Instant>,
    client_is_done: bool,
    server_is_done: bool,
    /// When the client gives up of its own accord.
    stops: Option<Instant>,
    /// The client has written the whole text.
    has_sent_all: bool,
    text_octets: usize,
}

fn message(dice: &mut Dice) -> Outgoing {
    let path = |name: &str| ForwardPath::parse(&format!("<{name}@b>")).unwrap().0;
    let recipients = (0..1 + dice.below(4))
        .map(|number| path(&format!("r{number}")))
        .collect();
    let pieces = [
        "\n", ".", "..\n", "a", "line\n", ".\n", "QUIT\n", "\u{e9}", "\n.\n", "\0",
    ];
    let size = [3, 30, 3000][dice.below_usize(3)];
    let mut text = String::from("Subject: x\n\n");
    for _ in 0..dice.below(size) {
        text += pieces[dice.below_usize(pieces.len())];
    }
    Outgoing {
        envelope: Envelope {
            reverse_path: ReversePath::parse("<a@b>").unwrap().0,
            forward_paths: recipients,
        },
        text: text.into_bytes(),
        has_utf8_header: false,
    }
}

impl Play {
    fn new(message: &Outgoing, mut dice: Dice) -> Self {
        let now = Instant::now();
        let login = dice.one_in(4).then(|| Login {
            user: "Andrew".to_owned(),
            password: Secret::new("x"),
        });
        let settings = client::Settings {
            hostname: "c.example".to_owned(),
            login,
            start_tls: [StartTls::Never, StartTls::IfOffered, StartTls::Required]
                [dice.below_usize(3)],
            is_secure: false,
            is_password_allowed: true,
            is_password_allowed_secured: true,
            nonce: [7; scram::NONCE_OCTETS],
            is_step_by_step: dice.one_in(3),
            timeout_max: dice
                .one_in(3)
                .then(|| Duration::from_secs(1 + dice.below(60))),
        };
        let offered = server::Settings {
            hostname: "mx.example".to_owned(),
            message_octets_max: if dice.one_in(8) { 40 } else { 100_000 },
            recipients_max: if dice.one_in(8) { 2 } else { 100 },
            timeout: TIMEOUT,
            login_required: dice.one_in(8),
            has_tls: !dice.one_in(8),
        };
        let mut to_server = Line::new(&mut dice, now);
        let mut to_client = Line::new(&mut dice, now);
        // A third of the seeds lose the connection, anywhere: the whole takes a few hundred
        // octets and the text.
        match dice.below(6) {
            0 => to_server.cut_after(dice.below_usize(300 + 2 * message.text.len())),
            1 => to_client.cut_after(dice.below_usize(600)),
            _ => {}
        }
        let refusals = [0, 3, 20];
        let delays = [1, 1000, 200_000, 700_000];
        Self {
            owner: Owner {
                refusals: refusals[dice.below_usize(refusals.len())],
                delay_millis: delays[dice.below_usize(delays.len())],
                text: Vec::new(),
                stored: Vec::new(),
            },
            stops: dice.one_in(16).then(|| now + dice.millis(10_000)),
            client: Submission::new(settings, Some(message.clone())),
            server: Session::new(Arc::new(offered), Channel::Private, now),
            dice,
            now,
            to_server,
            to_client,
            answer: None,
            client_handshake: None,
            server_handshake: None,
            client_is_done: false,
            server_is_done: false,
            has_sent_all: false,
            text_octets: 0,
        }
    }

    /// Goes on until both sides are done.
    fn run(mut self, text_octets: usize) -> Self {
        let began = self.now;
        loop {
            let mut deadlines = [self.step_client(text_octets), self.step_server()];
            if self.agree() {
                deadlines = [self.step_client(text_octets), self.step_server()];
            }
            if self.client_is_done && self.server_is_done {
                return self;
            }
            let arrivals = [self.to_server.next_arrival(), self.to_client.next_arrival()];
            let others = [self.answer.as_ref().map(|(at, _)| *at), self.stops];
            let moments = deadlines
                .into_iter()
                .chain(arrivals)
                .chain(others)
                .flatten();
            let next = moments.min().unwrap_or_else(|| panic!("all wait for ever"));
            // A side that has let its deadline pass would wait for ever, at a busy peer's.
            self.now = self.now.max(next);
            assert!(
                self.now - began < Duration::from_secs(4 * 3600),
                "it does not end"
            );
            self.arrive();
        }
    }

    /// Ends the handshake if both sides are in it; whether they were.
    fn agree(&mut self) -> bool {
        let both = self.client_handshake.is_some() && self.server_handshake.is_some();
        if both {
            (self.client_handshake, self.server_handshake) = (None, None);
            self.client.secured(self.now, "1.3");
            self.server.secured(self.now, "1.3");
        }
        both
    }

    /// What is due at this moment.
    fn arrive(&mut self) {
        while let Some(arrival) = self.to_server.take(self.now) {
            match arrival {
                Arrival::Octets(octets) => self.server.receive(self.now, &octets),
                Arrival::End => self.server.disconnected(self.now),
            }
        }
        while let Some(arrival) = self.to_client.take(self.now) {
            match arrival {
                Arrival::Octets(octets) => self.client.receive(self.now, &octets),
                Arrival::End => self.client.disconnected(self.now),
            }
        }
        if let Some((_, answer)) = self.answer.take_if(|(at, _)| *at <= self.now) {
            self.server.answer(self.now, answer);
        }
        if self.stops.take_if(|at| *at <= self.now).is_some() {
            self.client.stop(self.now);
        }
    }

    /// The client's deadline; `None` once it is done.
    fn step_client(&mut self, text_octets: usize) -> Option<Instant> {
        while !self.client_is_done {
            let step = self.client.step(self.now);
            while let Some(event) = self.client.event() {
                if let Event::Text(piece) = event {
                    self.text_octets += piece.len();
                    self.has_sent_all = self.text_octets == text_octets;
                }
            }
            match step {
                Step::Send(octets) => {
                    if !self.to_server.write(&mut self.dice, self.now, &octets) {
                        self.break_off();
                    }
                }
                Step::Ask(never) => match never {},
                Step::StartTls => {
                    let deadline = self.now + HANDSHAKE_TIMEOUT;
                    let deadline = *self.client_handshake.get_or_insert(deadline);
                    if self.now < deadline {
                        return Some(deadline);
                    }
                    self.client.disconnected(self.now);
                }
                Step::Wait(deadline) => {
                    assert!(deadline > self.now, "the client waits for what is past");
                    assert!(deadline <= self.now + limits::FINAL_TIMEOUT);
                    return Some(deadline);
                }
                Step::Close => {
                    self.client_is_done = true;
                    self.stops = None;
                    self.to_client.lose();
                    self.to_server.end(&mut self.dice, self.now);
                }
            }
        }
        None
    }

    /// The server's deadline; `None` where it waits for its owner, or once it is done.
    fn step_server(&mut self) -> Option<Instant> {
        while !self.server_is_done {
            if self.answer.is_some() {
                return None;
            }
            let step = self.server.step(self.now);
            while self.server.event().is_some() {}
            match step {
                Step::Send(octets) => {
                    if !self.to_client.write(&mut self.dice, self.now, &octets) {
                        self.break_off();
                    }
                }
                Step::Ask(question) => {
                    let answer = self.owner.answer(&mut self.dice, question);
                    let at = self.now + self.dice.millis(self.owner.delay_millis);
                    self.answer = Some((at, answer));
                }
                Step::StartTls => {
                    let deadline = self.now + HANDSHAKE_TIMEOUT;
                    let deadline = *self.server_handshake.get_or_insert(deadline);
                    if self.now < deadline {
                        return Some(deadline);
                    }
                    self.server.disconnected(self.now);
                }
                Step::Wait(deadline) => {
                    assert!(deadline > self.now, "the server waits for what is past");
                    assert!(deadline <= self.now + TIMEOUT);
                    return Some(deadline);
                }
                Step::Close => {
                    self.server_is_done = true;
                    // What the client has said in vain makes a reset of the end, and a reset may
                    // overtake what was said before it.
                    if self.to_server.next_arrival().is_some() && self.dice.one_in(2) {
                        self.to_client.lose();
                    }
                    self.to_server.lose();
                    self.to_client.end(&mut self.dice, self.now);
                }
            }
        }
        None
    }

    fn break_off(&mut self) {
        self.to_server.break_off(&mut self.dice, self.now);
        self.to_client.break_off(&mut self.dice, self.now);
    }
}

/// The text as the server stores it.
fn stored_text(message: &Outgoing) -> String {
    let mut text = message.text.clone();
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.escape_ascii().to_string()
}

/// Plays a seed and gives what came of it, for the counting.
fn play(seed: u64) -> &'static str {
    let mut dice = Dice::new(seed);
    let message = message(&mut dice);
    let play = Play::new(&message, dice).run(message.text.len());
    let outcome = play.client.outcome();
    let accepted = outcome.recipients.iter();
    let accepted = accepted.filter(|recipient| recipient.verdict == Verdict::Accepted);
    let accepted: Vec<String> = accepted
        .map(|recipient| recipient.path.to_string())
        .collect();
    let expected = Stored {
        recipients: accepted,
        text: stored_text(&message),
    };

    let stored = &play.owner.stored;
    // Whatever the client knows: nothing is stored in part or twice.
    assert!(stored.len() <= 1, "{stored:?}");
    assert!(
        stored.is_empty() || play.has_sent_all,
        "stored before the end of the text"
    );
    assert!(
        stored.iter().all(|stored| *stored == expected),
        "{stored:?} is not {expected:?}"
    );
    match &outcome.result {
        Ok(Some(reply)) => {
            assert!(
                reply.code() == 250 && stored.len() == 1,
                "taken, and not stored: {reply}"
            );
            "taken"
        }
        Ok(None) => panic!("there was a message to send"),
        Err(failure) => match failure.cause {
            Cause::Lost | Cause::TimedOut
                if failure.stage == Stage::Content && play.has_sent_all =>
            {
                "unknown"
            }
            Cause::Lost | Cause::TimedOut | Cause::Stopped => {
                assert!(stored.is_empty(), "{failure}, and stored");
                "lost"
            }
            Cause::Refused(_) | Cause::TooLarge { .. } | Cause::TlsNotOffered => {
                assert!(stored.is_empty(), "{failure}, and stored");
                "refused"
            }
            _ => panic!("two that speak the same language: {failure}"),
        },
    }
}

#[test]
fn client_and_server_agree_on_what_became_of_a_message() {
    let counts = each_seed(SEEDS, play);
    // All of it is met, and nothing is rare.
    for what in ["taken", "unknown", "lost", "refused"] {
        let count = counts.get(what).copied().unwrap_or_default();
        assert!(count > SEEDS / 50, "{what}: {counts:?}");
    }
}
