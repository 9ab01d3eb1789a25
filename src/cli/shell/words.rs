//! The words of the shell, and how they are read: at a terminal with line editing, history and
//! completion, or from a pipe as plain lines.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead, IsTerminal, Read};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::cli::report::{ExitStatus, Failure, Output};

/// The longest line that may hold words, in octets.
const LINE_OCTETS_MAX: usize = 4096;

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    ListUsers,
    AddUser(String),
    SetUser(String),
    Read,
    Delete,
    Send(String),
    Done,
    Quit,
}

/// What a line comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Word(Word),
    Nothing,
    /// A word, but not with what it takes.
    Misused(&'static str),
    Unknown,
}

/// Where a person is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Menu {
    /// No mailbox is open.
    Main,
    /// This user's mailbox is open.
    Sub(String),
}

impl Menu {
    pub(super) fn prompt(&self) -> String {
        match self {
            Self::Main => "Main-Prompt> ".to_owned(),
            Self::Sub(user) => format!("Sub-Prompt-{user}> "),
        }
    }

    /// The words there are, as a sentence goes on with them. Listusers and Quit go at both
    /// prompts: where there are passwords, only who is logged in may list the users.
    pub(super) fn options(&self) -> &'static str {
        match self {
            Self::Main => "Listusers, Adduser <userid>, SetUser <userid> and Quit",
            Self::Sub(_) => "Read, Delete, Send <receiverid> and Done; Listusers and Quit go too",
        }
    }

    fn words(&self) -> &'static [&'static str] {
        match self {
            Self::Main => &["Listusers", "Adduser ", "SetUser ", "Quit"],
            Self::Sub(_) => &["Read", "Delete", "Send ", "Done", "Listusers", "Quit"],
        }
    }

    /// Takes a line, its words in any case.
    pub(super) fn parse(&self, line: &str) -> Typed {
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else {
            return Typed::Nothing;
        };
        let word = word.to_ascii_lowercase();
        let argument = words.next().map(str::to_owned);
        let word = match (self, word.as_str(), argument, words.next()) {
            (_, "listusers", None, None) => Word::ListUsers,
            (_, "quit", None, None) => Word::Quit,
            (Self::Main, "adduser", Some(user), None) => Word::AddUser(user),
            (Self::Main, "setuser", Some(user), None) => Word::SetUser(user),
            (Self::Sub(_), "read", None, None) => Word::Read,
            (Self::Sub(_), "delete", None, None) => Word::Delete,
            (Self::Sub(_), "send", Some(receiver), None) => Word::Send(receiver),
            (Self::Sub(_), "done", None, None) => Word::Done,
            _ => {
                let mut words = self.words().iter();
                let known = words.find(|known| known.trim_end().eq_ignore_ascii_case(&word));
                return known.map_or(Typed::Unknown, |known| Typed::Misused(known));
            }
        };
        Typed::Word(word)
    }
}

/// Where lines come from.
pub(super) enum Reader {
    Terminal(Box<Terminal>),
    Pipe(Box<dyn BufRead>),
}

impl Reader {
    /// Standard input. It counts as a terminal only if a person sees the prompts, too.
    pub(super) fn standard() -> Result<Self, Failure> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            return Ok(Self::Terminal(Box::new(Terminal::new()?)));
        }
        Ok(Self::Pipe(Box::new(io::stdin().lock())))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// Says what Tab completes from now on.
    pub(super) fn complete(&mut self, menu: &Menu, users: &BTreeSet<String>) {
        if let Self::Terminal(terminal) = self {
            terminal.complete(menu, users);
        }
    }

    /// The next line of words; `None` at the end of input.
    pub(super) fn line(&mut self, prompt: &str) -> Result<Option<String>, Failure> {
        match self {
            Self::Terminal(terminal) => terminal.line(prompt, true),
            Self::Pipe(input) => {
                let line = plain_line(input, LINE_OCTETS_MAX)?;
                Ok(line.map(|line| String::from_utf8_lossy(&line).into_owned()))
            }
        }
    }

    /// The next line of a message; `None` at the end of input. Of one that has more than
    /// `octets_max` octets, only as much as shows that.
    pub(super) fn text(&mut self, octets_max: usize) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Terminal(terminal) => Ok(terminal.line("", false)?.map(String::into_bytes)),
            Self::Pipe(input) => plain_line(input, octets_max),
        }
    }

    /// Writes a line for a person; a script does without.
    pub(super) fn tell(&self, out: &mut Output, line: &str) -> Result<(), Failure> {
        match self {
            Self::Terminal(_) => out.result(line),
            Self::Pipe(_) => Ok(()),
        }
    }
}

