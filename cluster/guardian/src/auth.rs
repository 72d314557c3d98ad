//! Challenges and sessions: nothing is kept but one secret of this process, everything else travels with the
//! client under an HMAC tag. A restart makes a new secret and so ends every session.

use hmac::{Hmac, KeyInit, Mac};
use orama_protocol::guardian::{CHALLENGE_SECONDS, Challenge, SESSION_SECONDS, Session, SessionRequest};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::names::Identity;

const NANOSECONDS: i128 = 1_000_000_000;
/// Longest session token read: identity, an i128 and a tag with two colons.
const TOKEN_LIMIT: usize = 64 + 1 + 40 + 1 + 64;

/// Why a challenge was not answered with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("identity must be 64 lowercase hex characters")]
    Identity,
    #[error("the challenge is not from this guardian")]
    Tag,
    #[error("the challenge is older than 60 s")]
    Expired,
}

/// Why a session token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the X-Session-Token header is missing")]
    Missing,
    #[error("a session token has the form <identity>:<expiry_ns>:<tag>")]
    Form,
    #[error("the session is not from this guardian")]
    Tag,
    #[error("the session has expired")]
    Expired,
}

/// The secret that tags are made with.
pub(crate) struct Authority {
    secret: Zeroizing<[u8; 32]>,
}

impl Authority {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut_slice())?;
        Ok(Self { secret })
    }

    /// Tag over text fields that cannot contain a newline; `kind` keeps a challenge's tag from being a
    /// session's.
    fn tag(&self, kind: &str, fields: &[&str]) -> String {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.secret.as_slice())
            .expect("HMAC takes keys of any length");
        mac.update(kind.as_bytes());
        for field in fields {
            mac.update(b"\n");
            mac.update(field.as_bytes());
        }
        hex(&mac.finalize().into_bytes())
    }

    pub(crate) fn challenge(&self, identity: &Identity, now_ns: i128) -> Result<Challenge, getrandom::Error> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce)?;
        let nonce = hex(&nonce);
        let tag = self.tag("challenge", &[identity.as_str(), &nonce, &now_ns.to_string()]);
        Ok(Challenge { nonce, created_ns: now_ns, tag })
    }

    pub(crate) fn session(&self, request: &SessionRequest, now_ns: i128) -> Result<Session, SessionError> {
        let identity = Identity::parse(&request.identity).ok_or(SessionError::Identity)?;
        if request.nonce.len() != 64 || !request.nonce.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(SessionError::Tag);
        }
        let created = request.created_ns.to_string();
        let expected = self.tag("challenge", &[identity.as_str(), &request.nonce, &created]);
        if !same(&expected, &request.tag) {
            return Err(SessionError::Tag);
        }
        // The tag is right, so created_ns is ours and lies in the past of this process.
        if now_ns - request.created_ns > i128::from(CHALLENGE_SECONDS) * NANOSECONDS {
            return Err(SessionError::Expired);
        }
        let expiry_ns = now_ns + i128::from(SESSION_SECONDS) * NANOSECONDS;
        let tag = self.tag("session", &[identity.as_str(), &expiry_ns.to_string()]);
        Ok(Session { identity: identity.as_str().to_owned(), expiry_ns, tag })
    }

    /// Whose session a token is.
    pub(crate) fn verify(&self, token: Option<&[u8]>, now_ns: i128) -> Result<Identity, TokenError> {
        let token = token.ok_or(TokenError::Missing)?;
        if token.len() > TOKEN_LIMIT {
            return Err(TokenError::Form);
        }
        let token = std::str::from_utf8(token).map_err(|_| TokenError::Form)?;
        let mut parts = token.split(':');
        let (Some(identity), Some(expiry), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Form);
        };
        let identity = Identity::parse(identity).ok_or(TokenError::Form)?;
        let expiry_ns: i128 = expiry.parse().map_err(|_| TokenError::Form)?;
        if !same(&self.tag("session", &[identity.as_str(), expiry]), tag) {
            return Err(TokenError::Tag);
        }
        if now_ns >= expiry_ns {
            return Err(TokenError::Expired);
        }
        Ok(identity)
    }
}

