//! A client reads, deletes and sends mail by the lab's verbs, over a connection that delays,
//! splits and breaks, with an owner who refuses, hesitates and fails; thousands of times.
//!
//! What must hold: what is shown is the next message, octet for octet, and never looks whole if it
//! is not; what the client is told is deleted or delivered is so, once; what it is told is not, is
//! not; only what it asked for and got no answer to is unknown. The server ends by its deadlines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minismtp::pop3::client::{Conversation, Part, Request};
use minismtp::pop3::server::{Answer, Question, Session, Settings};
use minismtp::secret::Secret;
use minismtp::user::UserName;
use minismtp::wire::{Channel, Machine as _, Step};

use crate::world::{Arrival, Dice, Line, each_seed};

const SEEDS: u64 = 5000;
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// What is in Andrew's mailbox, and what was done with it.
struct Owner {
    messages: Vec<Vec<u8>>,
    /// One in so many answers is no.
    refusals: u64,
    delay_millis: u64,
    reading: Vec<u8>,
    text: Vec<u8>,
    /// Message-numbers in the order they were removed.
    removed: Vec<usize>,
    delivered: Vec<Vec<u8>>,
    /// The last question was answered with no.
    has_refused: bool,
}

impl Owner {
    fn answer(&mut self, dice: &mut Dice, question: Question) -> Answer {
        let is_refused = self.refusals > 0 && dice.one_in(self.refusals);
        self.has_refused = is_refused;
        let mut pick = |answers: &[Answer]| answers[dice.below_usize(answers.len())].clone();
        match question {
            Question::Login(_) if is_refused => {
                pick(&[Answer::BadCredentials, Answer::InUse, Answer::TryLater])
            }
            Question::Open(_) if is_refused => {
                pick(&[Answer::NoSuchUser, Answer::InUse, Answer::TryLater])
            }
            Question::Login(_) | Question::Open(_) => Answer::Opened {
                user: andrew(),
                octets: self.messages.iter().map(|text| text.len() as u64).collect(),
            },
            Question::Deliver(letter) => {
                let mut text = std::mem::take(&mut self.text);
                text.extend_from_slice(&letter.text);
                let answer = if is_refused {
                    pick(&[Answer::NoSpace, Answer::TryLater, Answer::Unknown])
                } else {
                    Answer::Delivered
                };
                let is_stored = match answer {
                    Answer::Unknown => dice.one_in(2),
                    _ => answer == Answer::Delivered,
                };
                if is_stored {
                    self.delivered.push(text);
                }
                answer
            }
            Question::Discard => Answer::Accept,
            _ if is_refused => Answer::TryLater,
            Question::Users => Answer::Users(vec![andrew()]),
            Question::Read(number) => {
                self.reading.clone_from(&self.messages[number - 1]);
                self.piece(dice)
            }
            Question::ReadOn => self.piece(dice),
            // The person remembers numbers, which looking again would change.
            Question::Reopen => Answer::TryLater,
            Question::Remove(number) => {
                self.removed.push(number);
                Answer::Accept
            }
            Question::Close(marks) => {
                assert!(marks.is_empty(), "nothing was marked");
                Answer::Accept
            }
            Question::Recipient(_) => Answer::Recipient(andrew()),
            Question::Text(letter) => {
                self.text.extend_from_slice(&letter.text);
                Answer::Accept
            }
            other => panic!("{other:?} is not asked here"),
        }
    }

    fn piece(&mut self, dice: &mut Dice) -> Answer {
        let size = (1 + dice.below_usize(100)).min(self.reading.len());
        let rest = self.reading.split_off(size);
        let text = std::mem::replace(&mut self.reading, rest);
        let is_last = self.reading.is_empty();
        Answer::Text { text, is_last }
    }
}

fn andrew() -> UserName {
    "Andrew".parse().unwrap()
}

fn text(dice: &mut Dice) -> Vec<u8> {
    let lines = [
        "", ".", "..", "...a", "line", "###a", "a\t", "QUIT", "+OK", "\u{e9}\0",
    ];
    let size = [1, 5, 200][dice.below_usize(3)];
    let mut text = String::from("first\n");
    for _ in 0..dice.below(size) {
        text += lines[dice.below_usize(lines.len())];
        text.push('\n');
    }
    text.into_bytes()
}

/// The person at the client, who remembers what was said.
struct Person {
    is_lab: bool,
    /// What is asked next, last in front.
    plan: Vec<Request>,
    asked: Option<Request>,
    /// What has come of the answer.
    answer: Answered,
    /// When the next request is made; `None` while an answer is awaited.
    asks: Option<Instant>,
    pauses_millis: u64,
    is_open: bool,
    /// Where READM is, and what it showed last.
    passed: usize,
    shown: Option<usize>,
    removed: Vec<usize>,
    delivered: Vec<Vec<u8>>,
    shown_count: usize,
}

#[derive(Default)]
struct Answered {
    is_ok: bool,
    line: String,
    text: Vec<u8>,
}

