//! Who may call the agent: the bearer token check that stands before every route, known or not.
//! Holds only the SHA-256 of the token, so a comparison in constant time never sees its length.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use orama_actors::facts::{ApiToken, Facts, Scope};
use orama_protocol::ErrorBody;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoToken,
    WrongToken,
    /// The token is good for reading, and the volume has not vouched for it yet.
    NotOpen,
}

impl Refusal {
    pub fn answer(self) -> HttpResponse {
        let (mut answer, error) = match self {
            Self::NoToken => {
                (HttpResponse::Unauthorized(), "no bearer token: send `Authorization: Bearer <agent token>`")
            }
            Self::WrongToken => (HttpResponse::Unauthorized(), "the bearer token is not this node's"),
            Self::NotOpen => (
                HttpResponse::ServiceUnavailable(),
                "the volume is not open: only status, health and logs are answered until then",
            ),
        };
        if self != Self::NotOpen {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        answer.json(ErrorBody { error: error.into() })
    }
}

/// Lets a request in, or gives the answer that refuses it.
#[derive(Clone)]
pub struct Gate {
    facts: Facts,
}

impl Gate {
    /// The token that counts is the one that the facts name at the time of a request.
    pub fn new(facts: Facts) -> Self {
        Self { facts }
    }

    /// The scope of `request`, or the answer that refuses it.
    pub fn admit(&self, request: &HttpRequest) -> Result<Scope, Refusal> {
        admit(request, self.facts.node().api_token)
    }
    /// As [`Gate::admit`], and refuses a token that the open volume has not vouched for yet.
    pub fn admit_change(&self, request: &HttpRequest) -> Result<(), Refusal> {
        permit_change(self.admit(request)?)
    }
}

fn admit(request: &HttpRequest, accepted: Option<ApiToken>) -> Result<Scope, Refusal> {
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .map(|token| <[u8; 32]>::from(Sha256::digest(token)));
    match (bearer, accepted) {
        (Some(given), Some(token)) if bool::from(given.ct_eq(&token.digest)) => Ok(token.scope),
        (None, _) => Err(Refusal::NoToken),
        (Some(_), _) => Err(Refusal::WrongToken),
    }
}

fn permit_change(scope: Scope) -> Result<(), Refusal> {
    match scope {
        Scope::Full => Ok(()),
        Scope::ReadOnly => Err(Refusal::NotOpen),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn token(text: &str, scope: Scope) -> Option<ApiToken> {
        Some(ApiToken { digest: Sha256::digest(text).into(), scope })
    }

    fn check(accepted: Option<ApiToken>, authorization: Option<&str>, expect: Result<Scope, u16>) {
        let mut request = TestRequest::get();
        if let Some(value) = authorization {
            request = request.insert_header((header::AUTHORIZATION, value));
        }
        let got =
            admit(&request.to_http_request(), accepted).map_err(|refusal| refusal.answer().status().as_u16());
        assert_eq!(got, expect, "{authorization:?}");
    }

    #[test]
    fn only_the_accepted_token_is_let_in() {
        check(None, Some("Bearer "), Err(401));
        check(None, Some("Bearer abc"), Err(401));
        check(token("abc", Scope::ReadOnly), Some("Bearer abc"), Ok(Scope::ReadOnly));
        check(token("abc", Scope::Full), Some("Bearer abc"), Ok(Scope::Full));
        for wrong in [None, Some("Bearer ab"), Some("bearer abc"), Some("Basic abc"), Some("Bearer abc ")] {
            check(token("abc", Scope::Full), wrong, Err(401));
        }
    }

    #[test]
    fn nothing_is_changed_before_the_volume_is_open() {
        assert_eq!(permit_change(Scope::ReadOnly).unwrap_err().answer().status().as_u16(), 503);
        assert!(permit_change(Scope::Full).is_ok());
    }
}