/// A line without its end, LF or CRLF.
fn plain_line(input: &mut dyn BufRead, octets_max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    // Room for CRLF, and one more that tells too long from just right.
    let limit = octets_max as u64 + 3;
    let read = input.take(limit).read_until(b'\n', &mut line);
    if read.map_err(|error| cannot_read(&error))? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}

fn cannot_read(error: &dyn std::error::Error) -> Failure {
    Failure::new(
        ExitStatus::InputOutput,
        format_args!("cannot read from standard input: {error}"),
    )
}

/// A person at a terminal.
pub(super) struct Terminal {
    editor: Editor<Completions, MemHistory>,
    /// Lines that were pasted at once and are still to be taken.
    pasted: VecDeque<String>,
}

impl Terminal {
    fn new() -> Result<Self, Failure> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .build();
        let history = MemHistory::with_config(&config);
        let editor = Editor::with_history(config, history);
        let mut editor = editor.map_err(|error| cannot_read(&error))?;
        editor.set_helper(Some(Completions::default()));
        Ok(Self {
            editor,
            pasted: VecDeque::new(),
        })
    }

    fn complete(&mut self, menu: &Menu, users: &BTreeSet<String>) {
        if let Some(completions) = self.editor.helper_mut() {
            completions.words = menu.words();
            // Cloning ten thousand names takes a millisecond.
            completions.users.clone_from(users);
        }
    }

    /// The next line; only `words` are completed and come back with the arrow keys.
    fn line(&mut self, prompt: &str, words: bool) -> Result<Option<String>, Failure> {
        if let Some(line) = self.pasted.pop_front() {
            return Ok(Some(line));
        }
        if let Some(completions) = self.editor.helper_mut() {
            completions.is_on = words;
        }
        loop {
            match self.editor.readline(prompt) {
                Ok(lines) => {
                    let mut lines = lines.split('\n').map(str::to_owned);
                    let line = lines.next().unwrap_or_default();
                    self.pasted.extend(lines);
                    if words && !line.trim().is_empty() {
                        let added = self.editor.add_history_entry(line.as_str());
                        added.map_err(|error| cannot_read(&error))?;
                    }
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                // Ctrl-C drops the line, as shells have it; in a message, all of it.
                Err(ReadlineError::Interrupted) if words => {}
                Err(ReadlineError::Interrupted) => return Ok(None),
                Err(ReadlineError::Signal(_)) => {}
                Err(error) => return Err(cannot_read(&error)),
            }
        }
    }
}

/// What Tab knows.
#[derive(Default)]
struct Completions {
    is_on: bool,
    /// A word that wants an argument ends in a space.
    words: &'static [&'static str],
    users: BTreeSet<String>,
}

impl Completer for Completions {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..position]))
    }
}

impl Completions {
    /// Where the word that is being typed begins, and what it may become.
    fn candidates(&self, typed: &str) -> (usize, Vec<String>) {
        let start = typed.rfind(' ').map_or(0, |at| at + 1);
        let begins = |name: &str| {
            let begin = name.get(..typed.len() - start);
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(&typed[start..]))
        };
        let word = typed[..start].trim();
        let wants_user = || self.words.iter().any(|known| is_with_user(known, word));
        let candidates = if !self.is_on {
            Vec::new()
        } else if word.is_empty() {
            let words = self.words.iter().filter(|word| begins(word));
            words.map(|&word| word.to_owned()).collect()
        } else if wants_user() {
            let users = self.users.iter().filter(|user| begins(user));
            users.cloned().collect()
        } else {
            Vec::new()
        };
        (start, candidates)
    }
}