impl Person {
    fn new(dice: &mut Dice, is_lab: bool) -> Self {
        let user = Request::User("Andrew".to_owned());
        let pass = Request::Pass(Secret::new("x"));
        let mut plan = vec![user, pass];
        for _ in 0..dice.below(12) {
            match dice.below(8) {
                0..4 => plan.push(Request::Read),
                4 | 5 => plan.push(Request::Delete),
                6 => plan.extend([
                    Request::Send("Bob".to_owned()),
                    Request::Message(text(dice)),
                ]),
                _ => plan.push(Request::ListUsers),
            }
        }
        plan.push(Request::Quit);
        plan.reverse();
        let pauses = [1, 1000, 100_000, 700_000];
        Self {
            is_lab,
            plan,
            asked: None,
            answer: Answered::default(),
            asks: None,
            pauses_millis: pauses[dice.below_usize(pauses.len())],
            is_open: false,
            passed: 0,
            shown: None,
            removed: Vec::new(),
            delivered: Vec::new(),
            shown_count: 0,
        }
    }

    /// The next request; `None` at the end.
    fn request(&mut self) -> Option<Request> {
        let mut request = self.plan.pop()?;
        if let Request::Message(text) = &mut request {
            if self.asked != Some(Request::Send("Bob".to_owned())) || !self.answer.is_ok {
                // Nobody waits for the text.
                return self.request();
            }
            text.extend_from_slice(b"###\n");
        }
        self.asked = Some(request.clone());
        self.answer = Answered::default();
        Some(request)
    }

    fn next_message(&self, owner: &Owner) -> Option<usize> {
        (self.passed + 1..=owner.messages.len()).find(|number| !self.removed.contains(number))
    }

    /// Holds a whole answer against what was done.
    fn check(&mut self, owner: &Owner) {
        let answer = &self.answer;
        let (is_ok, line) = (answer.is_ok, answer.line.as_str());
        match &self.asked {
            None => assert!(is_ok, "no greeting: {line}"),
            Some(Request::User(_)) if self.is_lab => {
                self.is_open = is_ok;
                let greeting = format!("+OK Andrew has {} message", owner.messages.len());
                assert!(!is_ok || line.starts_with(&greeting), "{line}");
            }
            Some(Request::Pass(_)) => self.is_open = is_ok,
            Some(Request::Read) if is_ok => {
                let number = self.next_message(owner);
                let number = number.unwrap_or_else(|| panic!("there is no more mail: {line}"));
                assert_eq!(answer.text, owner.messages[number - 1], "{line}");
                (self.passed, self.shown) = (number, Some(number));
                self.shown_count += 1;
            }
            Some(Request::Read) if line == "-ERR No More Mail" => {
                assert_eq!(self.next_message(owner), None);
                self.passed = 0;
            }
            Some(Request::Read) => assert!(!self.is_open || owner.has_refused, "{line}"),
            Some(Request::Delete) if is_ok => {
                self.removed
                    .push(self.shown.take().expect("nothing was shown"));
                assert_eq!(self.removed, owner.removed);
            }
            Some(Request::Delete) => assert_eq!(self.removed, owner.removed, "{line}"),
            Some(Request::Message(text)) if is_ok => {
                let text = text.strip_suffix(b"###\n").unwrap();
                self.delivered.push(text.to_vec());
                assert_eq!(self.delivered, owner.delivered);
            }
            Some(Request::Message(_)) => assert_eq!(self.delivered, owner.delivered, "{line}"),
            Some(_) => {}
        }
    }
}

struct Play {
    dice: Dice,
    now: Instant,
    person: Person,
    client: Conversation,
    server: Session,
    owner: Owner,
    to_server: Line,
    to_client: Line,
    answer: Option<(Instant, Answer)>,
    client_is_done: bool,
    server_is_done: bool,
}

impl Play {
    fn new(mut dice: Dice) -> Self {
        let now = Instant::now();
        let is_lab = dice.one_in(2);
        let settings = Settings {
            hostname: "mx.example".to_owned(),
            is_lab,
            has_tls: false,
            message_octets_max: if dice.one_in(8) { 40 } else { 100_000 },
            login_timeout: LOGIN_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
        };
        let refusals = [0, 5, 50];
        let delays = [1, 1000, 200_000];
        let owner = Owner {
            messages: (0..dice.below(4)).map(|_| text(&mut dice)).collect(),
            refusals: refusals[dice.below_usize(refusals.len())],
            delay_millis: delays[dice.below_usize(delays.len())],
            reading: Vec::new(),
            text: Vec::new(),
            removed: Vec::new(),
            delivered: Vec::new(),
            has_refused: false,
        };
        let mut to_server = Line::new(&mut dice, now);
        let mut to_client = Line::new(&mut dice, now);
        match dice.below(6) {
            0 => to_server.cut_after(dice.below_usize(1000)),
            1 => to_client.cut_after(dice.below_usize(2000)),
            _ => {}
        }
        Self {
            person: Person::new(&mut dice, is_lab),
            client: Conversation::new(),
            server: Session::new(Arc::new(settings), Channel::Private, now),
            owner,
            dice,
            now,
            to_server,
            to_client,
            answer: None,
            client_is_done: false,
            server_is_done: false,
        }
    }

