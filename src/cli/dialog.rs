//! A dialog with a server, line by line, as people write it in textbooks.

use crate::smtp::Event;
use crate::wire::line::printable;

/// Turns a client's events into lines: `C: ` is the client, `S: ` the server.
#[derive(Debug, Default)]
pub(super) struct Dialog {
    /// Message text is being sent; this is its last line as far as it has come.
    text: Option<Vec<u8>>,
}

impl Dialog {
    /// The lines that an event ends.
    pub(super) fn lines(&mut self, event: &Event) -> Vec<String> {
        if let Event::Text(piece) = event {
            return self.text_lines(piece);
        }
        let mut lines = self.end_of_text();
        match event {
            Event::Command(command) => lines.push(format!("C: {command}")),
            Event::Malformed(line) => lines.push(format!("C: {line}")),
            Event::AuthResponse => lines.push("C: <redacted>".to_owned()),
            Event::Reply(reply) => {
                lines.extend(reply.to_string().lines().map(|line| format!("S: {line}")));
            }
            Event::Secured(version) => lines.push(format!("   (TLS {version})")),
            Event::Content(_) | Event::Text(_) | Event::Silence => {}
        }
        lines
    }

    fn text_lines(&mut self, piece: &[u8]) -> Vec<String> {
        let mut rest = self.text.take().unwrap_or_default();
        rest.extend_from_slice(piece);
        let mut lines = Vec::new();
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', &rest) {
            lines.push(text_line(&rest[start..at]));
            start = at + 1;
        }
        rest.drain(..start);
        self.text = Some(rest);
        lines
    }

    /// Nothing but text follows text until the full stop has been sent.
    fn end_of_text(&mut self) -> Vec<String> {
        let Some(rest) = self.text.take() else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if !rest.is_empty() {
            lines.push(text_line(&rest));
        }
        lines.push("C: .".to_owned());
        lines
    }
}

/// A line of text as it went over the wire, dot-stuffed.
fn text_line(line: &[u8]) -> String {
    let stuffing = if line.starts_with(b".") { "." } else { "" };
    format!("C: {stuffing}{}", printable(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::Command;
    use crate::smtp::reply::Reply;

    #[test]
    fn events_become_lines() {
        let mut dialog = Dialog::default();
        let lines: Vec<_> = [
            Event::Secured("1.3"),
            Event::Reply(Reply::ehlo("mx", "c", "SIZE 1")),
            Event::AuthResponse,
            Event::Command(Command::Data),
            Event::Reply(Reply::START_DATA),
            Event::Text(b"Subject: x\n\n.a\nb".to_vec()),
            Event::Text(b"c\x1b\nd".to_vec()),
            Event::Reply(Reply::OK),
            Event::Text(Vec::new()),
            Event::Reply(Reply::NO_VALID_RECIPIENTS),
        ]
        .iter()
        .flat_map(|event| dialog.lines(event))
        .collect();
        let expected = [
            "   (TLS 1.3)",
            "S: 250-mx greets c",
            "S: 250 SIZE 1",
            "C: <redacted>",
            "C: DATA",
            "S: 354 End data with <CR><LF>.<CR><LF>",
            "C: Subject: x",
            "C: ",
            "C: ..a",
            "C: bc?",
            "C: d",
            "C: .",
            "S: 250 2.0.0 Ok",
            "C: .",
            "S: 554 5.5.1 No valid recipients",
        ];
        assert_eq!(lines, expected);
    }
}
