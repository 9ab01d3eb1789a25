//! A raw SMTP client: it can say anything, in any pieces, and reads replies line by line.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sandbox::PATIENCE;

/// A connection, from the client's side.
pub(crate) struct Smtp {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

/// A reply: its lines, without CRLF.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) lines: Vec<String>,
}

impl Reply {
    /// The three digits.
    pub(crate) fn code(&self) -> u16 {
        self.lines[0][..3].parse().unwrap()
    }

    /// Fails unless every line begins so (`-` counts as a space).
    #[track_caller]
    pub(crate) fn expect(self, prefix: &str) -> Self {
        let same = |line: &String| line.replacen('-', " ", 1).starts_with(prefix);
        assert!(
            self.lines.iter().all(same),
            "expected {prefix:?}, got {self}"
        );
        self
    }

    /// The id in `queued as <id>`.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        let id = self.lines[0].strip_prefix("250 2.0.0 Ok: queued as ");
        id.unwrap_or_else(|| panic!("no id in {self}")).to_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lines)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Smtp {
    /// Connects; the greeting is not read.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let input = BufReader::new(stream.try_clone().unwrap());
        Self { stream, input }
    }

    /// The connection, for another thread.
    pub(crate) fn stream(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Writes these octets.
    #[track_caller]
    pub(crate) fn raw(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).unwrap();
    }

    /// Writes these octets, each by itself.
    #[track_caller]
    pub(crate) fn trickle(&mut self, octets: impl AsRef<[u8]>) {
        for octet in octets.as_ref() {
            self.raw([*octet]);
        }
    }

    /// Writes these octets if the peer still listens.
    pub(crate) fn try_raw(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).ok();
    }

    /// Writes a line and CRLF.
    #[track_caller]
    pub(crate) fn line(&mut self, line: &str) {
        self.raw(format!("{line}\r\n"));
    }

    /// Sends a command and fails unless the reply begins so.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, reply: &str) -> Reply {
        self.line(command);
        self.reply_to(command).expect(reply)
    }

    /// Reads the next reply and fails unless it begins so.
    #[track_caller]
    pub(crate) fn expect(&mut self, prefix: &str) -> Reply {
        self.reply_to("").expect(prefix)
    }

    /// Reads the next reply.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_to("")
    }

    #[track_caller]
    fn reply_to(&mut self, command: &str) -> Reply {
        self.try_reply()
            .unwrap_or_else(|wrong| panic!("no reply to {command:?}: {wrong}"))
    }

    /// Reads the next reply; says what came instead if none did.
    pub(crate) fn try_reply(&mut self) -> Result<Reply, String> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let line = self
                .read_line()?
                .ok_or_else(|| format!("closed after {lines:?}"))?;
            let digits = line.get(..3).filter(|code| code.parse::<u16>().is_ok());
            let more = line.as_bytes().get(3);
            if digits.is_none() || !matches!(more, Some(b' ' | b'-')) {
                return Err(format!("{line:?} is no reply"));
            }
            let last = more == Some(&b' ');
            lines.push(line);
            if last && lines.iter().all(|line| line[..3] == lines[0][..3]) {
                return Ok(Reply { lines });
            }
            if last {
                return Err(format!("codes differ in one reply: {lines:?}"));
            }
        }
    }

    /// Reads a line that must end in CRLF; `None` at the end of the stream.
    pub(crate) fn read_line(&mut self) -> Result<Option<String>, String> {
        let mut line = Vec::new();
        self.input
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        if line.is_empty() {
            return Ok(None);
        }
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(format!(
                "a line without CRLF: {:?}",
                String::from_utf8_lossy(&line)
            ));
        };
        String::from_utf8(text.to_vec())
            .map(Some)
            .map_err(|error| error.to_string())
    }

    /// Fails unless the server says nothing more and closes.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest();
        assert_eq!(rest, "", "expected the end of the connection");
    }

    /// Everything the server still says until it closes.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.input.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server does not close: {error}, after {rest:?}"),
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Says that nothing more will come, but goes on reading.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends MAIL and RCPT, each of which must be accepted.
    #[track_caller]
    pub(crate) fn envelope(&mut self, from: &str, to: &[&str]) {
        self.ask(&format!("MAIL FROM:<{from}>"), "250 2.1.0");
        for to in to {
            self.ask(&format!("RCPT TO:<{to}>"), "250 2.1.5");
        }
    }

    /// Sends DATA and this content, already stuffed, which must end in CRLF; gives the reply.
    #[track_caller]
    pub(crate) fn data(&mut self, content: impl AsRef<[u8]>) -> Reply {
        self.ask("DATA", "354 ");
        self.raw([content.as_ref(), b".\r\n"].concat());
        self.reply_to("the final dot")
    }

    /// Delivers one message, content with LF or CRLF line ends and not stuffed; gives its id.
    #[track_caller]
    pub(crate) fn deliver(&mut self, from: &str, to: &[&str], content: impl AsRef<[u8]>) -> String {
        self.envelope(from, to);
        self.data(wire(content))
            .expect("250 2.0.0 Ok: queued as ")
            .id()
    }

    /// Logs in with AUTH PLAIN; gives the reply.
    #[track_caller]
    pub(crate) fn login(&mut self, user: &str, password: &str) -> Reply {
        let response = plain(user, password);
        self.line(&format!("AUTH PLAIN {response}"));
        self.reply_to("AUTH PLAIN")
    }
}

/// The PLAIN message of a user and password, in base64.
pub(crate) fn plain(user: &str, password: &str) -> String {
    base64(format!("\0{user}\0{password}"))
}

/// Base64.
pub(crate) fn base64(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

/// Content as it goes over the wire: CRLF line ends, dots stuffed, an end to the last line.
pub(crate) fn wire(content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for line in content.as_ref().split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    out
}
