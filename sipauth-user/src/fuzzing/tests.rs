use std::{collections::BTreeSet, fs, path::PathBuf};

use super::*;
use crate::{auth::Outcome, sip::ParseError};

/// Runs a target over its corpus; the answer is what was in it, in a word each.
fn replay(name: &str) -> BTreeSet<&'static str> {
    let target = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap().1;
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(name);
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(&directory).unwrap_or_else(|error| panic!("no corpus in {}: {error}", directory.display())) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        kinds.insert(target(&fs::read(&path).unwrap()));
    }
    kinds
}

fn holds(name: &str, wanted: &[&str]) {
    let kinds = replay(name);
    let missing: Vec<_> = wanted.iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "the corpus of {name} has none of: {missing:?}");
}

#[test]
fn every_message_of_the_corpus_is_read_as_it_should_and_there_is_one_of_every_fault() {
    holds("message", &["request", "response", "grant"]);
    let faults = [
        ParseError::Empty,
        ParseError::Truncated,
        ParseError::BadStartLine,
        ParseError::BadUri,
        ParseError::BadVersion,
        ParseError::TooManyHeaders,
        ParseError::BadHeader,
        ParseError::BadByte,
        ParseError::Repeated,
        ParseError::MissingHeader,
        ParseError::BadCSeq,
        ParseError::BadContentLength,
        ParseError::ShortBody,
    ];
    holds("message", &faults.map(ParseError::label));
}

#[test]
fn every_header_of_the_corpus_is_read_as_it_should() {
    holds(
        "header",
        &["tag", "list", "params", "credentials", "malformed_credentials", "other"],
    );
}

#[test]
fn no_datagram_of_the_corpus_is_released_without_right_credentials_and_there_are_some_with() {
    let outcomes = [
        Outcome::Authenticated,
        Outcome::InDialog,
        Outcome::PeerOptions,
        Outcome::Challenged,
        Outcome::BadNonce,
        Outcome::RealmMismatch,
        Outcome::AlgorithmMismatch,
        Outcome::QopMismatch,
        Outcome::BadCredentials,
        Outcome::UriMismatch,
        Outcome::UnknownUser,
        Outcome::WrongPassword,
        Outcome::AckNoFlow,
        Outcome::CancelNoFlow,
        Outcome::PeerInitial,
        Outcome::Denied,
        Outcome::UnknownSource,
        Outcome::KeepAlive,
        Outcome::Response,
        Outcome::BadRequest,
        Outcome::Unparseable,
    ];
    holds("credentials", &outcomes.map(Outcome::label));
}

#[test]
fn every_stream_of_the_corpus_is_cut_into_the_same_frames_however_it_arrives() {
    let kinds = [
        "message",
        "messages",
        "ping",
        "incomplete",
        "long_head",
        "long_message",
        "bad_byte",
        "no_length",
        "bad_length",
    ];
    holds("stream", &kinds);
}
