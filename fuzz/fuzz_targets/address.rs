//! What is taken for an address or path is written so that it is read as the same one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minismtp::address::{
    Address, DOMAIN_OCTETS_MAX, ForwardPath, LOCAL_PART_OCTETS_MAX, PATH_OCTETS_MAX, ReversePath,
    is_domain,
};

fn check(address: &Address) {
    let (local_part, domain) = (address.local_part(), address.domain());
    assert!(local_part.len() <= LOCAL_PART_OCTETS_MAX);
    assert!(!domain.is_empty() && domain.len() <= DOMAIN_OCTETS_MAX);
    assert!(!local_part.contains(char::is_control) && !domain.contains(char::is_control));
    assert!(!domain.contains(['@', '<', '>', ' ', '"', '\\']) || domain.starts_with('['));
    assert!(is_domain(domain));
    let written = address.to_string();
    assert_eq!(Address::parse(&written).as_ref(), Ok(address), "{written}");
    assert!(address.is_same_mailbox(address));
    assert_eq!(address.is_ascii(), written.is_ascii());
}

fuzz_target!(|text: &str| {
    if let Ok(address) = Address::parse(text) {
        check(&address);
        // The same within a path, unless its two brackets are too many.
        let path = format!("<{text}>");
        match ForwardPath::parse(&path) {
            Ok((ForwardPath::Address(inside), "")) => assert_eq!(inside, address),
            other => assert!(path.len() > PATH_OCTETS_MAX, "{other:?}"),
        }
    }
    if let Ok((path, rest)) = ForwardPath::parse(text) {
        assert!(text.len() - rest.len() <= PATH_OCTETS_MAX && text.ends_with(rest));
        let written = path.to_string();
        assert!(written.len() <= PATH_OCTETS_MAX);
        assert_eq!(ForwardPath::parse(&written), Ok((path.clone(), "")));
        path.address().map(check);
        // A sender may be whoever may be a recipient, but for the postmaster without a domain.
        match (ReversePath::parse(text), path) {
            (Ok((ReversePath::Address(sender), same)), ForwardPath::Address(recipient)) => {
                assert_eq!((sender, same), (recipient, rest));
            }
            (result, ForwardPath::Postmaster) => assert!(result.is_err()),
            (result, path) => panic!("{path:?} but {result:?}"),
        }
    }
    if let Ok((path, rest)) = ReversePath::parse(text) {
        assert_eq!(
            ReversePath::parse(&path.to_string()),
            Ok((path.clone(), ""))
        );
        assert_eq!(path == ReversePath::Null, text.len() - rest.len() == 2);
    }
});