fn same(expected: &str, found: &str) -> bool {
    expected.as_bytes().ct_eq(found.as_bytes()).into()
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i128 = 1_763_800_000_123_456_789;
    const SECOND: i128 = NANOSECONDS;

    fn identity(digit: char) -> Identity {
        Identity::parse(&String::from(digit).repeat(64)).unwrap()
    }

    fn answer(identity: &Identity, challenge: Challenge) -> SessionRequest {
        let Challenge { nonce, created_ns, tag } = challenge;
        SessionRequest { identity: identity.as_str().to_owned(), nonce, created_ns, tag }
    }

    fn token(session: &Session) -> String {
        format!("{}:{}:{}", session.identity, session.expiry_ns, session.tag)
    }

    fn verify(authority: &Authority, token: &str, now: i128) -> Result<(), TokenError> {
        authority.verify(Some(token.as_bytes()), now).map(|_| ())
    }

    #[test]
    fn a_challenge_lives_60_seconds_and_a_session_an_hour() {
        let authority = Authority::new().unwrap();
        let alice = identity('a');
        let request = answer(&alice, authority.challenge(&alice, NOW).unwrap());
        assert!(authority.session(&request, NOW + 60 * SECOND).is_ok());
        let late = authority.session(&request, NOW + 60 * SECOND + 1).err();
        assert_eq!(late, Some(SessionError::Expired));

        let token = token(&authority.session(&request, NOW).unwrap());
        assert_eq!(verify(&authority, &token, NOW + 3600 * SECOND - 1), Ok(()));
        assert_eq!(verify(&authority, &token, NOW + 3600 * SECOND), Err(TokenError::Expired));
        let whose = authority.verify(Some(token.as_bytes()), NOW).unwrap();
        assert!(whose == alice);
    }

    #[test]
    fn every_field_is_under_the_tag() {
        let authority = Authority::new().unwrap();
        let alice = identity('a');
        let good = || answer(&alice, authority.challenge(&alice, NOW).unwrap());
        let refuse = |edit: fn(&mut SessionRequest)| {
            let mut request = good();
            edit(&mut request);
            authority.session(&request, NOW).err()
        };
        assert_eq!(refuse(|r| r.created_ns += 1), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.created_ns = i128::MAX), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.created_ns = i128::MIN), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.nonce = "0".repeat(64)), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.nonce = "\n".repeat(64)), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.identity = "b".repeat(64)), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.identity = "A".repeat(64)), Some(SessionError::Identity));
        assert_eq!(refuse(|r| r.tag.clear()), Some(SessionError::Tag));
        assert_eq!(refuse(|r| r.tag = "0".repeat(64)), Some(SessionError::Tag));
        assert_eq!(refuse(|_| ()), None);
    }

    #[test]
    fn tokens_of_others_and_broken_tokens_open_nothing() {
        let authority = Authority::new().unwrap();
        let alice = identity('a');
        let request = answer(&alice, authority.challenge(&alice, NOW).unwrap());
        let session = authority.session(&request, NOW).unwrap();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let Session { expiry_ns, tag, .. } = &session;
        assert_eq!(verify(&authority, &format!("{b}:{expiry_ns}:{tag}"), NOW), Err(TokenError::Tag));
        assert_eq!(verify(&authority, &format!("{a}:{}:{tag}", expiry_ns + 1), NOW), Err(TokenError::Tag));
        assert_eq!(verify(&authority, &format!("{a}:+{expiry_ns}:{tag}"), NOW), Err(TokenError::Tag));
        // A challenge's tag is no session's.
        let forged = format!("{a}:{}:{}", request.created_ns, request.tag);
        assert_eq!(verify(&authority, &forged, NOW), Err(TokenError::Tag));
        for broken in
            ["", ":", "::", "a:1:b", &format!("{a}:x:{tag}"), &format!("{a}:1:{tag}:"), &a.repeat(99)]
        {
            assert_eq!(verify(&authority, broken, NOW), Err(TokenError::Form), "{broken}");
        }
        assert_eq!(authority.verify(None, NOW).err(), Some(TokenError::Missing));
        let restarted = Authority::new().unwrap();
        assert_eq!(verify(&restarted, &token(&session), NOW), Err(TokenError::Tag));
    }
}