/// Whether this is the word, and one that wants a user id.
fn is_with_user(known: &str, word: &str) -> bool {
    let name = known.strip_suffix(' ');
    name.is_some_and(|name| name.eq_ignore_ascii_case(word))
}

impl Hinter for Completions {
    type Hint = String;
}
impl Highlighter for Completions {}
impl Validator for Completions {}
impl Helper for Completions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_in_any_case_and_with_their_arguments() {
        let sub = Menu::Sub("a".into());
        let user = || "Andrew".to_owned();
        for (menu, line, expected) in [
            (&Menu::Main, "Listusers", Some(Word::ListUsers)),
            (&Menu::Main, " LISTUSERS ", Some(Word::ListUsers)),
            (&Menu::Main, "adduser Andrew", Some(Word::AddUser(user()))),
            (&Menu::Main, "SETUSER\tAndrew", Some(Word::SetUser(user()))),
            (&Menu::Main, "Quit", Some(Word::Quit)),
            (&Menu::Main, "Read", None),
            (&Menu::Main, "xyzzy", None),
            (&sub, "read", Some(Word::Read)),
            (&sub, "Delete", Some(Word::Delete)),
            (&sub, "SEND Andrew", Some(Word::Send(user()))),
            (&sub, "Done", Some(Word::Done)),
            (&sub, "listusers", Some(Word::ListUsers)),
            (&sub, "Quit", Some(Word::Quit)),
            (&sub, "SetUser b", None),
        ] {
            let expected = expected.map_or(Typed::Unknown, Typed::Word);
            assert_eq!(menu.parse(line), expected, "{line}");
        }
        for (menu, line, expected) in [
            (&Menu::Main, "Listusers all", "Listusers"),
            (&Menu::Main, "adduser", "Adduser "),
            (&Menu::Main, "Adduser a b", "Adduser "),
            (&sub, "Delete 1", "Delete"),
            (&sub, "Send", "Send "),
        ] {
            assert_eq!(menu.parse(line), Typed::Misused(expected), "{line}");
        }
        assert_eq!(sub.parse("  "), Typed::Nothing);
    }

    #[test]
    fn tab_completes_words_and_then_user_ids() {
        let mut completions = Completions {
            is_on: true,
            words: Menu::Main.words(),
            users: ["Andrew", "Anna", "Jürgen"].map(str::to_owned).into(),
        };
        for (typed, start, expected) in [
            ("", 0, &["Listusers", "Adduser ", "SetUser ", "Quit"][..]),
            ("l", 0, &["Listusers"]),
            ("x", 0, &[]),
            ("setuser ", 8, &["Andrew", "Anna", "Jürgen"]),
            ("SetUser an", 8, &["Andrew", "Anna"]),
            ("SetUser Jür", 8, &["Jürgen"]),
            ("SetUser J", 8, &["Jürgen"]),
            ("Listusers A", 10, &[]),
            ("SetUser Anna A", 13, &[]),
        ] {
            let expected = (
                start,
                expected.iter().map(|&word| word.to_owned()).collect(),
            );
            assert_eq!(completions.candidates(typed), expected, "{typed:?}");
        }
        completions.is_on = false;
        assert_eq!(completions.candidates("l"), (0, Vec::new()));
    }

    #[test]
    fn plain_lines_have_either_end_or_none() {
        let mut input = &b"a\r\nb\n\n\xff\rc"[..];
        let lines: Vec<_> = std::iter::from_fn(|| plain_line(&mut input, 10).unwrap()).collect();
        assert_eq!(lines, [&b"a"[..], b"b", b"", b"\xff\rc"]);
    }
}
