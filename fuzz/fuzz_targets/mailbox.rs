//! A mailbox of records that were written is read back message by message; any file at all is read
//! in one way only.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use minismtp::address::ReversePath;
use minismtp::disk::{Disk as _, File, Open, SimulatedDisk};
use minismtp::mailbox::format::{RECORD_END, Record, Summary, is_record_boundary, last_record_end};
use minismtp::mailbox::index::{HEAD_OCTETS, MessageReader, message, with_crlf};
use minismtp::mailbox::scan::scan;
use minismtp::wire::dot::Encoder;
use minismtp_fuzz::take_octet;

const RECEIVED: &str = "2021-03-22 : 14 : 05";

/// Checks that all ways to read the file agree, and gives the whole records.
fn read(octets: &[u8], file: &dyn File) -> Vec<Vec<u8>> {
    let size = octets.len() as u64;
    let entries = scan(file, 0, size).unwrap();
    let mut end = 0;
    let mut records = Vec::new();
    for entry in &entries {
        assert_eq!(entry.span.offset, end);
        end = entry.span.end();
        assert!(is_record_boundary(file, end).unwrap());
        let range = usize::try_from(entry.span.offset).unwrap()..usize::try_from(end).unwrap();
        let record = &octets[range];
        // One lone full stop is in it, and that is its end.
        let mut lines = record.split_inclusive(|&octet| octet == b'\n');
        let is_end = |line: &[u8]| matches!(line, b".\n" | b".\r\n");
        assert!(lines.next_back().is_some_and(is_end) && !lines.any(is_end));

        let mut text = Vec::new();
        let mut reader = MessageReader::new(file, entry.span).unwrap();
        while reader.next(file, &mut text).unwrap() {}
        assert_eq!(entry.octets, with_crlf(&text));
        let parsed = Record::parse(record);
        // No more than the beginning is looked at for the four lines.
        if parsed.head_octets + 64 < HEAD_OCTETS {
            assert_eq!(message(record), text);
            assert_eq!(parsed.is_full, entry.is_full);
            assert!(text.ends_with(&parsed.content));
        }
        records.push(record.to_vec());
    }
    assert_eq!(last_record_end(file, size).unwrap(), end);
    records
}

fn with_file(octets: &[u8], check: impl FnOnce(&dyn File)) {
    let disk = SimulatedDisk::default();
    let file = disk.open(Path::new("mailbox"), Open::Write).unwrap();
    file.write_at(octets, 0).unwrap();
    check(&*file);
}

/// Any octets are records and perhaps a rest.
fn arbitrary(octets: &[u8]) {
    with_file(octets, |file| {
        read(octets, file);
    });
}

/// Messages, parted by octets of 255, are written as the server does it.
fn written(input: &[u8], choices: u8) {
    let sender = ["<s@h>", "<>", "<\"a b\"@[127.0.0.1]>"][usize::from(choices % 3)];
    let reverse_path = ReversePath::parse(sender).unwrap().0;
    let recipient = ["a@h", "postmaster"][usize::from(choices & 1)];
    let trace = format!("Return-Path: {sender}\nReceived: from c\n\tby h; now\n");
    let (mut file, mut expected) = (Vec::new(), Vec::new());
    for text in input.split(|&octet| octet == 255) {
        // The session lets no CR through and ends the last line.
        let mut text: Vec<u8> = text
            .iter()
            .copied()
            .filter(|&octet| octet != b'\r')
            .collect();
        if text.last().is_some_and(|&octet| octet != b'\n') {
            text.push(b'\n');
        }
        let head = Summary::new(&text, true, &reverse_path, RECEIVED).head(recipient);
        assert_eq!(head.lines.matches('\n').count(), 4);
        let content = match head.plain_body {
            Some(body) => text[body..].to_vec(),
            None => [trace.as_bytes(), &text].concat(),
        };
        file.extend_from_slice(head.lines.as_bytes());
        let mut encoder = Encoder::file();
        encoder.encode(&content, &mut file);
        file.extend_from_slice(RECORD_END);
        expected.push((head.plain_body.is_none(), content));
    }
    with_file(&file, |disk_file| {
        let records = read(&file, disk_file);
        let parsed = records.iter().map(|record| {
            let record = Record::parse(record);
            assert_eq!(record.received, RECEIVED);
            (record.is_full, record.content)
        });
        assert!(parsed.eq(expected));
    });
}

fuzz_target!(|input: &[u8]| {
    let mut octets = input;
    let choices = take_octet(&mut octets);
    match choices >> 5 {
        0 | 1 | 5 => arbitrary(octets),
        2 | 3 | 7 => written(octets, choices),
        // So large a line that the edge of the buffer, 256 KiB, is where the fuzzer likes it.
        4 => {
            let padding = vec![b'x'; 256 * 1024 - 64 + usize::from(take_octet(&mut octets))];
            let at = usize::from(take_octet(&mut octets)).min(octets.len());
            arbitrary(&[&octets[..at], &padding, &octets[at..]].concat());
        }
        _ => {
            let padding = vec![b'x'; 256 * 1024 - 256 + usize::from(take_octet(&mut octets))];
            let at = usize::from(take_octet(&mut octets)).min(octets.len());
            written(&[&octets[..at], &padding, &octets[at..]].concat(), choices);
        }
    }
});
