//! A raw client for mailbox access: it can say anything, in any pieces, and reads strictly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::sandbox::PATIENCE;

/// A connection, from the client's side.
pub(crate) struct Pop {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Pop {
    /// Connects; the greeting is not read.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let input = BufReader::new(stream.try_clone().unwrap());
        Self { stream, input }
    }

    /// Writes these octets.
    #[track_caller]
    pub(crate) fn raw(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).unwrap();
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

    /// Sends a command and fails unless the first line of the answer begins so; gives the line.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, answer: &str) -> String {
        self.line(command);
        let line = self.answer();
        assert!(line.starts_with(answer), "{command}: got {line:?}");
        line
    }

    /// Reads the next line and fails unless it begins so.
    #[track_caller]
    pub(crate) fn expect(&mut self, answer: &str) -> String {
        let line = self.answer();
        assert!(
            line.starts_with(answer),
            "expected {answer:?}, got {line:?}"
        );
        line
    }

    /// Reads a status line, without CRLF.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> String {
        let line = self.read_line();
        let word = line.split(' ').next().unwrap_or_default();
        assert!(
            matches!(word, "+OK" | "-ERR" | "+"),
            "{line:?} is no status"
        );
        // RFC 2449 §8: what is in brackets is a response code, and only known ones are sent.
        if let Some((_, text)) = line
            .split_once(' ')
            .filter(|(_, text)| text.starts_with('['))
        {
            let code = text[1..].split(']').next().unwrap_or_default();
            let known = [
                "AUTH",
                "IN-USE",
                "LOGIN-DELAY",
                "SYS/TEMP",
                "SYS/PERM",
                "UTF8",
            ];
            assert!(known.contains(&code), "unknown response code: {line:?}");
        }
        line
    }

    /// Reads a line that must end in CRLF, and gives it without.
    #[track_caller]
    pub(crate) fn read_line(&mut self) -> String {
        let octets = self.octets();
        let text = octets.strip_suffix(b"\r\n");
        let text = text.unwrap_or_else(|| panic!("a line without CRLF: {octets:?}"));
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[track_caller]
    fn octets(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line).unwrap();
        assert!(!line.is_empty(), "the server closed");
        line
    }

    /// Reads text up to the lone full stop: unstuffed, its lines ended by CRLF.
    #[track_caller]
    pub(crate) fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            let line = self.octets();
            assert!(line.ends_with(b"\r\n"), "a line without CRLF: {line:?}");
            if line == b".\r\n" {
                return text;
            }
            assert!(
                !line.starts_with(b".") || line.starts_with(b".."),
                "a line that is not stuffed: {line:?}"
            );
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Sends a command with a multi-line answer; gives its text.
    #[track_caller]
    pub(crate) fn ask_text(&mut self, command: &str) -> Vec<u8> {
        self.ask(command, "+OK");
        self.text()
    }

    /// Sends a command with a multi-line answer; gives its lines.
    #[track_caller]
    pub(crate) fn ask_lines(&mut self, command: &str) -> Vec<String> {
        let text = String::from_utf8(self.ask_text(command)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Sends USER and PASS, which must succeed.
    #[track_caller]
    pub(crate) fn login(&mut self, user: &str, password: &str) {
        self.ask(&format!("USER {user}"), "+OK");
        self.ask(&format!("PASS {password}"), "+OK");
    }

    /// Sends QUIT and waits for the end.
    #[track_caller]
    pub(crate) fn quit(mut self) {
        self.ask("QUIT", "+OK");
        self.expect_end();
    }

    /// Hands a message to SEND; gives the answer to it.
    #[track_caller]
    pub(crate) fn send(&mut self, receiver: &str, text: &str) -> String {
        self.ask(&format!("SEND {receiver}"), "+OK");
        self.raw(text);
        self.answer()
    }

    /// Fails unless the server says nothing more and closes.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.rest(), "", "expected the end of the connection");
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

    /// Reads and counts octets up to the end of a multi-line answer, holding none of them.
    #[track_caller]
    pub(crate) fn count_text(&mut self) -> u64 {
        let mut octets = 0;
        loop {
            let line = self.octets();
            if line == b".\r\n" {
                return octets;
            }
            octets += line.len() as u64;
            octets -= u64::from(line.starts_with(b".."));
        }
    }
}
