//! A typed mail that is taken becomes a message that says what was typed and that SMTP can carry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minismtp::message::draft::{
    Draft, DraftError, DraftReader, LINE_OCTETS_MAX, Progress, SUBJECT_CHARACTERS_MAX,
};
use minismtp::message::header::Section;
use minismtp_fuzz::lines;

fn read(text: &[u8]) -> (Result<Draft, DraftError>, usize) {
    let mut reader = DraftReader::default();
    let mut count = 0;
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        count += 1;
        if reader.line(line) == Progress::Complete {
            break;
        }
    }
    (reader.finish(), count)
}

fn check(text: &[u8]) {
    let (result, count) = read(text);
    let draft = match result {
        Ok(draft) => draft,
        Err(error) => {
            assert!(error.line >= 1 && error.line <= count + 1);
            assert!(!error.to_string().contains(['\n', '\r', '\0']));
            return;
        }
    };
    let typed: Vec<&[u8]> = lines(text).collect();
    let end = typed
        .iter()
        .position(|line| *line == b".")
        .unwrap_or(typed.len());
    let body: Vec<u8> = typed[3..end]
        .iter()
        .flat_map(|line| [line, &b"\n"[..]].concat())
        .collect();
    assert_eq!(draft.body, body);
    let subject = draft.subject.clone();
    assert!(subject.chars().count() <= SUBJECT_CHARACTERS_MAX);
    assert!(
        typed[2].ends_with(subject.as_bytes())
            || typed[2].ends_with(b" ")
            || typed[2].ends_with(b"\t")
    );
    let (from, to) = (draft.from.to_string(), draft.to.to_string());

    let message = draft.into_message();
    let text = &message.text;
    assert!(!text.iter().any(|octet| b"\r\0".contains(octet)));
    assert!(lines(text).all(|line| line.len() <= LINE_OCTETS_MAX));
    let line_feeds = text.iter().filter(|&&octet| octet == b'\n').count();
    assert_eq!(message.octets(), (text.len() + line_feeds) as u64);
    assert_eq!(
        message.envelope.reverse_path.to_string(),
        format!("<{from}>")
    );
    let recipients = message
        .envelope
        .forward_paths
        .iter()
        .map(ToString::to_string);
    assert_eq!(recipients.collect::<Vec<_>>(), [format!("<{to}>")]);

    let section = Section::parse(text);
    assert_eq!(&text[section.body..], body);
    let value = |name| {
        let values: Vec<String> = section
            .named(name)
            .map(|field| field.readable(1000))
            .collect();
        assert_eq!(values.len(), 1, "{name}");
        values.into_iter().next().unwrap_or_default()
    };
    assert_eq!((value("From"), value("To")), (from, to));
    // An encoded word that was typed stands for itself and is read as what it encodes.
    if !subject.contains("=?") {
        assert_eq!(value("Subject"), subject.replace('\t', " "));
    }
    assert_eq!(section.fields.len(), if body.is_ascii() { 3 } else { 6 });
    assert!(
        section
            .fields
            .iter()
            .all(|field| message.has_utf8_header || field.value.is_ascii())
    );
}

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&[b"From: a@b\nTo: c@d\n", input].concat());
});
