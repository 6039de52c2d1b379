//! What a log line may show of a provider's answer: its first 200 characters, without secrets.
//!
//! A `data:` URI and the address of an input's file are as secret as a credential.
//!
//! Invariant: secrets are taken out of the whole answer before it is cut, so that no cut leaves half of one. Ours is known and
//! taken out wherever it stands; others are taken out by what announces them (`Bearer`, `"token":`, `whsec_`), by being long and
//! opaque, and by being the query of an address, which is what signed addresses are signed with.

/// The longest excerpt, in characters.
const MAX_CHARS: usize = 200;
/// What stands where a secret was.
const REDACTED: &str = "[redacted]";
/// Words that announce a secret, in lower case and without `-` and `_`.
const ANNOUNCING: [&str; 12] = [
    "authorization",
    "bearer",
    "basic",
    "key",
    "apikey",
    "token",
    "accesstoken",
    "secret",
    "password",
    "signature",
    "credential",
    "cookie",
];
/// What secrets of known kinds begin with: webhook secrets, Replicate's tokens, JSON Web Tokens.
const PREFIXES: [&str; 3] = ["whsec_", "r8_", "eyJ"];
/// In paths of addresses that are secret.
const SECRET_PATHS: [&str; 2] = ["/fetch/", "/files/"];
/// Shorter words behind an announcing one are prose: "key prompt is missing".
const MIN_ANNOUNCED: usize = 8;
/// An opaque word of this length is a credential rather than a name.
const MIN_OPAQUE: usize = 40;

/// The excerpt of an answer's body; `credential` is what the provider was called with.
pub(super) fn of_body(body: &[u8], credential: &str) -> String {
    of_text(&String::from_utf8_lossy(body), credential)
}

fn of_text(text: &str, credential: &str) -> String {
    let text = if credential.is_empty() { text.to_owned() } else { text.replace(credential, REDACTED) };
    let text = without_data(&text);
    let mut shown = String::new();
    let (mut word, mut announced) = (String::new(), false);
    // The last character ends the last word.
    for char in text.chars().chain([' ']) {
        let char = if char.is_control() || char.is_whitespace() { ' ' } else { char };
        if !is_delimiter(char) {
            word.push(char);
            continue;
        }
        if !word.is_empty() {
            shown.push_str(&redact(&word, announced));
            // `"token": "…"`: the colon stands between the two.
            announced = announces(&word) || (announced && word == ":");
            word.clear();
        }
        if !(char == ' ' && (shown.is_empty() || shown.ends_with(' '))) {
            shown.push(char);
        }
    }
    shown.trim_end().chars().take(MAX_CHARS).collect()
}

/// The text with `data:[redacted]` in the place of each `data:` URI.
fn without_data(text: &str) -> String {
    let mut parts = text.split("data:");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | '\\' | '<' | '>'))
            .unwrap_or(part.len());
        // `data:` with a media type; else it is prose.
        let (uri, rest) = part.split_at(end);
        let hidden = if uri.contains(',') && uri.contains('/') { REDACTED } else { uri };
        shown.push_str("data:");
        shown.push_str(hidden);
        shown.push_str(rest);
    }
    shown
}

fn is_delimiter(char: char) -> bool {
    matches!(char, ' ' | '"' | '\'' | '`' | ',' | ';' | '{' | '}' | '[' | ']' | '(' | ')' | '<' | '>' | '\\')
}

/// Whether the next word is a secret.
fn announces(word: &str) -> bool {
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ANNOUNCING.iter().any(|announcing| plain.ends_with(announcing))
}

fn redact(word: &str, announced: bool) -> String {
    // The brackets around what was taken out already are delimiters.
    if REDACTED[1..].starts_with(word) {
        return word.to_owned();
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        return redact_address(scheme, rest);
    }
    if let Some((name, value)) = word.split_once(['=', ':'])
        && announces(name)
        && !value.is_empty()
    {
        return format!("{name}{}{REDACTED}", &word[name.len()..=name.len()]);
    }
    let secret = (announced && word.len() >= MIN_ANNOUNCED)
        || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
        || (word.len() >= MIN_OPAQUE && is_opaque(word));
    if secret { REDACTED.to_owned() } else { word.to_owned() }
}

/// An address without its query, its fragment and whoever logs in with it.
fn redact_address(scheme: &str, rest: &str) -> String {
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (shown, hidden) = rest.split_at(end);
    let path = shown.find('/').unwrap_or(shown.len());
    let host = shown[..path].rfind('@').map_or(0, |at| at + 1);
    // Links of ours, and files in providers' storage, are secret by their paths.
    if SECRET_PATHS.iter().any(|beginning| shown[path..].contains(beginning)) {
        return format!("{scheme}://{}/{REDACTED}", &shown[host..path]);
    }
    let query = if hidden.is_empty() { String::new() } else { format!("?{REDACTED}") };
    format!("{scheme}://{}{query}", &shown[host..])
}

/// Whether a word is one run of letters and digits, as keys and signatures are and prose, paths and times are not.
fn is_opaque(word: &str) -> bool {
    let characters = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '+' | '=' | '.');
    word.chars().all(characters) && word.chars().any(|char| char.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_is_shown_without_what_it_may_have_repeated() {
        let ours = "double-token";
        for (body, shown) in [
            (r#"{"detail": "Invalid token double-token given"}"#, r#"{"detail": "Invalid token [redacted] given"}"#),
            (r#"{"detail":"You did not pass a token"}"#, r#"{"detail":"You did not pass a token"}"#),
            ("Authorization: Bearer abcdefgh12", "Authorization: Bearer [redacted]"),
            (r#"{"api_key": "12345678"}"#, r#"{"api_key": "[redacted]"}"#),
            (r#"{"api-key":"12345678","seed":7}"#, r#"{"api-key":"[redacted]","seed":7}"#),
            ("secret=1234 failed", "secret=[redacted] failed"),
            ("signed by whsec_MfKQ", "signed by [redacted]"),
            ("see https://u:p@x.test/a.mp4?sig=abc#t now", "see https://x.test/a.mp4?[redacted] now"),
            (r#"{"image": "data:image/png;base64,iVBOR/w0KG+go=", "n": 1}"#, r#"{"image": "data:[redacted]", "n": 1}"#),
            ("no data: at all", "no data: at all"),
            ("GET https://r.test/fetch/17/ab/c.png failed", "GET https://r.test/[redacted] failed"),
            ("https://v3.fal.media/files/b/x.png", "https://v3.fal.media/[redacted]"),
            ("id 80e732af-660e-45cd-bd63-580e4f2a94cc", "id 80e732af-660e-45cd-bd63-580e4f2a94cc"),
            ("two\n\n  lines\tand a tab ", "two lines and a tab"),
            ("", ""),
        ] {
            assert_eq!(of_body(body.as_bytes(), ours), shown, "{body}");
        }
        let opaque = "a1".repeat(20);
        assert_eq!(of_body(opaque.as_bytes(), ours), REDACTED);
    }

    #[test]
    fn an_excerpt_has_200_characters_and_no_half_of_a_secret() {
        let body = format!("{} double-token", "ä".repeat(195));
        let shown = of_body(body.as_bytes(), "double-token");
        assert_eq!(shown.chars().count(), 200);
        assert!(!shown.contains("doub"), "{shown}");
        assert_eq!(of_body(&[0xFF, b'x'], ""), "\u{FFFD}x");
    }
}
