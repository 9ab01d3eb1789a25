//! The load: one thread that plays many clients, so that it takes little from the server beside it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// What the clients do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// How many clients there are at once.
    pub(crate) connections: usize,
    /// How many messages they send in all.
    pub(crate) messages: usize,
    /// How large a message's text is, in octets.
    pub(crate) octets: usize,
    /// How many users there are, `user0` and so on; each message goes to the next one.
    pub(crate) mailboxes: usize,
    /// How many recipients a message has.
    pub(crate) recipients: usize,
    /// MAIL, RCPT and DATA in one write (RFC 2920).
    pub(crate) is_pipelined: bool,
    /// A new connection for each message.
    pub(crate) is_reconnecting: bool,
}

/// What came of it.
pub(crate) struct Report {
    /// From the first connection to the last 250.
    pub(crate) seconds: f64,
    /// From each message's final full stop to its 250, sorted.
    pub(crate) waits: Vec<f64>,
}

impl Report {
    /// The wait that this part of all waits does not exceed, in milliseconds.
    pub(crate) fn wait(&self, part: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((self.waits.len() - 1) as f64 * part) as usize;
        self.waits[index] * 1000.0
    }
}

impl Load {
    /// Sends everything.
    pub(crate) fn run(self, address: SocketAddr) -> io::Result<Report> {
        let text = self.text();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut left = self.messages;
        let mut next_mailbox = 0;
        let mut waits = Vec::with_capacity(self.messages);
        let begun = Instant::now();
        let mut clients = Vec::new();
        for number in 0..self.connections.min(self.messages) {
            let client = Client::connect(address)?;
            client.watch(&epoll, number)?;
            clients.push(client);
        }
        let mut events = Vec::with_capacity(clients.len());
        while waits.len() < self.messages {
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), None)?;
            for event in &events {
                let number = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
                let client = &mut clients[number];
                while let Some(at) = client.replied(&text)? {
                    if client.stage == Stage::Text {
                        waits.push(at.elapsed().as_secs_f64());
                        if self.is_reconnecting {
                            client.say(b"QUIT\r\n", 1, Stage::Quit)?;
                            continue;
                        }
                    }
                    if client.stage == Stage::Quit {
                        client.stage = Stage::Done;
                        if left > 0 {
                            *client = Client::connect(address)?;
                            client.watch(&epoll, number)?;
                        }
                        break;
                    }
                    self.go_on(client, &text, &mut left, &mut next_mailbox)?;
                }
            }
        }
        waits.sort_by(f64::total_cmp);
        Ok(Report {
            seconds: begun.elapsed().as_secs_f64(),
            waits,
        })
    }

    fn go_on(
        self,
        client: &mut Client,
        text: &[u8],
        left: &mut usize,
        next_mailbox: &mut usize,
    ) -> io::Result<()> {
        let mut mailbox = || {
            *next_mailbox = (*next_mailbox + 1) % self.mailboxes;
            *next_mailbox
        };
        match client.stage {
            Stage::Greeting => client.say(b"EHLO load.example\r\n", 1, Stage::Hello),
            Stage::Hello | Stage::Text if *left == 0 => {
                client.stage = Stage::Done;
                Ok(())
            }
            Stage::Hello | Stage::Text => {
                *left -= 1;
                client.words.clear();
                client
                    .words
                    .extend_from_slice(b"MAIL FROM:<s@localhost>\r\n");
                if !self.is_pipelined {
                    return client.say_words(1, Stage::Mail(0));
                }
                for _ in 0..self.recipients {
                    write!(client.words, "RCPT TO:<user{}@localhost>\r\n", mailbox())?;
                }
                client.words.extend_from_slice(b"DATA\r\n");
                client.say_words(self.recipients + 2, Stage::Data)
            }
            Stage::Mail(done) if done < self.recipients => {
                client.words.clear();
                write!(client.words, "RCPT TO:<user{}@localhost>\r\n", mailbox())?;
                client.say_words(1, Stage::Mail(done + 1))
            }
            Stage::Mail(_) => client.say(b"DATA\r\n", 1, Stage::Data),
            Stage::Data => {
                client.unsent = 0..text.len();
                client.expected = 1;
                client.stage = Stage::Text;
                client.send(text)
            }
            Stage::Quit | Stage::Done => Ok(()),
        }
    }

    fn text(self) -> Vec<u8> {
        let line = b"All work and no play makes Jack a dull boy, says the proverb.\r\n";
        let mut text = b"From: s@localhost\r\nSubject: load\r\n\r\n".to_vec();
        while text.len() + line.len() <= self.octets {
            text.extend_from_slice(line);
        }
        text.extend_from_slice(b".\r\n");
        text
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Hello,
    /// So many recipients are given.
    Mail(usize),
    Data,
    Text,
    Quit,
    Done,
}

struct Client {
    stream: TcpStream,
    stage: Stage,
    /// Replies to come before the next step.
    expected: usize,
    words: Vec<u8>,
    input: Vec<u8>,
    /// What of the text is not sent yet.
    unsent: std::ops::Range<usize>,
    sent: Instant,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            stage: Stage::Greeting,
            expected: 1,
            words: Vec::new(),
            input: Vec::new(),
            unsent: 0..0,
            sent: Instant::now(),
        })
    }

    fn watch(&self, epoll: &impl std::os::fd::AsFd, number: usize) -> io::Result<()> {
        // Told when something changes, so that a socket that can be written is no news.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(number as u64);
        Ok(epoll::add(epoll, &self.stream, data, flags)?)
    }

    fn say(&mut self, words: &[u8], expected: usize, stage: Stage) -> io::Result<()> {
        (self.expected, self.stage) = (expected, stage);
        self.stream.write_all(words)
    }

    fn say_words(&mut self, expected: usize, stage: Stage) -> io::Result<()> {
        (self.expected, self.stage) = (expected, stage);
        self.stream.write_all(&self.words)
    }

    /// Sends what can be sent of the text.
    fn send(&mut self, text: &[u8]) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&text[self.unsent.clone()]) {
                Ok(sent) => self.unsent.start += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.sent = Instant::now();
        Ok(())
    }

    /// Whether all replies have come, and when the last text was sent.
    fn replied(&mut self, text: &[u8]) -> io::Result<Option<Instant>> {
        if self.stage == Stage::Done {
            return Ok(None);
        }
        self.send_rest(text)?;
        let mut buffer = [0; 4096];
        loop {
            while let Some(end) = self.input.iter().position(|&octet| octet == b'\n') {
                let line = &self.input[..=end];
                let is_last = line.get(3) == Some(&b' ');
                let code = match self.stage {
                    Stage::Greeting => b"220",
                    Stage::Data if self.expected == 1 => b"354",
                    Stage::Quit => b"221",
                    _ => b"250",
                };
                if !line.starts_with(code) {
                    let line = String::from_utf8_lossy(line).into_owned();
                    return Err(io::Error::other(format!("refused: {line}")));
                }
                self.input.drain(..=end);
                if is_last {
                    self.expected -= 1;
                    if self.expected == 0 {
                        return Ok(Some(self.sent));
                    }
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => self.input.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn send_rest(&mut self, text: &[u8]) -> io::Result<()> {
        if self.stage == Stage::Text && !self.unsent.is_empty() {
            self.send(text)?;
        }
        Ok(())
    }
}
