//! What a token says and what it does not hold for.

use super::*;

const ONE: &str = "one key of 32 or more characters";
const TWO: &str = "two key of 32 or more characters";
const NOW: SystemTime = UNIX_EPOCH;
const KEY: Identity<'static> =
    Identity { account: Some(Uuid::from_u128(7)), by: By::Key { id: Uuid::from_u128(9), scopes: "read+write" } };
const SERVICE: Identity<'static> = Identity { account: None, by: By::Service("generation-worker") };

fn identities(keys: &str) -> Identities {
    Identities::new(&InternalKeys::parse(keys).unwrap())
}

#[test]
fn what_was_signed_is_read_back_by_its_service_for_a_minute() {
    let ours = identities(ONE);
    let of_account = Identity { account: Some(Uuid::from_u128(8)), ..SERVICE };
    for identity in [KEY, SERVICE, of_account] {
        let token = ours.sign_at(&identity, "dashboard", NOW);
        assert_eq!(ours.verify(&token, "dashboard", NOW), Ok(identity));
        assert_eq!(ours.verify(&token, "thumbnail-worker", NOW), Err(Refused::Elsewhere));
        let last = NOW + LIFETIME - Duration::from_secs(1);
        assert_eq!(ours.verify(&token, "dashboard", last), Ok(identity));
        assert_eq!(ours.verify(&token, "dashboard", NOW + LIFETIME), Err(Refused::Expired));
    }
    assert!(KEY.by.has_scope("read") && KEY.by.has_scope("write"));
    assert!(!KEY.by.has_scope("operate") && !KEY.by.has_scope("") && !SERVICE.by.has_scope("generation-worker"));
}

#[test]
fn what_others_signed_or_changed_is_not_believed() {
    let token = identities(ONE).sign_at(&KEY, "dashboard", NOW);
    assert_eq!(identities(TWO).verify(&token, "dashboard", NOW), Err(Refused::Forged));
    let bytes = token.as_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = HeaderValue::from_bytes(&changed).unwrap();
        assert_eq!(identities(ONE).verify(&changed, "dashboard", NOW), Err(Refused::Forged), "byte {at}");
    }
    for at in 0..bytes.len() {
        let cut = HeaderValue::from_bytes(&bytes[..at]).unwrap();
        assert_eq!(identities(ONE).verify(&cut, "dashboard", NOW), Err(Refused::Forged), "cut at {at}");
    }
    // A MAC of another purpose.
    let keys = InternalKeys::parse(ONE).unwrap();
    let signed = &bytes[..bytes.len() - MAC_TEXT];
    let mac = URL_SAFE_NO_PAD.encode(keys.of("tokens of own writes").sign(&[signed]));
    let other = HeaderValue::from_bytes(&[signed, mac.as_bytes()].concat()).unwrap();
    assert_eq!(identities(ONE).verify(&other, "dashboard", NOW), Err(Refused::Forged));
}

#[test]
fn keys_are_changed_with_both_in_the_list() {
    let (old, both, new) = (identities(ONE), identities(&format!("{TWO},{ONE}")), identities(TWO));
    let signs = |by: &Identities| by.sign_at(&SERVICE, "dashboard", NOW);
    assert!(both.verify(&signs(&old), "dashboard", NOW).is_ok());
    assert!(new.verify(&signs(&both), "dashboard", NOW).is_ok());
    assert!(new.verify(&signs(&old), "dashboard", NOW).is_err());
}

#[test]
fn a_token_without_an_account_is_made_once_for_a_while() {
    let shown = Shown::new(&InternalKeys::parse(ONE).unwrap(), By::Service("gateway"));
    let first = shown.to("dashboard", None);
    assert_eq!(shown.to("dashboard", None).as_bytes().as_ptr(), first.as_bytes().as_ptr());
    let account = Some(Uuid::from_u128(7));
    let token = shown.to("dashboard", account);
    let identity = identities(ONE).verify(&token, "dashboard", SystemTime::now()).map(|identity| identity.account);
    assert_eq!(identity, Ok(account));
    assert_ne!(token, first);
}