    fn run(mut self) -> Self {
        let began = self.now;
        loop {
            self.step_client();
            let deadline = self.step_server();
            // The client has no clock of its own: its owner hangs up when nothing comes.
            let waits = !self.client_is_done && self.person.asks.is_none();
            if self.client_is_done && self.server_is_done {
                return self;
            }
            let arrivals = [self.to_server.next_arrival(), self.to_client.next_arrival()];
            let others = [
                self.answer.as_ref().map(|(at, _)| *at),
                self.person.asks,
                deadline,
            ];
            match arrivals.into_iter().chain(others).flatten().min() {
                Some(next) => self.now = self.now.max(next),
                None => {
                    assert!(waits, "all wait for ever");
                    self.hang_up();
                }
            }
            assert!(
                self.now - began < Duration::from_secs(8 * 3600),
                "it does not end"
            );
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        while let Some(arrival) = self.to_server.take(self.now) {
            match arrival {
                Arrival::Octets(octets) => self.server.receive(self.now, &octets),
                Arrival::End => self.server.disconnected(self.now),
            }
        }
        while let Some(arrival) = self.to_client.take(self.now) {
            match arrival {
                Arrival::Octets(octets) => self.client.receive(&octets),
                Arrival::End => {
                    self.hear();
                    self.hang_up();
                }
            }
        }
        if let Some((_, answer)) = self.answer.take_if(|(at, _)| *at <= self.now) {
            self.server.answer(self.now, answer);
        }
    }

    fn hang_up(&mut self) {
        if !self.client_is_done {
            self.client_is_done = true;
            self.person.asks = None;
            self.to_client.lose();
            self.to_server.end(&mut self.dice, self.now);
        }
    }

    /// Takes what has come of the answer.
    fn hear(&mut self) {
        let person = &mut self.person;
        let was_answered = self.client.is_answered();
        while let Some(part) = self.client.part().unwrap() {
            match part {
                Part::Status(status) => {
                    person.answer.is_ok = status.is_ok;
                    person.answer.line = status.line;
                }
                Part::Text(text) => person.answer.text.extend_from_slice(&text),
            }
        }
        if self.client.is_answered() && !was_answered {
            person.check(&self.owner);
            person.asks = Some(self.now + self.dice.millis(person.pauses_millis));
        }
    }

    fn step_client(&mut self) {
        if self.client_is_done {
            return;
        }
        self.hear();
        if self.person.asks.take_if(|at| *at <= self.now).is_none() {
            return;
        }
        match self.person.request() {
            None => self.hang_up(),
            Some(request) => {
                let octets = self.client.ask(&request);
                if !self.to_server.write(&mut self.dice, self.now, &octets) {
                    self.break_off();
                }
            }
        }
    }

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
                Step::StartTls => panic!("nobody asked for TLS"),
                Step::Wait(deadline) => {
                    assert!(deadline > self.now, "the server waits for what is past");
                    assert!(deadline <= self.now + IDLE_TIMEOUT);
                    return Some(deadline);
                }
                Step::Close => {
                    self.server_is_done = true;
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

/// Plays a seed and gives what came of it, for the counting.
fn play(seed: u64) -> &'static str {
    let play = Play::new(Dice::new(seed)).run();
    let (person, owner) = (&play.person, &play.owner);
    let is_answered = play.client.is_answered();
    // What no answer came to may have been done or not; nothing else.
    let (mut removed, mut delivered) = (person.removed.clone(), person.delivered.clone());
    if !is_answered {
        match &person.asked {
            Some(Request::Delete) if removed != owner.removed => removed.extend(person.shown),
            Some(Request::Message(text)) if delivered != owner.delivered => {
                let octets = text.iter().filter(|&&octet| octet == b'\n').count() + text.len();
                let sent = &play.to_server.written;
                assert!(sent.ends_with(b"\r\n###\r\n") && sent.len() > octets);
                delivered.push(text.strip_suffix(b"###\n").unwrap().to_vec());
            }
            _ => {}
        }
    }
    assert_eq!(removed, owner.removed);
    assert_eq!(delivered, owner.delivered);
    match (&person.asked, is_answered) {
        (_, true) if !delivered.is_empty() => "delivered",
        (_, true) if !removed.is_empty() => "removed",
        (_, true) if person.shown_count > 0 => "shown",
        (Some(Request::Read), false) => "lost in a message",
        (_, true) => "nothing",
        (_, false) => "lost",
    }
}

#[test]
fn what_the_client_is_told_is_what_was_done() {
    let counts = each_seed(SEEDS, play);
    for what in ["delivered", "removed", "shown", "lost in a message", "lost"] {
        let count = counts.get(what).copied().unwrap_or_default();
        assert!(count > SEEDS / 50, "{what}: {counts:?}");
    }
}
