//! Text that comes from outside and ends up in messages, on the console or in a header.

/// Longest text of a guardian that goes into a message, characters.
pub const TEXT_LIMIT: usize = 200;
/// Longest node id, bytes.
pub const NODE_ID_LIMIT: usize = 64;

/// What may be shown of a text that somebody else wrote: printable ASCII, everything else as `?`, cut at
/// [`TEXT_LIMIT`]. A console interprets escape sequences and a reader is misled by invisible characters.
pub fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(TEXT_LIMIT)
        .map(|character| if matches!(character, ' '..='~') { character } else { '?' })
        .collect();
    if text.chars().nth(TEXT_LIMIT).is_some() {
        shown.truncate(TEXT_LIMIT - 3);
        shown.push_str("...");
    }
    shown
}

/// Whether this is a node id: 1 to 64 characters of `[A-Za-z0-9._-]`, such as `node-10.0.0.4`.
pub fn is_node_id(text: &str) -> bool {
    (1..=NODE_ID_LIMIT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_long_texts_are_tamed() {
        assert_eq!(printable("share revoked"), "share revoked");
        assert_eq!(printable("\x1b[2Jgone\n\0\u{202e}é"), "?[2Jgone????");
        assert_eq!(printable(&"a".repeat(200)), "a".repeat(200));
        assert_eq!(printable(&"a".repeat(201)), format!("{}...", "a".repeat(197)));
        assert_eq!(printable(&"é".repeat(100_000)).len(), 200);
    }

    #[test]
    fn node_ids() {
        for good in ["node-10.0.0.4", "a", "A_b", &"x".repeat(64)] {
            assert!(is_node_id(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "node\n", "nöde", &"x".repeat(65)] {
            assert!(!is_node_id(bad), "{bad:?}");
        }
    }
}
